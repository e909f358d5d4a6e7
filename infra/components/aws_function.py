"""A Lambda function with its role, its log and its event sources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import cloudwatch, iam, lambda_

from infra.archives import Archive
from infra.components.aws_bucket import private_bucket
from infra.components.aws_queue import AwsQueue
from infra.rights import Statement, assumed_by, policy

RUNTIME = "python3.13"
LOG_DAYS = 30

# A stream's batch: large enough that one call to the other side carries it, and rows of one entity are collapsed.
STREAM_BATCH = 1_000
# Batches of one shard at once; rows of one entity keep their order.
STREAM_PARALLELISM = 4
# What no retry can mend the handler parks itself, so a record fails again and again only while the other cloud is away, and must
# outlast that in the stream. Bounded all the same: a record that ends its function each time must not hold a shard for a day.
STREAM_RETRIES = 5_000
# Below the 24 hours that DynamoDB keeps a stream record: what is parked can still be read again.
STREAM_RECORD_SECONDS = 80_000

# What Lambda itself does as the function's role to put it into a network (Lambda developer guide, configuration-vpc).
JOINS_NETWORK = Statement(
    actions=["ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface"],
    resources=["*"],
)


@dataclass(frozen=True, kw_only=True)
class FunctionNetwork:
    """Where a function stands that has to reach what is only in a network: it then reaches nothing but what the network does."""

    subnets: Sequence[pulumi.Input[str]]
    security_group: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class AwsFunctionArgs:
    """`rights` is all that the function may do beyond writing its own log; times in seconds, memory in MB."""

    function: str
    handler: str
    archive: Archive
    layers: Sequence[pulumi.Input[str]]
    environment: Mapping[str, pulumi.Input[str]]
    rights: Sequence[Statement]
    memory_mb: int
    timeout_seconds: int
    concurrency: int | None = None
    network: FunctionNetwork | None = None


class AwsFunction(pulumi.ComponentResource):
    """One handler on Lambda. Event sources are added by `consume` (a queue) and `follow` (a table's stream)."""

    def __init__(self, name: str, args: AwsFunctionArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:functions:AwsFunction", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        log = cloudwatch.LogGroup(
            f"{name}-log", name=f"/aws/lambda/{args.function}", retention_in_days=LOG_DAYS, opts=child
        )
        role = iam.Role(
            f"{name}-role", name=args.function, assume_role_policy=assumed_by("lambda.amazonaws.com"), opts=child
        )
        write_log = Statement(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[pulumi.Output.concat(log.arn, ":*")]
        )
        network = args.network
        joins = [JOINS_NETWORK] if network is not None else []
        self._rights = iam.RolePolicy(
            f"{name}-rights", name="rights", role=role.name, policy=policy(write_log, *joins, *args.rights), opts=child
        )
        self._function = lambda_.Function(
            f"{name}-function",
            name=args.function,
            role=role.arn,
            runtime=RUNTIME,
            architectures=["x86_64"],
            handler=args.handler,
            code=pulumi.FileArchive(str(args.archive.path)),
            layers=list(args.layers),
            memory_size=args.memory_mb,
            timeout=args.timeout_seconds,
            reserved_concurrent_executions=args.concurrency,
            vpc_config=(
                {"subnet_ids": list(network.subnets), "security_group_ids": [network.security_group]}
                if network is not None
                else None
            ),
            environment={"variables": dict(args.environment)},
            logging_config={"log_format": "JSON", "log_group": log.name},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._rights]),
        )
        self._name = name
        self._role = role
        self.function: pulumi.Output[str] = self._function.name
        self.arn: pulumi.Output[str] = self._function.arn
        self.register_outputs({"function": self.function, "arn": self.arn})

    def consume(self, queue: AwsQueue, batch_size: int, concurrency: int) -> None:
        """Feed the function from a queue; it reports which messages of a batch failed."""
        lambda_.EventSourceMapping(
            f"{self._name}-queue",
            function_name=self.function,
            event_source_arn=queue.arn,
            batch_size=batch_size,
            function_response_types=["ReportBatchItemFailures"],
            scaling_config={"maximum_concurrency": concurrency},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self._rights]),
        )

    def follow(self, streams: Mapping[str, pulumi.Input[str]], parked_bucket: str, protect: bool) -> None:
        """Feed the function from tables' streams, by what tells them apart in names: one stream alone needs nothing ("").

        What still fails after its retries goes to a bucket: S3 receives the whole record, where a queue would receive
        only its position in a stream that forgets after a day (Lambda developer guide, error handling of streams).
        """
        parked = private_bucket(self, f"{self._name}-parked", parked_bucket, protect)
        read = iam.RolePolicy(
            f"{self._name}-stream-rights",
            name="stream",
            role=self._role.name,
            policy=policy(
                Statement(
                    actions=[
                        "dynamodb:DescribeStream",
                        "dynamodb:GetRecords",
                        "dynamodb:GetShardIterator",
                        "dynamodb:ListStreams",
                    ],
                    resources=list(streams.values()),
                ),
                Statement(actions=["s3:ListBucket"], resources=[parked.arn]),
                Statement(actions=["s3:PutObject"], resources=[pulumi.Output.concat(parked.arn, "/*")]),
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        for label, stream_arn in streams.items():
            lambda_.EventSourceMapping(
                f"{self._name}-stream{label and f'-{label}'}",
                function_name=self.function,
                event_source_arn=stream_arn,
                # From the oldest record kept, so that rows written before the mapping are not missed.
                starting_position="TRIM_HORIZON",
                batch_size=STREAM_BATCH,
                # No window: waiting for a fuller batch is replication lag.
                maximum_batching_window_in_seconds=0,
                parallelization_factor=STREAM_PARALLELISM,
                bisect_batch_on_function_error=True,
                function_response_types=["ReportBatchItemFailures"],
                maximum_retry_attempts=STREAM_RETRIES,
                maximum_record_age_in_seconds=STREAM_RECORD_SECONDS,
                destination_config={"on_failure": {"destination_arn": parked.arn}},
                opts=pulumi.ResourceOptions(parent=self, depends_on=[read]),
            )
