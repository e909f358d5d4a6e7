"""Parts that a stack may have or not, by its config: the bridge, the replication of user data, Redis as a source of features."""

import pulumi

from infra.components.artifact_store import AwsArtifactStore
from infra.components.aws_network import AwsNetwork
from infra.components.aws_queue import AwsQueue, AwsQueueArgs
from infra.components.bridge import FAILED_DELIVERIES, SECONDS, TO_TOPIC, Bridge, BridgeArgs
from infra.components.feast import PURPOSE as FEAST
from infra.components.feast import FeastReplication, FeastReplicationArgs
from infra.components.feature_store import AwsFeatureStore, GoogleFeatureStore
from infra.components.function_settings import FunctionSettings
from infra.components.google_topic import GoogleTopic, GoogleTopicArgs
from infra.components.redis import AwsRedis, GoogleRedis
from infra.components.redis_source import RedisSource, RedisSourceArgs
from infra.components.user_database import (
    AwsUserDatabase,
    AwsUserDatabaseArgs,
    GoogleUserDatabase,
    GoogleUserDatabaseArgs,
)
from infra.components.user_replication import DRAIN, UserReplication, UserReplicationArgs
from infra.naming import Names
from infra.settings import Settings


def federated(settings: Settings) -> tuple[str, ...]:
    """Return the functions on AWS, by purpose, that these parts let act on Google."""
    return (
        *((TO_TOPIC,) if settings.bridge else ()),
        *((DRAIN,) if settings.user_data else ()),
        *((FEAST,) if settings.feast_tables else ()),
    )


def bridge(settings: Settings, names: Names, shared: FunctionSettings, opts: pulumi.ResourceOptions) -> Bridge | None:
    """Return the bridge between two queues and a topic, if the stack has one."""
    if not settings.bridge:
        return None

    def queue(purpose: str) -> AwsQueue:
        return AwsQueue(
            purpose,
            AwsQueueArgs(
                queue=names.named(purpose),
                visibility_seconds=shared.visibility_seconds(SECONDS),
                max_receives=FAILED_DELIVERIES,
                account=names.aws_account,
            ),
            opts,
        )

    return Bridge(
        "bridge",
        BridgeArgs(
            names=names,
            project=settings.sites.gcp.project,
            location=settings.sites.gcp.region,
            aws_region=settings.sites.aws.region,
            outgoing=queue("bridge-outgoing"),
            topic=GoogleTopic("bridge-topic", GoogleTopicArgs(topic=names.named("bridge")), opts),
            incoming=queue("bridge-incoming"),
            shared=shared,
        ),
        opts,
    )


def user_data(
    settings: Settings,
    names: Names,
    shared: FunctionSettings,
    network: AwsNetwork,
    subnet: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> UserReplication | None:
    """Return the replication of user data with both its databases, if the stack has it."""
    if not settings.user_data:
        return None
    home = AwsUserDatabase(
        "userdata-aws",
        AwsUserDatabaseArgs(
            cluster=names.named("userdata"),
            vpc_id=network.vpc_id,
            subnets=network.private_subnets,
            protect=settings.protect_data,
        ),
        opts,
    )
    far = GoogleUserDatabase(
        "userdata-gcp",
        GoogleUserDatabaseArgs(
            instance=names.named("userdata"),
            location=settings.sites.gcp.region,
            protect=settings.protect_data,
        ),
        opts,
    )
    return UserReplication(
        "userdata",
        UserReplicationArgs(
            names=names,
            project=settings.sites.gcp.project,
            location=settings.sites.gcp.region,
            aws_region=settings.sites.aws.region,
            home=home,
            far=far,
            shared=shared,
            workers=settings.sites.gcp.dataflow,
            subnet=subnet,
            protect=settings.protect_data,
        ),
        opts,
    )


def redis_source(
    settings: Settings,
    names: Names,
    shared: FunctionSettings,
    redis: tuple[AwsRedis | None, GoogleRedis | None],
    tables: tuple[AwsFeatureStore, GoogleFeatureStore],
    opts: pulumi.ResourceOptions,
) -> RedisSource | None:
    """Return what carries changes of both sites' Redis into their tables, if the sites have one."""
    aws, google = redis
    if aws is None or google is None:
        return None
    return RedisSource(
        "redis-source",
        RedisSourceArgs(
            names=names,
            project=settings.sites.gcp.project,
            location=settings.sites.gcp.region,
            aws_redis=aws,
            google_redis=google,
            aws_table=tables[0],
            google_table=tables[1],
            shared=shared,
        ),
        opts,
    )


def feast(
    settings: Settings,
    names: Names,
    shared: FunctionSettings,
    target: GoogleFeatureStore,
    parking: AwsArtifactStore,
    opts: pulumi.ResourceOptions,
) -> FeastReplication | None:
    """Return the replication of Feast's online store, if the stack names tables of one."""
    if not settings.feast_tables:
        return None
    return FeastReplication(
        "feast",
        FeastReplicationArgs(
            names=names,
            tables=settings.feast_tables,
            target_store=target,
            parking_store=parking,
            shared=shared,
            protect=settings.protect_data,
        ),
        opts,
    )
