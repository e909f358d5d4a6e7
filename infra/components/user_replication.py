"""Replication of user data: Aurora's outbox to Spanner by a function, Spanner's change stream to Aurora by a job and another."""

import hashlib
from dataclasses import dataclass

import pulumi
from pulumi_aws import lambda_
from pulumi_gcp import storage

import functions.settings as names_of
from functions.settings import Site
from functions.userdata.schema import CHANGE_STREAM
from infra.archives import FUNCTIONS
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.change_job import ChangeJob, ChangeJobArgs
from infra.components.federation import AwsRoleForGoogle, AwsRoleForGoogleArgs
from infra.components.function_settings import FunctionSettings
from infra.components.google_function import GoogleFunction, GoogleFunctionArgs
from infra.components.google_topic import GooglePush, GooglePushArgs, GoogleTopic, GoogleTopicArgs
from infra.components.schedules import AwsSchedule, AwsScheduleArgs
from infra.components.user_database import DATABASE, AwsUserDatabase, GoogleUserDatabase
from infra.naming import Names
from infra.protection import holding_data
from infra.settings import DataflowWorkers

TEMPLATE = "Spanner_Change_Streams_to_PubSub"
DRAIN = "userdata-drain"
APPLY = "userdata-apply"
ROLE = "userdata-from-gcp"

DRAIN_SECONDS = 300
DRAIN_MEMORY_MB = 1024
# Two that drain at once do each other's work; the second is for the moment when one ends.
DRAINS_AT_ONCE = 2
# The net under the database's own calls.
DRAIN_RATE = "rate(1 minute)"
APPLY_SECONDS = 60
APPLY_MEMORY = "1Gi"
APPLY_CPU = "1"
APPLY_CONCURRENCY = 16
APPLY_INSTANCES = 20
# While AWS is away every message fails, and none of them is dead for that.
APPLY_ATTEMPTS = 100
JOB_FILE_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class UserReplicationArgs:
    """The two databases, and what all functions share."""

    names: Names
    project: str
    location: str
    aws_region: str
    home: AwsUserDatabase
    far: GoogleUserDatabase
    shared: FunctionSettings
    workers: DataflowWorkers
    subnet: pulumi.Input[str]
    protect: bool


