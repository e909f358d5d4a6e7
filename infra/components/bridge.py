"""The bridge: an SQS queue to a Pub/Sub topic, a topic to a queue, and both together for programs that speak across the clouds.

Messages keep their bytes, attributes, ordering key and first id. A message that has come over never goes back: the subscription
filters by its origin, and the handler checks it again.
"""

from dataclasses import dataclass

import pulumi

import functions.settings as names_of
from functions.settings import Site
from infra.components.aws_function import AwsFunction, AwsFunctionArgs
from infra.components.aws_queue import AwsQueue
from infra.components.federation import AwsRoleForGoogle, AwsRoleForGoogleArgs
from infra.components.function_settings import FunctionSettings
from infra.components.google_function import GoogleFunction, GoogleFunctionArgs
from infra.components.google_topic import GooglePush, GooglePushArgs, GoogleTopic, GoogleTopicArgs
from infra.naming import Names

TO_TOPIC = "bridge-to-topic"
TO_QUEUE = "bridge-to-queue"
ROLE = "bridge-from-gcp"

SECONDS = 30
MEMORY_MB = 256
MEMORY = "512Mi"
# The most that SQS gives a function at once without a window: one publish carries them all.
BATCH = 10
AT_ONCE = 10
# Cloud Run takes several requests at once only with a whole CPU; those of one instance share their calls to the queue.
CPU = "1"
CONCURRENCY = 32
INSTANCES = 20
# While AWS is away every message fails, and none of them is dead for that.
ATTEMPTS = 100
FAILED_DELIVERIES = 50


@dataclass(frozen=True, kw_only=True)
class QueueToTopicArgs:
    """Every message of `queue` is published on `topic`."""

    names: Names
    queue: AwsQueue
    topic: GoogleTopic
    shared: FunctionSettings


class QueueToTopic(pulumi.ComponentResource):
    """The function that publishes what lies on a queue, and lets it go only when the topic has it."""

    def __init__(self, name: str, args: QueueToTopicArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:bridge:QueueToTopic", name, None, opts)
        function = args.names.named(TO_TOPIC)
        self.carry = AwsFunction(
            f"{name}-carry",
            AwsFunctionArgs(
                function=function,
                handler="functions.entry_aws.bridge_to_topic",
                archive=args.shared.aws_archive,
                layers=args.shared.layers,
                environment={**args.shared.environment[Site.AWS], names_of.BRIDGE_TOPIC: args.topic.topic_id},
                rights=args.queue.consumer(),
                memory_mb=MEMORY_MB,
                timeout_seconds=args.shared.timeout_seconds(SECONDS),
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.carry.consume(args.queue, BATCH, AT_ONCE)
        args.topic.published_by(f"{name}-publishes", args.names.federated_member(function))
        self.register_outputs({"carry": self.carry.arn})


@dataclass(frozen=True, kw_only=True)
class TopicToQueueArgs:
    """Every message of `topic` that did not come from the queue's own cloud is sent to `queue`."""

    names: Names
    project: str
    location: str
    aws_region: str
    topic: GoogleTopic
    queue: AwsQueue
    shared: FunctionSettings


class TopicToQueue(pulumi.ComponentResource):
    """The function that sends a topic's messages to a queue, in the order of their keys, with dead letters."""

    def __init__(self, name: str, args: TopicToQueueArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:bridge:TopicToQueue", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        names = args.names
        agent = names.service_agent("gcp-sa-pubsub")
        dead = GoogleTopic(
            f"{name}-dead", GoogleTopicArgs(topic=names.named("bridge-dead"), publishers={"pubsub": agent}), child
        )
        self.carry = GoogleFunction(
            f"{name}-carry",
            GoogleFunctionArgs(
                project=args.project,
                location=args.location,
                function=names.named(TO_QUEUE),
                entry_point="bridge_to_queue",
                account=names.service_account("bridge"),
                source=args.shared.source,
                environment={
                    **args.shared.environment[Site.GCP],
                    names_of.BRIDGE_QUEUE: args.queue.url,
                    names_of.DEAD_TOPIC: dead.topic_id,
                    names_of.AWS_ROLE: names.role_arn(names.named(ROLE)),
                    "AWS_DEFAULT_REGION": args.aws_region,
                },
                memory=MEMORY,
                cpu=CPU,
                concurrency=CONCURRENCY,
                timeout_seconds=args.shared.timeout_seconds(SECONDS),
                max_instances=INSTANCES,
            ),
            child,
        )
        self.carry.invoked_by("push", self.carry.member)
        dead.published_by(f"{name}-parks", self.carry.member)
        AwsRoleForGoogle(
            f"{name}-on-aws",
            AwsRoleForGoogleArgs(
                role=names.named(ROLE), account_id=self.carry.unique_id, rights=[args.queue.producer()]
            ),
            child,
        )
        GooglePush(
            f"{name}-push",
            GooglePushArgs(
                subscription=names.named(TO_QUEUE),
                topic=args.topic,
                dead=dead,
                endpoint=self.carry.uri,
                caller=self.carry.email,
                service_agent=agent,
                answer_seconds=args.shared.timeout_seconds(SECONDS),
                attempts=ATTEMPTS,
                longest_backoff_seconds=args.shared.backoff_seconds,
                ordered=True,
                # The name is that of functions/bridge/parcel.py; a test holds the two together.
                filter=f'NOT attributes.lifeboat_origin = "{Site.AWS.value}"',
            ),
            child,
        )
        self.register_outputs({"carry": self.carry.uri})


@dataclass(frozen=True, kw_only=True)
class BridgeArgs:
    """Programs on AWS send to `outgoing` and read `incoming`; programs on Google publish to `topic` and subscribe to it."""

    names: Names
    project: str
    location: str
    aws_region: str
    outgoing: AwsQueue
    topic: GoogleTopic
    incoming: AwsQueue
    shared: FunctionSettings


class Bridge(pulumi.ComponentResource):
    """Both directions between two queues and one topic."""

    def __init__(self, name: str, args: BridgeArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:bridge:Bridge", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.to_topic = QueueToTopic(
            f"{name}-to-topic",
            QueueToTopicArgs(names=args.names, queue=args.outgoing, topic=args.topic, shared=args.shared),
            child,
        )
        self.to_queue = TopicToQueue(
            f"{name}-to-queue",
            TopicToQueueArgs(
                names=args.names,
                project=args.project,
                location=args.location,
                aws_region=args.aws_region,
                topic=args.topic,
                queue=args.incoming,
                shared=args.shared,
            ),
            child,
        )
        self.outgoing, self.topic, self.incoming = args.outgoing.url, args.topic.topic_id, args.incoming.url
        self.register_outputs({"outgoing": self.outgoing, "topic": self.topic, "incoming": self.incoming})
