"""Databases of user data: Aurora PostgreSQL behind the RDS Data API, and Spanner with its change stream.

No password is in the program or its state: Aurora keeps its own in Secrets Manager, and callers name the secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2, iam, rds
from pulumi_gcp import spanner

from functions.userdata.schema import REFERENCE_TABLES, spanner_ddl
from infra.errors import ConfigError
from infra.protection import holding_data
from infra.rights import Statement, assumed_by, policy

DATABASE = "lifeboat"
ENGINE = rds.EngineType.AURORA_POSTGRESQL
# The Data API serves Aurora PostgreSQL from 16.1 on (Aurora user guide, Data API region and version availability).
ENGINE_VERSION = "16.6"
INSTANCE_CLASS = "db.serverless"
LEAST_CAPACITY, MOST_CAPACITY = 0.5, 16
BACKUP_DAYS = 14

# The longest that Spanner keeps old versions for reads in the past (Spanner, point-in-time recovery).
VERSION_RETENTION = "7d"
PROCESSING_UNITS = 100


@dataclass(frozen=True, kw_only=True)
class AwsUserDatabaseArgs:
    """Where the cluster is; it is reached through the Data API alone, so nothing may connect to it."""

    cluster: str
    vpc_id: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    protect: bool


class AwsUserDatabase(pulumi.ComponentResource):
    """An encrypted Aurora cluster that grows and shrinks by itself, with the Data API and a secret of its own."""

    def __init__(self, name: str, args: AwsUserDatabaseArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:userdata:AwsUserDatabase", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self._name, self._args = name, args
        subnets = rds.SubnetGroup(f"{name}-subnets", name=args.cluster, subnet_ids=list(args.subnets), opts=child)
        group = ec2.SecurityGroup(
            f"{name}-group",
            name=args.cluster,
            description="The user database: nobody connects, it calls functions over HTTPS",
            vpc_id=args.vpc_id,
            egress=[
                {
                    "protocol": "tcp",
                    "from_port": 443,
                    "to_port": 443,
                    "cidr_blocks": ["0.0.0.0/0"],
                    "description": "Lambda",
                }
            ],
            opts=child,
        )
        self._cluster = rds.Cluster(
            f"{name}-cluster",
            cluster_identifier=args.cluster,
            engine=ENGINE,
            engine_version=ENGINE_VERSION,
            database_name=DATABASE,
            master_username="lifeboat",
            manage_master_user_password=True,
            enable_http_endpoint=True,
            iam_database_authentication_enabled=True,
            storage_encrypted=True,
            serverlessv2_scaling_configuration={"min_capacity": LEAST_CAPACITY, "max_capacity": MOST_CAPACITY},
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[group.id],
            backup_retention_period=BACKUP_DAYS,
            copy_tags_to_snapshot=True,
            deletion_protection=args.protect,
            skip_final_snapshot=not args.protect,
            final_snapshot_identifier=f"{args.cluster}-last" if args.protect else None,
            opts=holding_data(self, args.protect),
        )
        self.instance = rds.ClusterInstance(
            f"{name}-instance",
            identifier=f"{args.cluster}-1",
            cluster_identifier=self._cluster.cluster_identifier,
            engine=ENGINE,
            engine_version=ENGINE_VERSION,
            instance_class=INSTANCE_CLASS,
            publicly_accessible=False,
            opts=holding_data(self, args.protect),
        )
        self.arn: pulumi.Output[str] = self._cluster.arn
        self.secret_arn: pulumi.Output[str] = self._cluster.master_user_secrets.apply(
            lambda secrets: (secrets and secrets[0].secret_arn) or ""
        )
        self.register_outputs({"arn": self.arn, "secretArn": self.secret_arn})

    def writer(self) -> Sequence[Statement]:
        """Return the rights of a function that works with the rows."""
        return (
            Statement(
                actions=[
                    "rds-data:ExecuteStatement",
                    "rds-data:BeginTransaction",
                    "rds-data:CommitTransaction",
                    "rds-data:RollbackTransaction",
                ],
                resources=[self.arn],
            ),
            Statement(actions=["secretsmanager:GetSecretValue"], resources=[self.secret_arn]),
        )

    def calls(self, function: str, function_arn: pulumi.Input[str]) -> None:
        """Let the database call a function, which its triggers do at every commit."""
        role = iam.Role(
            f"{self._name}-caller",
            name=f"{function}-caller",
            assume_role_policy=assumed_by("rds.amazonaws.com"),
            opts=pulumi.ResourceOptions(parent=self),
        )
        rights = iam.RolePolicy(
            f"{self._name}-calls",
            name="calls",
            role=role.name,
            policy=policy(Statement(actions=["lambda:InvokeFunction"], resources=[function_arn])),
            opts=pulumi.ResourceOptions(parent=self),
        )
        rds.ClusterRoleAssociation(
            f"{self._name}-calls",
            db_cluster_identifier=self._cluster.cluster_identifier,
            feature_name="Lambda",
            role_arn=role.arn,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[rights, self.instance]),
        )


@dataclass(frozen=True, kw_only=True)
class GoogleUserDatabaseArgs:
    """The instance, by name and place."""

    instance: str
    location: str
    protect: bool


class GoogleUserDatabase(pulumi.ComponentResource):
    """A Spanner database with the declared tables and their change stream, and one that the stream's job keeps its place in."""

    METADATA = "changes"

    def __init__(self, name: str, args: GoogleUserDatabaseArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:userdata:GoogleUserDatabase", name, None, opts)
        from functions.userdata.errors import SchemaError

        try:
            statements = spanner_ddl(REFERENCE_TABLES)
        except SchemaError as error:
            raise ConfigError(str(error)) from error
        instance = spanner.Instance(
            f"{name}-instance",
            name=args.instance,
            config=f"regional-{args.location}",
            display_name=args.instance,
            edition="ENTERPRISE",
            processing_units=PROCESSING_UNITS,
            force_destroy=not args.protect,
            opts=holding_data(self, args.protect),
        )
        self._database = spanner.Database(
            f"{name}-database",
            instance=instance.name,
            name=DATABASE,
            ddls=statements,
            version_retention_period=VERSION_RETENTION,
            deletion_protection=args.protect,
            enable_drop_protection=args.protect,
            opts=holding_data(self, args.protect),
        )
        self._metadata = spanner.Database(
            f"{name}-metadata",
            instance=instance.name,
            name=self.METADATA,
            deletion_protection=args.protect,
            enable_drop_protection=args.protect,
            opts=holding_data(self, args.protect),
        )
        self.instance: pulumi.Output[str] = instance.name
        self.database: pulumi.Output[str] = self._database.name
        self.metadata: pulumi.Output[str] = self._metadata.name
        self.register_outputs({"instance": self.instance, "database": self.database})

    def writer(self, name: str, member: pulumi.Input[str], *, metadata: bool = False) -> spanner.DatabaseIAMMember:
        """Let a member read and write the rows of the database, or of the one that the job keeps its place in."""
        return spanner.DatabaseIAMMember(
            name,
            instance=self.instance,
            database=self.metadata if metadata else self.database,
            role="roles/spanner.databaseUser",
            member=member,
            opts=pulumi.ResourceOptions(parent=self),
        )