class UserReplication(pulumi.ComponentResource):
    """Both directions: the drain with its callers, the job with its topic, the function that applies."""

    def __init__(self, name: str, args: UserReplicationArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:UserData", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        # As functions/settings.py reads them. The secret is named, its value is in nobody's hands here.
        self.databases = {
            Site.AWS.value: {"cluster": args.home.arn, "secret": args.home.secret_arn, "database": DATABASE},
            Site.GCP.value: {"project": args.project, "instance": args.far.instance, "database": args.far.database},
        }
        self._databases = pulumi.Output.json_dumps(self.databases, sort_keys=True)
        self.drain = self._drain()
        self.apply = self._apply()
        self._way_back()
        self.register_outputs({"drain": self.drain.arn, "apply": self.apply.uri})

    def _drain(self) -> AwsFunction:
        args, names, name = self._args, self._args.names, self._name
        function = names.named(DRAIN)
        drain = AwsFunction(
            f"{name}-drain",
            AwsFunctionArgs(
                function=function,
                handler="functions.entry_aws.userdata_drain",
                archive=args.shared.aws_archive,
                layers=args.shared.layers,
                environment={**args.shared.environment[Site.AWS], names_of.USER_DATABASES: self._databases},
                rights=args.home.writer(),
                memory_mb=DRAIN_MEMORY_MB,
                timeout_seconds=DRAIN_SECONDS,
                concurrency=DRAINS_AT_ONCE,
            ),
            self._child,
        )
        args.far.writer(f"{name}-drain-writes", names.federated_member(function))
        args.home.calls(function, drain.arn)
        lambda_.Invocation(
            f"{name}-migrate",
            function_name=drain.function,
            input='{"action": "migrate"}',
            # A changed migration is another invocation; the same ones run nothing.
            triggers={"migrations": _migrations()},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[drain, args.home.instance]),
        )
        AwsSchedule(
            f"{name}-clock",
            AwsScheduleArgs(schedule=function, expression=DRAIN_RATE, function=drain),
            self._child,
        )
        return drain

    def _apply(self) -> GoogleFunction:
        args, names, name = self._args, self._args.names, self._name
        apply = GoogleFunction(
            f"{name}-apply",
            GoogleFunctionArgs(
                project=args.project,
                location=args.location,
                function=names.named(APPLY),
                entry_point="userdata_apply",
                account=names.service_account("userdata"),
                source=args.shared.source,
                environment={
                    **args.shared.environment[Site.GCP],
                    names_of.USER_DATABASES: self._databases,
                    names_of.DEAD_TOPIC: names.topic("userdata-dead"),
                    names_of.AWS_ROLE: names.role_arn(names.named(ROLE)),
                    "AWS_DEFAULT_REGION": args.aws_region,
                },
                memory=APPLY_MEMORY,
                cpu=APPLY_CPU,
                concurrency=APPLY_CONCURRENCY,
                timeout_seconds=args.shared.timeout_seconds(APPLY_SECONDS),
                max_instances=APPLY_INSTANCES,
            ),
            self._child,
        )
        apply.invoked_by("push", apply.member)
        args.far.writer(f"{name}-apply-adopts", apply.member)
        AwsRoleForGoogle(
            f"{name}-on-aws",
            AwsRoleForGoogleArgs(role=names.named(ROLE), account_id=apply.unique_id, rights=args.home.writer()),
            self._child,
        )
        return apply

    def _way_back(self) -> None:
        args, names, name = self._args, self._args.names, self._name
        agent = names.service_agent("gcp-sa-pubsub")
        changes = GoogleTopic(f"{name}-changes", GoogleTopicArgs(topic=names.named("userdata-changes")), self._child)
        dead = GoogleTopic(
            f"{name}-dead",
            GoogleTopicArgs(
                topic=names.named("userdata-dead"), publishers={"pubsub": agent, "apply": self.apply.member}
            ),
            self._child,
        )
        GooglePush(
            f"{name}-push",
            GooglePushArgs(
                subscription=names.named(APPLY),
                topic=changes,
                dead=dead,
                endpoint=self.apply.uri,
                caller=self.apply.email,
                service_agent=agent,
                answer_seconds=args.shared.timeout_seconds(APPLY_SECONDS),
                attempts=APPLY_ATTEMPTS,
                longest_backoff_seconds=args.shared.backoff_seconds,
            ),
            self._child,
        )
        self._job(changes)

    def _job(self, changes: GoogleTopic) -> None:
        args, names, name = self._args, self._args.names, self._name
        job = ChangeJob(
            f"{name}-job",
            ChangeJobArgs(
                job=names.named("userdata-changes"),
                account=names.service_account("userjob"),
                title="Tells changes of user data",
                project=args.project,
                location=args.location,
                workers=args.workers,
                subnet=args.subnet,
                changes=changes,
            ),
            self._child,
        )
        bucket = storage.Bucket(
            f"{name}-job-bucket",
            name=names.named("userdata-job-gcp"),
            location=args.location.upper(),
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning={"enabled": True},
            lifecycle_rules=[{"action": {"type": "Delete"}, "condition": {"age": JOB_FILE_DAYS}}],
            force_destroy=not args.protect,
            opts=holding_data(self, args.protect),
        )
        grants: list[pulumi.Resource] = [
            storage.BucketIAMMember(
                f"{name}-job-files",
                bucket=bucket.name,
                role="roles/storage.objectAdmin",
                member=job.member,
                opts=self._child,
            ),
            args.far.writer(f"{name}-job-reads", job.member),
            args.far.writer(f"{name}-job-keeps", job.member, metadata=True),
        ]
        job.run(
            TEMPLATE,
            {
                "spannerInstanceId": args.far.instance,
                "spannerDatabase": args.far.database,
                "spannerMetadataInstanceId": args.far.instance,
                "spannerMetadataDatabase": args.far.metadata,
                "spannerChangeStreamName": CHANGE_STREAM,
                "pubsubTopic": changes.topic,
                "outputDataFormat": "JSON",
            },
            pulumi.Output.concat("gs://", bucket.name),
            after=grants,
        )


def _migrations() -> str:
    """Return a digest of the database's migrations."""
    digest = hashlib.sha256()
    for path in sorted((FUNCTIONS / "userdata" / "migrations").glob("*.sql")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
