"""Redis as a source of features: Valkey of each site's own cloud, in the site's network, with no password anywhere.

Both are one shard with cluster mode off, because the function that writes a row writes the record of its change in the same step,
and the two are keys of their own. Each has a replica in another zone. They are sources, no caches: nothing is evicted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_aws import ec2, elasticache
from pulumi_gcp import memorystore, networkconnectivity, projects

from infra.errors import ConfigError
from infra.protection import holding_data
from infra.rights import Statement

PORT = 6379
AWS_ENGINE_VERSION = "8.1"
AWS_FAMILY = "valkey8"
GOOGLE_ENGINE_VERSION = "VALKEY_8_0"
NO_EVICTION = "noeviction"
SNAPSHOT_DAYS = 7
# Everything but what administers the server, on the keys that functions/features/redis/ uses (Valkey, ACL categories).
ACCESS = "on ~entity:* ~lifeboat:* +@all -@admin -@dangerous"
# The user that every account is on Memorystore (Memorystore for Valkey, IAM authentication).
GOOGLE_USER = "default"


@dataclass(frozen=True, kw_only=True)
class AwsRedisArgs:
    """Name and size; who may connect beside the forwarder are the hosts of `host_group`."""

    cache: str
    node_type: str
    vpc_id: pulumi.Input[str]
    network_range: str
    subnets: Sequence[pulumi.Input[str]]
    host_group: pulumi.Input[str]
    dynamodb_addresses: pulumi.Input[str]
    protect: bool


class AwsRedis(pulumi.ComponentResource):
    """A replication group of ElastiCache for Valkey, and the user that roles sign in as."""

    def __init__(self, name: str, args: AwsRedisArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:redis:AwsRedis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.subnets = args.subnets
        callers = ec2.SecurityGroup(
            f"{name}-callers",
            name=f"{args.cache}-forward",
            description="What carries changes: Redis and DynamoDB, nothing else",
            vpc_id=args.vpc_id,
            egress=[
                _rule(PORT, "Redis", cidr_blocks=[args.network_range]),
                _rule(443, "DynamoDB", prefix_list_ids=[args.dynamodb_addresses]),
            ],
            opts=child,
        )
        group = ec2.SecurityGroup(
            f"{name}-group",
            name=args.cache,
            description="Redis: hosts and what carries changes connect, it calls nobody",
            vpc_id=args.vpc_id,
            ingress=[_rule(PORT, "hosts and forwarder", security_groups=[args.host_group, callers.id])],
            opts=child,
        )
        user = elasticache.User(
            f"{name}-user",
            user_id=args.cache,
            # With IAM the two must be the same (ElastiCache, authenticating with IAM).
            user_name=args.cache,
            engine="valkey",
            access_string=ACCESS,
            authentication_mode={"type": "iam"},
            opts=child,
        )
        users = elasticache.UserGroup(
            f"{name}-users", user_group_id=args.cache, engine="valkey", user_ids=[user.user_id], opts=child
        )
        self._user = user
        self._cache = elasticache.ReplicationGroup(
            f"{name}-cache",
            replication_group_id=args.cache,
            description="Features: rows and the stream of their changes",
            engine="valkey",
            engine_version=AWS_ENGINE_VERSION,
            node_type=args.node_type,
            num_cache_clusters=2,
            automatic_failover_enabled=True,
            multi_az_enabled=True,
            at_rest_encryption_enabled=True,
            transit_encryption_enabled=True,
            user_group_ids=[users.user_group_id],
            parameter_group_name=elasticache.ParameterGroup(
                f"{name}-parameters",
                name=args.cache,
                family=AWS_FAMILY,
                parameters=[{"name": "maxmemory-policy", "value": NO_EVICTION}],
                opts=child,
            ).name,
            subnet_group_name=elasticache.SubnetGroup(
                f"{name}-subnets", name=args.cache, subnet_ids=list(args.subnets), opts=child
            ).name,
            security_group_ids=[group.id],
            snapshot_retention_limit=SNAPSHOT_DAYS,
            opts=holding_data(self, args.protect),
        )
        self.caller_group: pulumi.Output[str] = callers.id
        # As functions/settings.py reads it.
        self.place: Mapping[str, pulumi.Input[Any]] = {
            "host": self._cache.primary_endpoint_address,
            "port": self._cache.port.apply(lambda port: str(port or PORT)),
            "cache": args.cache,
            "user": args.cache,
        }
        self.register_outputs({"host": self._cache.primary_endpoint_address})

    def writer(self) -> Statement:
        """Return the right to sign in as the one user of this cache."""
        return Statement(actions=["elasticache:Connect"], resources=[self._cache.arn, self._user.arn])


@dataclass(frozen=True, kw_only=True)
class GoogleRedisArgs:
    """Name, place and size; `full_name` is the instance as conditions on grants compare it."""

    instance: str
    full_name: str
    project: str
    location: str
    node_type: str
    network: pulumi.Input[str]
    subnet: pulumi.Input[str]
    protect: bool


class GoogleRedis(pulumi.ComponentResource):
    """An instance of Memorystore for Valkey with an address in the site's network; every write is on disk before its answer."""

    def __init__(self, name: str, args: GoogleRedisArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:redis:GoogleRedis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self._args = args
        self.network = (args.network, args.subnet)
        allows = networkconnectivity.ServiceConnectionPolicy(
            f"{name}-address",
            name=args.instance,
            location=args.location,
            service_class="gcp-memorystore",
            network=args.network,
            psc_config={"subnetworks": [args.subnet]},
            opts=child,
        )
        instance = memorystore.Instance(
            f"{name}-instance",
            instance_id=args.instance,
            location=args.location,
            mode="CLUSTER_DISABLED",
            shard_count=1,
            replica_count=1,
            node_type=args.node_type,
            engine_version=GOOGLE_ENGINE_VERSION,
            engine_configs={"maxmemory-policy": NO_EVICTION},
            authorization_mode="IAM_AUTH",
            transit_encryption_mode="SERVER_AUTHENTICATION",
            persistence_config={"mode": "AOF", "aof_config": {"append_fsync": "ALWAYS"}},
            desired_auto_created_endpoints=[{"network": args.network, "project_id": args.project}],
            deletion_protection_enabled=args.protect,
            opts=pulumi.ResourceOptions.merge(
                holding_data(self, args.protect), pulumi.ResourceOptions(depends_on=[allows])
            ),
        )
        self.place: Mapping[str, pulumi.Input[Any]] = {
            "host": instance.endpoints.apply(lambda endpoints: _primary(endpoints, "ip_address", "")),
            "port": instance.endpoints.apply(lambda endpoints: str(_primary(endpoints, "port", PORT))),
            "cache": args.instance,
            "user": GOOGLE_USER,
            "authority": instance.managed_server_cas.apply(_certificates),
        }
        self.register_outputs({"host": self.place["host"]})

    def writer(self, name: str, member: pulumi.Input[str]) -> projects.IAMMember:
        """Let a member sign in to this instance and no other: the role has no narrower place than the project."""
        return projects.IAMMember(
            name,
            project=self._args.project,
            role="roles/memorystore.dbConnectionUser",
            member=member,
            condition={
                "title": "This instance only",
                "expression": f'resource.name == "{self._args.full_name}"',
            },
            opts=pulumi.ResourceOptions(parent=self),
        )


def _rule(port: int, description: str, **who: Any) -> Any:
    return {"protocol": "tcp", "from_port": port, "to_port": port, "description": description, **who}


def _primary(endpoints: Sequence[Any] | None, field: str, default: Any) -> Any:
    """Return what the address that takes writes has; the other one is for readers."""
    for endpoint in endpoints or ():
        for connection in endpoint.connections or ():
            found = connection.psc_auto_connection
            if found is not None and found.connection_type == "CONNECTION_TYPE_PRIMARY":
                return getattr(found, field) or default
    raise ConfigError("Memorystore names no primary address for Redis; run `pulumi refresh` and deploy again")


def _certificates(authorities: Sequence[Any] | None) -> str:
    """Return the certificates that the server's may be signed with, as one PEM text."""
    found = [certs.certificates for each in authorities or () for certs in each.ca_certs or ()]
    return "".join(f"{text.strip()}\n" for texts in found for text in texts or ())
