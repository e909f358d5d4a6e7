"""What carries changes in each site's Redis into the site's own feature table, from where they replicate as every row does.

A function that a clock calls every minute and that goes on for longer than one, so that one is always at work and another takes
over when it ends or dies. A call waits for records, so a change is carried as soon as it is made. Nothing here runs on the hosts:
a fleet that shrinks, fails or is replaced stops no change, and a standby's fleet needs no program more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

import functions.settings as names_of
from functions.settings import Site
from infra.components.aws_function import AwsFunction, AwsFunctionArgs, FunctionNetwork
from infra.components.feature_store import AwsFeatureStore, GoogleFeatureStore
from infra.components.function_settings import FunctionSettings
from infra.components.google_function import GoogleFunction, GoogleFunctionArgs
from infra.components.redis import AwsRedis, GoogleRedis
from infra.components.schedules import AwsSchedule, AwsScheduleArgs, GoogleSchedule, GoogleScheduleArgs
from infra.naming import Names
from infra.rights import Statement

PURPOSE = "redis-forward"
RATE, CRON = "rate(1 minute)", "* * * * *"
# A call goes on for 70 s of every 60: the two that overlap share the records.
SECONDS = 80
MARGIN_SECONDS = 10
# Two at work, and one that is slow to end.
AT_ONCE = 3
MEMORY_MB = 512
MEMORY = "512Mi"


@dataclass(frozen=True, kw_only=True)
class RedisSourceArgs:
    """Both sites' Redis and feature table, and what all functions share."""

    names: Names
    project: str
    location: str
    aws_redis: AwsRedis
    google_redis: GoogleRedis
    aws_table: AwsFeatureStore
    google_table: GoogleFeatureStore
    shared: FunctionSettings


class RedisSource(pulumi.ComponentResource):
    """Both sites' forwarder with its clock. Neither has a right on the other cloud."""

    def __init__(self, name: str, args: RedisSourceArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:RedisSource", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        self._seconds = args.shared.timeout_seconds(SECONDS)
        self.places = {Site.AWS.value: args.aws_redis.place, Site.GCP.value: args.google_redis.place}
        self.on_aws, self.on_google = self._on_aws(), self._on_google()
        self.register_outputs({"aws": self.on_aws.arn, "gcp": self.on_google.uri})

    def _on_aws(self) -> AwsFunction:
        args, name = self._args, self._name
        function = args.names.named(PURPOSE)
        forward = AwsFunction(
            f"{name}-aws",
            AwsFunctionArgs(
                function=function,
                handler="functions.entry_aws.redis_forward",
                archive=args.shared.aws_archive,
                layers=args.shared.layers,
                environment=self._environment(Site.AWS, args.aws_redis.place),
                rights=[
                    args.aws_redis.writer(),
                    Statement(
                        actions=["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem"],
                        resources=[args.aws_table.arn],
                    ),
                ],
                memory_mb=MEMORY_MB,
                timeout_seconds=self._seconds,
                concurrency=AT_ONCE,
                network=FunctionNetwork(subnets=args.aws_redis.subnets, security_group=args.aws_redis.caller_group),
            ),
            self._child,
        )
        AwsSchedule(
            f"{name}-aws-clock", AwsScheduleArgs(schedule=function, expression=RATE, function=forward), self._child
        )
        return forward

    def _on_google(self) -> GoogleFunction:
        args, name, names = self._args, self._name, self._args.names
        function = names.named(PURPOSE)
        forward = GoogleFunction(
            f"{name}-gcp",
            GoogleFunctionArgs(
                project=args.project,
                location=args.location,
                function=function,
                entry_point="redis_forward",
                account=names.service_account("redis"),
                source=args.shared.source,
                environment=self._environment(Site.GCP, args.google_redis.place),
                memory=MEMORY,
                timeout_seconds=self._seconds,
                max_instances=AT_ONCE,
                network=args.google_redis.network,
            ),
            self._child,
        )
        args.google_redis.writer(f"{name}-gcp-signs-in", forward.member)
        args.google_table.writer(f"{name}-gcp-writes", forward.member)
        GoogleSchedule(
            f"{name}-gcp-clock",
            GoogleScheduleArgs(
                schedule=function,
                cron=CRON,
                project=args.project,
                location=args.location,
                function=forward,
                deadline_seconds=self._seconds,
            ),
            self._child,
        )
        return forward

    def _environment(self, site: Site, place: Mapping[str, pulumi.Input[Any]]) -> dict[str, pulumi.Input[str]]:
        return {
            **self._args.shared.environment[site],
            names_of.REDIS: pulumi.Output.json_dumps(dict(place), sort_keys=True),
            names_of.FORWARD_SECONDS: str(max(1, self._seconds - MARGIN_SECONDS)),
        }
