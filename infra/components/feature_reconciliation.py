"""Reconciliation of features: on each site a clock, a function that surveys the own table, and the rights to mend both.

Either function asks itself whether a comparison is due: at the beginning, once a day, and soon after a path was away for longer
than its stream keeps changes. Whoever finds both surveys done compares them and repairs what differs.
"""

from dataclasses import dataclass

import pulumi

import functions.settings as names_of
from functions.settings import Site
from infra.components.artifact_access import Access
from infra.components.artifact_store import AwsArtifactStore, GoogleArtifactStore
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.feature_store import AwsFeatureStore, GoogleFeatureStore
from infra.components.federation import AwsRoleForGoogle, AwsRoleForGoogleArgs
from infra.components.function_settings import FunctionSettings
from infra.components.google_function import GoogleFunction, GoogleFunctionArgs
from infra.components.schedules import AwsSchedule, AwsScheduleArgs, GoogleSchedule, GoogleScheduleArgs
from infra.naming import PARKED, RECONCILE, Names
from infra.rights import Statement

PURPOSE = "features-reconcile"
ROLE = "features-reconcile-from-gcp"
# How soon a comparison that became due begins; a turn that has nothing to do reads four small objects.
CLOCK_MINUTES = 5
# The most that Lambda gives. A turn ends before it and the next one goes on.
AWS_SECONDS = 900
# A turn on Google ends after twenty minutes; its clock waits for thirty at most (Cloud Scheduler, attempt deadline).
GOOGLE_SECONDS = 1_500
# A share's keys and digests are held in memory: about 150 B a row.
AWS_MEMORY_MB = 3_008
GOOGLE_MEMORY = "4Gi"
GOOGLE_CPU = "1"
# Two turns of one site at once would read the same shares twice.
AT_ONCE = 1

_TABLE_ACTIONS = (
    "dynamodb:Scan",
    "dynamodb:BatchGetItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
)
_KEEPS = Access(writes=(RECONCILE, PARKED))
_READS = Access(reads=(RECONCILE,))


@dataclass(frozen=True, kw_only=True)
class FeatureReconciliationArgs:
    """The tables that are compared, the buckets that hold what each site found, and what all functions share."""

    names: Names
    project: str
    location: str
    aws_region: str
    aws_table: AwsFeatureStore
    google_table: GoogleFeatureStore
    aws_files: AwsArtifactStore
    google_files: GoogleArtifactStore
    shared: FunctionSettings


class FeatureReconciliation(pulumi.ComponentResource):
    """The two functions with their clocks."""

    def __init__(self, name: str, args: FeatureReconciliationArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:FeatureReconciliation", name, None, opts)
        self._name = name
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        self._on_aws()
        self._on_google()
        self.register_outputs({})

    def _on_aws(self) -> None:
        args, names = self._args, self._args.names
        function = AwsFunction(
            f"{self._name}-aws",
            AwsFunctionArgs(
                function=names.named(PURPOSE),
                handler="functions.entry_aws.features_reconcile",
                archive=args.shared.aws_archive,
                layers=args.shared.layers,
                environment=args.shared.environment[Site.AWS],
                rights=(self._table(), *args.aws_files.rights(_KEEPS)),
                memory_mb=AWS_MEMORY_MB,
                timeout_seconds=AWS_SECONDS,
                concurrency=AT_ONCE,
            ),
            self._child,
        )
        AwsSchedule(
            f"{self._name}-aws-clock",
            AwsScheduleArgs(
                schedule=names.named(PURPOSE), expression=f"rate({CLOCK_MINUTES} minutes)", function=function
            ),
            self._child,
        )
        member = names.federated_member(names.named(PURPOSE))
        args.google_table.writer(f"{self._name}-aws-mends", member)
        args.google_files.grant(f"{self._name}-aws-reads", member, "roles/storage.objectViewer", (RECONCILE,))
        args.google_files.grant_list(f"{self._name}-aws-lists", member)

    def _on_google(self) -> None:
        args, names = self._args, self._args.names
        function = GoogleFunction(
            f"{self._name}-gcp",
            GoogleFunctionArgs(
                project=args.project,
                location=args.location,
                function=names.named(PURPOSE),
                entry_point="features_reconcile",
                account=names.service_account("reconcile"),
                source=args.shared.source,
                environment={
                    **args.shared.environment[Site.GCP],
                    names_of.AWS_ROLE: names.role_arn(names.named(ROLE)),
                    "AWS_DEFAULT_REGION": args.aws_region,
                },
                memory=GOOGLE_MEMORY,
                cpu=GOOGLE_CPU,
                timeout_seconds=GOOGLE_SECONDS,
                max_instances=AT_ONCE,
            ),
            self._child,
        )
        GoogleSchedule(
            f"{self._name}-gcp-clock",
            GoogleScheduleArgs(
                schedule=names.named(PURPOSE),
                cron=f"*/{CLOCK_MINUTES} * * * *",
                project=args.project,
                location=args.location,
                function=function,
                deadline_seconds=GOOGLE_SECONDS,
            ),
            self._child,
        )
        args.google_table.writer(f"{self._name}-gcp-mends", function.member)
        # Creating with a precondition needs the right to overwrite, or the answer to a lost race is a refusal.
        args.google_files.grant(
            f"{self._name}-gcp-writes", function.member, "roles/storage.objectUser", (RECONCILE, PARKED)
        )
        args.google_files.grant_list(f"{self._name}-gcp-lists", function.member)
        AwsRoleForGoogle(
            f"{self._name}-gcp-on-aws",
            AwsRoleForGoogleArgs(
                role=names.named(ROLE),
                account_id=function.unique_id,
                rights=(self._table(), *args.aws_files.rights(_READS)),
            ),
            self._child,
        )

    def _table(self) -> Statement:
        return Statement(actions=_TABLE_ACTIONS, resources=[self._args.aws_table.arn])
