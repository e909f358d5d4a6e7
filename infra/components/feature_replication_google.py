"""Replication of features, Google to AWS: the table's change stream, Google's own Dataflow template, a topic, one function.

The template tells which rows changed; the function reads them again and writes them to DynamoDB under a condition. So the
template's faults (lost values, late commit times, no order) cost nothing, and values never travel through Pub/Sub.
"""

from dataclasses import dataclass

import pulumi
from pulumi_gcp import bigtable, projects

import functions.settings as names_of
from functions.settings import Site
from infra.components.artifact_store import GoogleArtifactStore
from infra.components.change_job import ChangeJob, ChangeJobArgs
from infra.components.feature_store import AwsFeatureStore, GoogleFeatureStore
from infra.components.federation import AwsRoleForGoogle, AwsRoleForGoogleArgs
from infra.components.function_settings import FunctionSettings
from infra.components.google_function import GoogleFunction, GoogleFunctionArgs
from infra.components.google_topic import GooglePush, GooglePushArgs, GoogleTopic, GoogleTopicArgs
from infra.naming import JOBS, PARKED, RECONCILE, REPLICATION_PROFILE, Names
from infra.rights import Statement
from infra.settings import DataflowWorkers

TEMPLATE = "Bigtable_Change_Streams_to_PubSub"
PURPOSE = "features-apply"
ROLE = "features-from-gcp"

APPLY_SECONDS = 60
APPLY_MEMORY = "1Gi"
# Cloud Run takes several requests at once only with a whole CPU (Cloud Run, maximum concurrent requests).
APPLY_CPU = "1"
# A push is one message; requests that run at once in an instance share their calls to the stores.
APPLY_CONCURRENCY = 100
APPLY_INSTANCES = 40
# Pub/Sub's most: while AWS is away every message fails, and none of them is dead for that.
APPLY_ATTEMPTS = 100
# What Beam's connector calls (org.apache.beam.sdk.io.gcp.bigtable.changestreams, dao): the stream, and its metadata table.
READER_PERMISSIONS = (
    "bigtable.appProfiles.get",
    "bigtable.instances.get",
    "bigtable.tables.create",
    "bigtable.tables.get",
    "bigtable.tables.list",
    "bigtable.tables.mutateRows",
    "bigtable.tables.readRows",
    "bigtable.tables.sampleRowKeys",
    "bigtable.tables.update",
)


@dataclass(frozen=True, kw_only=True)
class GoogleFeatureReplicationArgs:
    """The two stores, where rows are parked that no retry can apply, and what the job runs on."""

    names: Names
    project: str
    location: str
    source_store: GoogleFeatureStore
    target_store: AwsFeatureStore
    parking_store: GoogleArtifactStore
    shared: FunctionSettings
    workers: DataflowWorkers
    subnet: pulumi.Input[str]
    aws_region: str


class GoogleFeatureReplication(pulumi.ComponentResource):
    """The job, its topic, and the function that applies what it tells, with their rights on both clouds."""

    def __init__(self, name: str, args: GoogleFeatureReplicationArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:GoogleFeatures", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        names = args.names
        agent = names.service_agent("gcp-sa-pubsub")
        changes = GoogleTopic(f"{name}-changes", GoogleTopicArgs(topic=names.named("features-changes")), self._child)
        dead = GoogleTopic(
            f"{name}-dead",
            GoogleTopicArgs(topic=names.named("features-dead"), publishers={"pubsub": agent}),
            self._child,
        )
        self.apply = self._apply()
        GooglePush(
            f"{name}-push",
            GooglePushArgs(
                subscription=names.named(PURPOSE),
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
        self.job: pulumi.Output[str] = self._job(changes)
        self.register_outputs({"apply": self.apply.uri, "job": self.job})

    def _apply(self) -> GoogleFunction:
        args, names, name = self._args, self._args.names, self._name
        apply = GoogleFunction(
            f"{name}-apply",
            GoogleFunctionArgs(
                project=args.project,
                location=args.location,
                function=names.named(PURPOSE),
                entry_point="features_apply",
                account=names.service_account("features"),
                source=args.shared.source,
                environment={
                    **args.shared.environment[Site.GCP],
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
        args.source_store.writer(f"{name}-apply-reads", apply.member)
        # Creating with a precondition needs the right to overwrite, or the answer to a lost race is a refusal.
        args.parking_store.grant(f"{name}-apply-parks", apply.member, "roles/storage.objectUser", (PARKED, RECONCILE))
        args.parking_store.grant_list(f"{name}-apply-lists", apply.member)
        AwsRoleForGoogle(
            f"{name}-on-aws",
            AwsRoleForGoogleArgs(
                role=names.named(ROLE),
                account_id=apply.unique_id,
                rights=[
                    Statement(
                        # Rows that a program deleted outright are looked up before their tombstone is written.
                        actions=["dynamodb:PutItem", "dynamodb:GetItem", "dynamodb:BatchGetItem"],
                        resources=[args.target_store.arn],
                    )
                ],
            ),
            self._child,
        )
        return apply

    def _job(self, changes: GoogleTopic) -> pulumi.Output[str]:
        args, names, name = self._args, self._args.names, self._name
        files, role_id = args.parking_store, names.named("features-changes").replace("-", "_")
        job = ChangeJob(
            f"{name}-job",
            ChangeJobArgs(
                job=names.named("features-changes"),
                account=names.service_account("changes"),
                title="Tells changes of features",
                project=args.project,
                location=args.location,
                workers=args.workers,
                subnet=args.subnet,
                changes=changes,
            ),
            self._child,
        )
        files.grant(f"{name}-job-writes", job.member, "roles/storage.objectUser", (JOBS,))
        files.grant_list(f"{name}-job-lists", job.member)
        reads = bigtable.InstanceIamMember(
            f"{name}-job-reads",
            instance=args.source_store.instance,
            role=f"projects/{args.project}/roles/{role_id}",
            member=job.member,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._reader_role(role_id)]),
        )
        folder = pulumi.Output.concat("gs://", files.bucket, f"/{JOBS}features")
        return job.run(
            TEMPLATE,
            {
                "bigtableReadInstanceId": args.source_store.instance,
                "bigtableReadTableId": args.source_store.table,
                "bigtableChangeStreamAppProfile": REPLICATION_PROFILE,
                "pubSubTopic": changes.topic,
                "messageFormat": "JSON",
                # With values the template takes every deletion for invalid; the function reads the rows anyway.
                "stripValues": "true",
                "dlqDirectory": pulumi.Output.concat(folder, "/dead-letters"),
            },
            folder,
            after=[reads],
        )

    def _reader_role(self, role_id: str) -> projects.IAMCustomRole:
        """Return the rights of the connector: it reads changes, and keeps its positions in a table that it makes itself.

        The ready-made role that the template's page names, administrator of Bigtable, could delete the features.
        """
        return projects.IAMCustomRole(
            f"{self._name}-reader",
            project=self._args.project,
            role_id=role_id,
            title="Reads changes of features",
            permissions=list(READER_PERMISSIONS),
            opts=self._child,
        )
