"""Feature stores: one row an entity, one envelope a row, and the stream of changes each side sends to the other."""

from dataclasses import dataclass

import pulumi
from pulumi_aws import dynamodb
from pulumi_gcp import bigtable

from functions.settings import FEATURE_EXPIRES, FEATURE_FAMILY, FEATURE_KEY
from infra.naming import FEATURE_TABLE, REPLICATION_PROFILE
from infra.protection import holding_data

# The longest that Bigtable keeps changes (Bigtable change streams overview): the time that the other side may be away.
CHANGE_RETENTION = "168h0m0s"


@dataclass(frozen=True, kw_only=True)
class AwsFeatureStoreArgs:
    """The table's name, and whether it is protected."""

    table: str
    protect: bool


class AwsFeatureStore(pulumi.ComponentResource):
    """A DynamoDB table on demand, with a stream of old and new images, expiry, backups to any second, and encryption."""

    def __init__(self, name: str, args: AwsFeatureStoreArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:features:AwsFeatureStore", name, None, opts)
        table = dynamodb.Table(
            f"{name}-table",
            name=args.table,
            billing_mode="PAY_PER_REQUEST",
            hash_key=FEATURE_KEY,
            attributes=[{"name": FEATURE_KEY, "type": "S"}],
            stream_enabled=True,
            stream_view_type="NEW_AND_OLD_IMAGES",
            ttl={"attribute_name": FEATURE_EXPIRES, "enabled": True},
            point_in_time_recovery={"enabled": True},
            server_side_encryption={"enabled": True},
            deletion_protection_enabled=args.protect,
            opts=holding_data(self, args.protect),
        )
        self.table: pulumi.Output[str] = table.name
        self.arn: pulumi.Output[str] = table.arn
        self.stream_arn: pulumi.Output[str] = table.stream_arn
        self.register_outputs({"table": self.table, "arn": self.arn, "streamArn": self.stream_arn})


@dataclass(frozen=True, kw_only=True)
class GoogleFeatureStoreArgs:
    """Where the instance's one cluster is and how large."""

    instance: str
    cluster: str
    zone: str
    nodes: int
    protect: bool


class GoogleFeatureStore(pulumi.ComponentResource):
    """A Bigtable table that keeps one version a cell and seven days of changes, and the profile that writes to it.

    The profile routes to one cluster and allows single-row transactions: CheckAndMutateRow needs both.
    """

    def __init__(self, name: str, args: GoogleFeatureStoreArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:features:GoogleFeatureStore", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        instance = bigtable.Instance(
            f"{name}-instance",
            name=args.instance,
            clusters=[
                {
                    "cluster_id": args.cluster,
                    "zone": args.zone,
                    "num_nodes": args.nodes,
                    "storage_type": "SSD",
                }
            ],
            deletion_protection=args.protect,
            opts=holding_data(self, args.protect),
        )
        table = bigtable.Table(
            f"{name}-table",
            name=FEATURE_TABLE,
            instance_name=instance.name,
            column_families=[{"family": FEATURE_FAMILY}],
            change_stream_retention=CHANGE_RETENTION,
            deletion_protection="PROTECTED" if args.protect else "UNPROTECTED",
            opts=holding_data(self, args.protect),
        )
        bigtable.GCPolicy(
            f"{name}-versions",
            instance_name=instance.name,
            table=table.name,
            column_family=FEATURE_FAMILY,
            gc_rules='{"rules":[{"max_version":1}]}',
            opts=child,
        )
        bigtable.AppProfile(
            f"{name}-profile",
            instance=instance.name,
            app_profile_id=REPLICATION_PROFILE,
            description="Writes of features, one cluster, single-row transactions",
            single_cluster_routing={"cluster_id": args.cluster, "allow_transactional_writes": True},
            ignore_warnings=True,
            opts=child,
        )
        self.instance: pulumi.Output[str] = instance.name
        self.table: pulumi.Output[str] = table.name
        self.register_outputs({"instance": self.instance, "table": self.table})

    def writer(self, name: str, member: pulumi.Input[str]) -> bigtable.TableIamMember:
        """Let a member read and write the rows of the table."""
        return bigtable.TableIamMember(
            name,
            instance_name=self.instance,
            table=self.table,
            role="roles/bigtable.user",
            member=member,
            opts=pulumi.ResourceOptions(parent=self),
        )
