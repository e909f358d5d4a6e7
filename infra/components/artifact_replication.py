"""Replication of artifacts, both ways alike: manifest event, plan, encode, rebuild, alias.

Event of the bucket -> plan -> jobs -> encode -> packs in the other site's bucket and a message to its queue -> rebuild there ->
manifest and receipt. Every hop is a queue of the clouds' own, with dead letters. The same steps stand on both sites, as
Lambda and as Cloud Run functions; what each may touch is one table (artifact_access.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import secretmanager

import functions.settings as names_of
from functions.settings import Site
from infra.components.artifact_access import DUTIES, Access, Duties, Queue, Step
from infra.components.artifact_queues import (
    ENCODE_SECONDS,
    INBOX_SECONDS,
    PLAN_SECONDS,
    REBUILD_SECONDS,
    ArtifactQueues,
)
from infra.components.artifact_store import AwsArtifactStore, GoogleArtifactStore
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.federation import AwsRoleForGoogle, AwsRoleForGoogleArgs
from infra.components.function_settings import FunctionSettings
from infra.components.google_function import GoogleFunction, GoogleFunctionArgs
from infra.components.google_topic import GooglePush, GooglePushArgs, GoogleTopic
from infra.components.schedules import AwsSchedule, AwsScheduleArgs, GoogleSchedule, GoogleScheduleArgs
from infra.components.signing_keys import SigningKeys
from infra.naming import Names
from infra.rights import Statement
from infra.settings import Retention, ThirdCopyKeys

READ = "roles/storage.objectViewer"
# Creating with a precondition needs the right to overwrite, or the answer to a lost race is a refusal.
WRITE = "roles/storage.objectUser"

# A function with an event trigger ends after 540 s at most; one that is pushed to must answer before Pub/Sub's 600 s.
FUNCTION_SECONDS = 540
# Pub/Sub's most: while the other cloud is away every message fails, and none of them is dead for that.
ATTEMPTS = 100
SWEEP_SECONDS = 300
SWEEP_MINUTES = 5
# Half of Lambda's most: a sample of versions is read back at 60 MB/s, and an audit ends before its own limit.
AUDIT_SECONDS = 480


@dataclass(frozen=True)
class _Size:
    """What a step gets: memory on either cloud, its time limit on Lambda, how many run at once, messages a call."""

    memory_mb: int
    memory: str
    seconds: int
    most: int
    batch: int


# A chunk of 64 MiB, the parent's bytes, both forms of what is encoded and the SDKs fit in; 1,769 MB bring a whole CPU on Lambda.
_SIZES: Mapping[Step, _Size] = {
    Step.PLAN: _Size(512, "512Mi", PLAN_SECONDS, 5, 10),
    Step.ENCODE: _Size(1769, "2Gi", ENCODE_SECONDS, 50, 1),
    Step.REBUILD: _Size(1769, "2Gi", REBUILD_SECONDS, 50, 1),
    Step.SWEEP: _Size(512, "512Mi", SWEEP_SECONDS, 1, 1),
    Step.INBOX: _Size(1769, "2Gi", INBOX_SECONDS, 5, 1),
    Step.AUDIT: _Size(1769, "2Gi", AUDIT_SECONDS, 1, 1),
}

# When a step that no queue feeds is called: on AWS and, in UTC, on Google. The sites' audits are apart, so that one of them works
# while the other's cloud has its bad hour.
_CLOCKS: Mapping[Step, tuple[str, str]] = {
    Step.SWEEP: (f"rate({SWEEP_MINUTES} minutes)", f"*/{SWEEP_MINUTES} * * * *"),
    Step.AUDIT: ("cron(17 3 * * ? *)", "17 15 * * *"),
}


@dataclass(frozen=True, kw_only=True)
class ArtifactReplicationArgs:
    """The two stores, the queues between them, what all functions share, the keys, and what is optional.

    `golden` is where each site's own service answers golden requests, under the certificate of `hostname`.
    """

    names: Names
    project: str
    location: str
    aws_region: str
    queues: ArtifactQueues
    aws_store: AwsArtifactStore
    google_store: GoogleArtifactStore
    shared: FunctionSettings
    keys: SigningKeys
    golden: Mapping[Site, pulumi.Output[str]]
    hostname: str
    retention: Retention | None
    third_copy_keys: ThirdCopyKeys | None


class ArtifactReplication(pulumi.ComponentResource):
    """The functions of the path on both sites, each with its rights on both clouds."""

    def __init__(self, name: str, args: ArtifactReplicationArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:Artifacts", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        self.on_aws: Mapping[Step, AwsFunction] = {step: self._aws(step) for step in Step}
        self.on_gcp: Mapping[Step, GoogleFunction] = {step: self._google(step) for step in Step}
        self.register_outputs({})

    def _aws(self, step: Step) -> AwsFunction:
        args, names, size, duties = self._args, self._args.names, _SIZES[step], DUTIES[step]
        purpose = names.named(f"artifact-{step}")
        source = {
            Step.PLAN: args.queues.events,
            Step.ENCODE: args.queues.queues[Queue.JOBS],
            Step.REBUILD: args.queues.queues[Queue.REBUILDS],
            Step.INBOX: args.queues.inbox,
        }.get(step)
        function = AwsFunction(
            f"{self._name}-{step}",
            AwsFunctionArgs(
                function=purpose,
                handler=f"functions.entry_aws.artifact_{step}",
                archive=args.shared.aws_archive,
                layers=args.shared.layers,
                environment={**args.shared.environment[Site.AWS], **self._signing(Site.AWS, step)},
                rights=(
                    *(source.consumer() if source else ()),
                    *self._aws_rights(duties.home),
                    *self._aws_sends(duties.sends_home),
                    *self._aws_third(duties),
                    *([args.keys.aws_signer()] if duties.signs else ()),
                ),
                memory_mb=size.memory_mb,
                # What a clock calls has no message that could come again before it ends, and an audit keeps a minute in reserve.
                timeout_seconds=args.shared.timeout_seconds(size.seconds) if source else size.seconds,
            ),
            self._child,
        )
        if source is not None:
            function.consume(source, batch_size=size.batch, concurrency=size.most)
        else:
            AwsSchedule(
                f"{self._name}-{step}-clock",
                AwsScheduleArgs(schedule=purpose, expression=_CLOCKS[step][0], function=function),
                self._child,
            )
        self._google_rights(f"{step}-aws", names.federated_member(purpose), duties.away, duties.sends_away)
        return function

    def _google(self, step: Step) -> GoogleFunction:
        args, names, size, duties = self._args, self._args.names, _SIZES[step], DUTIES[step]
        role = names.named(f"artifact-{step}-from-gcp")
        name = f"{self._name}-google-{step}"
        function = GoogleFunction(
            name,
            GoogleFunctionArgs(
                project=args.project,
                location=args.location,
                function=names.named(f"artifact-{step}"),
                entry_point=f"artifact_{step}",
                account=names.service_account(step),
                source=args.shared.source,
                environment={
                    **args.shared.environment[Site.GCP],
                    **self._signing(Site.GCP, step),
                    names_of.DEAD_TOPIC: names.topic("artifact-dead"),
                    **({names_of.AWS_ROLE: names.role_arn(role)} if duties.crosses else {}),
                    "AWS_DEFAULT_REGION": args.aws_region,
                },
                memory=size.memory,
                timeout_seconds=FUNCTION_SECONDS,
                max_instances=size.most,
            ),
            self._child,
        )
        topic = {
            Step.PLAN: args.queues.arrivals,
            Step.ENCODE: args.queues.topics[Queue.JOBS],
            Step.REBUILD: args.queues.topics[Queue.REBUILDS],
            Step.INBOX: args.queues.drops,
        }.get(step)
        if topic is not None:
            self._push(step, name, function, topic)
        else:
            GoogleSchedule(
                f"{name}-clock",
                GoogleScheduleArgs(
                    schedule=names.named(f"artifact-{step}"),
                    cron=_CLOCKS[step][1],
                    project=args.project,
                    location=args.location,
                    function=function,
                    deadline_seconds=size.seconds,
                ),
                self._child,
            )
        self._google_rights(f"{step}-google", function.member, duties.home, duties.sends_home)
        args.queues.dead.published_by(f"{self._name}-dead-{step}", function.member)
        self._google_third(name, function.member, duties)
        if duties.signs:
            args.keys.google_signer(f"{name}-signs", function.member)
        if duties.crosses:
            AwsRoleForGoogle(
                f"{name}-on-aws",
                AwsRoleForGoogleArgs(
                    role=role,
                    account_id=function.unique_id,
                    rights=(*self._aws_rights(duties.away), *self._aws_sends(duties.sends_away)),
                ),
                self._child,
            )
        return function

    def _signing(self, site: Site, step: Step) -> Mapping[str, pulumi.Input[str]]:
        """Return what a step is told of keys: the public ones; whoever makes statements, more."""
        args = self._args
        found: dict[str, pulumi.Input[str]] = {names_of.SIGNING_KEYS: args.keys.public}
        if DUTIES[step].signs:
            found[names_of.SIGNING_KEY] = pulumi.Output.json_dumps({site.value: args.keys.references[site]})
            found |= {
                names_of.GOLDEN_URL: pulumi.Output.json_dumps({site.value: args.golden[site]}),
                names_of.HOSTNAME: args.hostname,
            }
            if args.retention is not None:
                found[names_of.RETENTION] = args.retention.model_dump_json()
        return found

    def _push(self, step: Step, name: str, function: GoogleFunction, topic: GoogleTopic) -> None:
        args, names = self._args, self._args.names
        function.invoked_by("push", function.member)
        GooglePush(
            f"{name}-push",
            GooglePushArgs(
                subscription=names.named(f"artifact-{step}"),
                topic=topic,
                dead=args.queues.dead,
                endpoint=function.uri,
                caller=function.email,
                service_agent=names.service_agent("gcp-sa-pubsub"),
                attempts=ATTEMPTS,
                longest_backoff_seconds=args.shared.backoff_seconds,
            ),
            self._child,
        )

    def _aws_rights(self, access: Access) -> Sequence[Statement]:
        return self._args.aws_store.rights(access)

    def _aws_third(self, duties: Duties) -> Sequence[Statement]:
        keys = self._args.third_copy_keys
        if keys is None or not duties.third:
            return ()
        return (Statement(actions=["secretsmanager:GetSecretValue"], resources=[keys.aws]),)

    def _google_third(self, name: str, member: pulumi.Input[str], duties: Duties) -> None:
        keys = self._args.third_copy_keys
        if keys is not None and duties.third:
            secretmanager.SecretIamMember(
                f"{name}-third",
                secret_id=keys.gcp.split("/")[3],
                project=keys.gcp.split("/")[1],
                role="roles/secretmanager.secretAccessor",
                member=member,
                opts=self._child,
            )

    def _aws_sends(self, queues: Sequence[Queue]) -> Sequence[Statement]:
        return [self._args.queues.queues[queue].producer() for queue in queues]

    def _google_rights(self, name: str, member: pulumi.Input[str], access: Access, sends: Sequence[Queue]) -> None:
        store = self._args.google_store
        if access.reads:
            store.grant(f"{self._name}-{name}-reads", member, READ, access.reads)
        # The one role that may overwrite may delete as well: Google's is no finer.
        if writes := tuple(dict.fromkeys((*access.writes, *access.deletes))):
            store.grant(f"{self._name}-{name}-writes", member, WRITE, writes)
        if access.lists:
            store.grant_list(f"{self._name}-{name}-lists", member)
        for queue in sends:
            self._args.queues.topics[queue].published_by(f"{self._name}-{name}-sends-{queue}", member)
