"""The queues of the artifact path, the same on both sites: what happened in the bucket, batches to send, packs received.

What arrives in an inbox has a queue of its own: a model that takes minutes to read must not hold up the others' aliases.

They stand apart from the functions because the stores need them to send their events.
"""

from collections.abc import Mapping

import pulumi

from functions.settings import Site
from infra.components.artifact_access import Queue
from infra.components.aws_queue import AwsQueue, AwsQueueArgs
from infra.components.function_settings import FunctionSettings
from infra.components.google_topic import GoogleTopic, GoogleTopicArgs
from infra.naming import Names

PLAN_SECONDS = 60
ENCODE_SECONDS = 300
# A file of more than one part is read back whole before it shows: 50 GB at the 60 MB/s that a function can count on.
REBUILD_SECONDS = 900
# What lies in an inbox is read once from front to back: 50 GB at 60 MB/s.
INBOX_SECONDS = 900
# Deliveries before a message is dead. An alias that comes ahead of its version waits by being delivered again.
MAX_RECEIVES = 50


class ArtifactQueues(pulumi.ComponentResource):
    """Queues on AWS, topics on Google, and where Google's dead letters go (on AWS every queue has its own)."""

    def __init__(self, name: str, names: Names, shared: FunctionSettings, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:replication:ArtifactQueues", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.events = AwsQueue(
            f"{name}-events",
            AwsQueueArgs(
                queue=names.named("artifact-events"),
                visibility_seconds=shared.visibility_seconds(PLAN_SECONDS),
                max_receives=MAX_RECEIVES,
                account=names.aws_account,
                bucket=names.artifact_bucket(Site.AWS),
            ),
            child,
        )
        self.inbox = AwsQueue(
            f"{name}-inbox",
            AwsQueueArgs(
                queue=names.named("artifact-inbox"),
                visibility_seconds=shared.visibility_seconds(INBOX_SECONDS),
                max_receives=MAX_RECEIVES,
                account=names.aws_account,
                bucket=names.artifact_bucket(Site.AWS),
            ),
            child,
        )
        self.queues: Mapping[Queue, AwsQueue] = {
            queue: AwsQueue(
                f"{name}-{queue}",
                AwsQueueArgs(
                    queue=names.named(f"artifact-{queue}"),
                    visibility_seconds=shared.visibility_seconds(seconds),
                    max_receives=MAX_RECEIVES,
                    account=names.aws_account,
                ),
                child,
            )
            for queue, seconds in ((Queue.JOBS, ENCODE_SECONDS), (Queue.REBUILDS, REBUILD_SECONDS))
        }
        self.arrivals = GoogleTopic(
            f"{name}-arrivals",
            GoogleTopicArgs(
                topic=names.named("artifact-events"),
                publishers={"storage": names.service_agent("gs-project-accounts")},
            ),
            child,
        )
        self.drops = GoogleTopic(
            f"{name}-drops",
            GoogleTopicArgs(
                topic=names.named("artifact-inbox"),
                publishers={"storage": names.service_agent("gs-project-accounts")},
            ),
            child,
        )
        self.topics: Mapping[Queue, GoogleTopic] = {
            queue: GoogleTopic(f"{name}-{queue}-topic", GoogleTopicArgs(topic=names.named(f"artifact-{queue}")), child)
            for queue in Queue
        }
        self.dead = GoogleTopic(
            f"{name}-dead",
            GoogleTopicArgs(
                topic=names.named("artifact-dead"), publishers={"pubsub": names.service_agent("gcp-sa-pubsub")}
            ),
            child,
        )
        self.register_outputs({})
