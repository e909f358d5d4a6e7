"""Replication of Feast's online store, AWS to Google: streams of existing tables, one function, tables as Feast reads them there.

The DynamoDB tables are Feast's own and stay so: the program only reads their streams, and stamps rows with a version that Feast
does not read. The Bigtable tables are made here, under the names that Feast's Bigtable store computes for its views.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_gcp import bigtable

import functions.settings as names_of
from functions.features.feast.layout import FAMILY, FeastView
from functions.settings import Site
from infra.components.artifact_access import Access
from infra.components.artifact_store import AwsArtifactStore
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.feature_store import GoogleFeatureStore
from infra.components.function_settings import FunctionSettings
from infra.naming import PARKED, Names
from infra.protection import holding_data
from infra.rights import Statement
from infra.settings import FeastTable

PURPOSE = "feast-apply"
# A batch takes a second; the rest is for the first copy of a table that is there already.
SECONDS = 900
MEMORY_MB = 1024


@dataclass(frozen=True, kw_only=True)
class FeastReplicationArgs:
    """Feast's tables by their names, where their rows go, and what all functions share."""

    names: Names
    tables: Mapping[str, FeastTable]
    target_store: GoogleFeatureStore
    parking_store: AwsArtifactStore
    shared: FunctionSettings
    protect: bool


class FeastReplication(pulumi.ComponentResource):
    """The function that follows Feast's tables, with its rights on both clouds."""

    def __init__(self, name: str, args: FeastReplicationArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:Feast", name, None, opts)
        names, shared, child = args.names, args.shared, pulumi.ResourceOptions(parent=self)
        views = {
            table: {
                "project": each.project,
                "view": each.view,
                "entities": list(each.entities),
                "features": list(each.features),
            }
            for table, each in args.tables.items()
        }
        self.apply = AwsFunction(
            f"{name}-apply",
            AwsFunctionArgs(
                function=names.named(PURPOSE),
                handler="functions.entry_aws.feast_apply",
                archive=shared.aws_archive,
                layers=shared.layers,
                environment={
                    **shared.environment[Site.AWS],
                    names_of.FEAST_VIEWS: pulumi.Output.json_dumps(views, sort_keys=True),
                },
                rights=(
                    # Feast knows no versions: each row that it wrote gets one at home.
                    Statement(
                        actions=["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:UpdateItem", "dynamodb:Scan"],
                        resources=[each.table_arn for each in args.tables.values()],
                    ),
                    *args.parking_store.rights(Access(writes=(PARKED,))),
                ),
                memory_mb=MEMORY_MB,
                timeout_seconds=shared.timeout_seconds(SECONDS),
            ),
            child,
        )
        self.apply.follow(
            {table: each.stream_arn for table, each in args.tables.items()},
            names.named("feast-parked-aws"),
            args.protect,
        )
        # Views of the same entities share a table.
        for table in sorted({_view(each).bigtable_table for each in args.tables.values()}):
            made = bigtable.Table(
                f"{name}-{table}",
                name=table,
                instance_name=args.target_store.instance,
                column_families=[{"family": FAMILY}],
                deletion_protection="PROTECTED" if args.protect else "UNPROTECTED",
                opts=holding_data(self, args.protect),
            )
            bigtable.GCPolicy(
                f"{name}-{table}-versions",
                instance_name=args.target_store.instance,
                table=made.name,
                column_family=FAMILY,
                gc_rules='{"rules":[{"max_version":1}]}',
                opts=child,
            )
            bigtable.TableIamMember(
                f"{name}-{table}-writes",
                instance_name=args.target_store.instance,
                table=made.name,
                role="roles/bigtable.user",
                member=names.federated_member(names.named(PURPOSE)),
                opts=child,
            )
        self.register_outputs({"apply": self.apply.arn})


def _view(table: FeastTable) -> FeastView:
    return FeastView(table.project, table.view, table.entities, table.features)
