"""A queue on SQS with its dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import sqs

from infra.rights import Statement, policy

# The longest that SQS keeps a message (SQS developer guide, quotas): a weekend and a long repair fit in.
RETENTION_SECONDS = 14 * 86_400


@dataclass(frozen=True, kw_only=True)
class AwsQueueArgs:
    """`bucket` names an S3 bucket of `account` that may send its events here."""

    queue: str
    visibility_seconds: int
    max_receives: int
    account: str
    bucket: str | None = None


class AwsQueue(pulumi.ComponentResource):
    """An encrypted queue whose messages go to a dead-letter queue after some failed deliveries."""

    def __init__(self, name: str, args: AwsQueueArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:queues:AwsQueue", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        dead = sqs.Queue(
            f"{name}-dead",
            name=f"{args.queue}-dead",
            message_retention_seconds=RETENTION_SECONDS,
            sqs_managed_sse_enabled=True,
            opts=child,
        )
        queue = sqs.Queue(
            f"{name}-queue",
            name=args.queue,
            visibility_timeout_seconds=args.visibility_seconds,
            message_retention_seconds=RETENTION_SECONDS,
            receive_wait_time_seconds=20,
            sqs_managed_sse_enabled=True,
            redrive_policy=pulumi.Output.json_dumps(
                {"deadLetterTargetArn": dead.arn, "maxReceiveCount": args.max_receives}, sort_keys=True
            ),
            opts=child,
        )
        sqs.RedriveAllowPolicy(
            f"{name}-dead-source",
            queue_url=dead.url,
            redrive_allow_policy=pulumi.Output.json_dumps(
                {"redrivePermission": "byQueue", "sourceQueueArns": [queue.arn]}, sort_keys=True
            ),
            opts=child,
        )
        if args.bucket is not None:
            sqs.QueuePolicy(
                f"{name}-senders",
                queue_url=queue.url,
                policy=policy(
                    Statement(
                        principal={"Service": "s3.amazonaws.com"},
                        actions=["sqs:SendMessage"],
                        resources=[queue.arn],
                        # Both, or another account's bucket of a freed name could send (S3 user guide, confused deputy).
                        condition={
                            "ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{args.bucket}"},
                            "StringEquals": {"aws:SourceAccount": args.account},
                        },
                    )
                ),
                opts=child,
            )
        self.url: pulumi.Output[str] = queue.url
        self.arn: pulumi.Output[str] = queue.arn
        self.dead_arn: pulumi.Output[str] = dead.arn
        self.register_outputs({"url": self.url, "arn": self.arn, "deadArn": self.dead_arn})

    def consumer(self) -> Sequence[Statement]:
        """Return the rights of a function that is fed from this queue and parks what no retry can mend."""
        return (
            Statement(
                actions=[
                    "sqs:ReceiveMessage",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                    "sqs:GetQueueUrl",
                    "sqs:ChangeMessageVisibility",
                ],
                resources=[self.arn],
            ),
            Statement(actions=["sqs:GetQueueUrl", "sqs:SendMessage"], resources=[self.dead_arn]),
        )

    def producer(self) -> Statement:
        """Return the rights of whoever sends to this queue."""
        return Statement(actions=["sqs:SendMessage"], resources=[self.arn])
