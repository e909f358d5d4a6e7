"""Replication of artifacts, AWS to Google: manifest event, plan, encode, rebuild, verify, alias.

S3 event -> queue -> plan (Lambda) -> queue -> encode (Lambda) -> packs in the other bucket and a message -> rebuild
(Cloud Run, pushed) -> manifest in the other bucket -> its event -> verify (Cloud Run) -> receipt. Every hop is a queue of
the clouds' own, with dead letters. The rights of each function are beside it: which keys it may read, which it may write.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

import functions.settings as names_of
from functions.settings import Site
from infra.components.artifact_store import AwsArtifactStore, GoogleArtifactStore
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.aws_queue import AwsQueue, AwsQueueArgs
from infra.components.function_settings import FunctionSettings
from infra.components.google_function import GoogleFunction, GoogleFunctionArgs
from infra.components.google_topic import GooglePush, GooglePushArgs, GoogleTopic, GoogleTopicArgs
from infra.naming import ALIASES, MANIFESTS, MODELS, PACKS, PARTS, PENDING, RECEIPTS, TRANSFERS, Names
from infra.rights import Statement

READ = "roles/storage.objectViewer"
# Creating with a precondition needs the right to overwrite, or the answer to a lost race is a refusal.
WRITE = "roles/storage.objectUser"

PLAN_SECONDS = 60
ENCODE_SECONDS = 300
# Deliveries before a message is dead. An alias waits for its version's receipt by being delivered again.
MAX_RECEIVES = 50
PLAN_MEMORY_MB = 512
# A chunk of 64 MiB, its encoded form and the SDKs fit in, and this much memory brings a whole CPU.
ENCODE_MEMORY_MB = 1769
ENCODERS = 50
PLANNERS = 5
REBUILD_MEMORY = "1Gi"
# A function with an event trigger ends after 540 s at most; one that is pushed to must answer before Pub/Sub's 600 s.
FUNCTION_SECONDS = 540
REBUILDERS = 50
VERIFIERS = 10


class ArtifactQueues(pulumi.ComponentResource):
    """The queues and topics of the path, apart from it: the stores need them to send their events."""

    def __init__(self, name: str, names: Names, shared: FunctionSettings, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:ArtifactQueues", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.events = AwsQueue(
            f"{name}-events",
            AwsQueueArgs(
                queue=names.named("artifact-events"),
                visibility_seconds=shared.visibility_seconds(PLAN_SECONDS),
                max_receives=MAX_RECEIVES,
                account=names.aws_account,
                bucket=names.artifact_bucket(Site.AWS),
            ),
            child,
        )
        self.jobs = AwsQueue(
            f"{name}-jobs",
            AwsQueueArgs(
                queue=names.named("artifact-jobs"),
                visibility_seconds=shared.visibility_seconds(ENCODE_SECONDS),
                max_receives=MAX_RECEIVES,
                account=names.aws_account,
            ),
            child,
        )
        self.arrivals = GoogleTopic(
            f"{name}-arrivals",
            GoogleTopicArgs(
                topic=names.named("artifact-events"),
                publishers={"storage": names.service_agent("gs-project-accounts")},
            ),
            child,
        )
        self.dead = GoogleTopic(
            f"{name}-dead",
            GoogleTopicArgs(
                topic=names.named("artifact-dead"), publishers={"pubsub": names.service_agent("gcp-sa-pubsub")}
            ),
            child,
        )
        self.rebuild = GoogleTopic(
            f"{name}-rebuild",
            GoogleTopicArgs(
                topic=names.named("artifact-rebuild"),
                publishers={"encode": names.federated_member(names.named("artifact-encode"))},
            ),
            child,
        )
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class ArtifactReplicationArgs:
    """The two stores, the queues between them, and what all functions share."""

    names: Names
    project: str
    location: str
    queues: ArtifactQueues
    source_store: AwsArtifactStore
    target_store: GoogleArtifactStore
    shared: FunctionSettings


class ArtifactReplication(pulumi.ComponentResource):
    """The four functions of the path, each with its rights on both clouds."""

    def __init__(self, name: str, args: ArtifactReplicationArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:Artifacts", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        self.plan = self._plan()
        self.encode = self._encode()
        self.rebuild = self._rebuild()
        self.verify = self._verify()
        self.register_outputs({"plan": self.plan.arn, "encode": self.encode.arn, "rebuild": self.rebuild.uri})

    def _plan(self) -> AwsFunction:
        args, queues = self._args, self._args.queues
        plan = self._aws_function(
            "plan",
            (*queues.events.consumer(), queues.jobs.producer(), *self._read((MANIFESTS, ALIASES))),
            PLAN_MEMORY_MB,
            PLAN_SECONDS,
        )
        plan.consume(queues.events, batch_size=10, concurrency=PLANNERS)
        member = args.names.federated_member(args.names.named("artifact-plan"))
        self._grant("plan-reads", member, READ, (MANIFESTS, RECEIPTS))
        self._grant("plan-writes", member, WRITE, (ALIASES, PENDING))
        self._list("plan-lists", member)
        return plan

    def _encode(self) -> AwsFunction:
        args, queues = self._args, self._args.queues
        encode = self._aws_function(
            "encode",
            (*queues.jobs.consumer(), *self._read((MODELS,))),
            ENCODE_MEMORY_MB,
            ENCODE_SECONDS,
        )
        encode.consume(queues.jobs, batch_size=1, concurrency=ENCODERS)
        member = args.names.federated_member(args.names.named("artifact-encode"))
        self._grant("encode-writes", member, WRITE, (PACKS,))
        return encode

    def _rebuild(self) -> GoogleFunction:
        args, queues = self._args, self._args.queues
        rebuild = self._google_function("rebuild", REBUILDERS, events=None)
        rebuild.invoked_by("push", rebuild.member)
        GooglePush(
            f"{self._name}-rebuild-push",
            GooglePushArgs(
                subscription=args.names.named("artifact-rebuild"),
                topic=queues.rebuild,
                dead=queues.dead,
                endpoint=rebuild.uri,
                caller=rebuild.email,
                service_agent=args.names.service_agent("gcp-sa-pubsub"),
            ),
            self._child,
        )
        # It deletes what it has used up: packs, parts and the pending manifest.
        self._grant("rebuild-writes", rebuild.member, WRITE, (PACKS, PENDING, PARTS, MODELS, MANIFESTS, TRANSFERS))
        self._list("rebuild-lists", rebuild.member)
        self._publish_dead("rebuild", rebuild.member)
        return rebuild

    def _verify(self) -> GoogleFunction:
        verify = self._google_function("verify", VERIFIERS, events=self._args.queues.arrivals)
        # The transfer's record tells what crossed, which the receipt carries on.
        self._grant("verify-reads", verify.member, READ, (MODELS, MANIFESTS, TRANSFERS))
        self._grant("verify-writes", verify.member, WRITE, (RECEIPTS,))
        self._list("verify-lists", verify.member)
        self._publish_dead("verify", verify.member)
        return verify

    def _aws_function(
        self, step: str, rights: Sequence[Statement], memory_mb: int, timeout_seconds: int
    ) -> AwsFunction:
        names, shared = self._args.names, self._args.shared
        return AwsFunction(
            f"{self._name}-{step}",
            AwsFunctionArgs(
                function=names.named(f"artifact-{step}"),
                handler=f"functions.entry_aws.artifact_{step}",
                archive=shared.aws_archive,
                layers=shared.layers,
                environment={
                    **shared.environment[Site.AWS],
                    names_of.ARTIFACT_JOBS_QUEUE: self._args.queues.jobs.url,
                    names_of.REBUILD_TOPIC: names.topic("artifact-rebuild"),
                },
                rights=rights,
                memory_mb=memory_mb,
                timeout_seconds=shared.timeout_seconds(timeout_seconds),
            ),
            self._child,
        )

    def _google_function(self, step: str, max_instances: int, events: GoogleTopic | None) -> GoogleFunction:
        args, names = self._args, self._args.names
        return GoogleFunction(
            f"{self._name}-{step}",
            GoogleFunctionArgs(
                project=args.project,
                location=args.location,
                function=names.named(f"artifact-{step}"),
                entry_point=f"artifact_{step}",
                account=names.service_account(step),
                source=args.shared.source,
                environment={
                    **args.shared.environment[Site.GCP],
                    names_of.REBUILD_TOPIC: names.topic("artifact-rebuild"),
                    names_of.DEAD_TOPIC: names.topic("artifact-dead"),
                },
                memory=REBUILD_MEMORY,
                timeout_seconds=FUNCTION_SECONDS,
                max_instances=max_instances,
                events=events,
            ),
            self._child,
        )

    def _read(self, prefixes: Sequence[str]) -> Sequence[Statement]:
        return self._args.source_store.reader(prefixes)

    def _grant(self, name: str, member: pulumi.Input[str], role: str, prefixes: Sequence[str]) -> None:
        """Give a role on the objects of the target store whose names begin with one of the prefixes."""
        self._args.target_store.grant(f"{self._name}-{name}", member, role, prefixes)

    def _list(self, name: str, member: pulumi.Input[str]) -> None:
        self._args.target_store.grant_list(f"{self._name}-{name}", member)

    def _publish_dead(self, name: str, member: pulumi.Input[str]) -> None:
        self._args.queues.dead.published_by(f"{self._name}-dead-{name}", member)
