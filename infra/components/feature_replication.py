"""Replication of features, AWS to Google: the table's stream, one function, the other table."""

from dataclasses import dataclass

import pulumi

from functions.settings import Site
from infra.components.artifact_access import Access
from infra.components.artifact_store import AwsArtifactStore
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.feature_store import AwsFeatureStore, GoogleFeatureStore
from infra.components.function_settings import FunctionSettings
from infra.naming import PARKED, RECONCILE, Names
from infra.rights import Statement

APPLY_SECONDS = 60
APPLY_MEMORY_MB = 1024


@dataclass(frozen=True, kw_only=True)
class FeatureReplicationArgs:
    """The two stores, where rows are parked that no retry can apply, and what all functions share."""

    names: Names
    source_store: AwsFeatureStore
    target_store: GoogleFeatureStore
    parking_store: AwsArtifactStore
    shared: FunctionSettings
    protect: bool


class FeatureReplication(pulumi.ComponentResource):
    """The function that applies what the stream brings, with its rights on both clouds."""

    def __init__(self, name: str, args: FeatureReplicationArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:Features", name, None, opts)
        names, shared = args.names, args.shared
        purpose = "features-apply"
        self.apply = AwsFunction(
            f"{name}-apply",
            AwsFunctionArgs(
                function=names.named(purpose),
                handler="functions.entry_aws.features_apply",
                archive=shared.aws_archive,
                layers=shared.layers,
                environment=shared.environment[Site.AWS],
                rights=(
                    # Rows that programs unaware of versions wrote get their version at home.
                    Statement(
                        actions=["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
                        resources=[args.source_store.arn],
                    ),
                    *args.parking_store.rights(Access(writes=(PARKED, RECONCILE))),
                ),
                memory_mb=APPLY_MEMORY_MB,
                timeout_seconds=APPLY_SECONDS,
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.apply.follow({"": args.source_store.stream_arn}, names.named("features-parked-aws"), args.protect)
        args.target_store.writer(f"{name}-apply-writes", names.federated_member(names.named(purpose)))
        self.register_outputs({"apply": self.apply.arn})
