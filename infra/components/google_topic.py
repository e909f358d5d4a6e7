"""Topics on Pub/Sub, and push subscriptions with retries and dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi
from pulumi_gcp import pubsub

# Pub/Sub's longest for subscriptions (Pub/Sub quotas): an outage of days loses no message.
RETENTION = f"{7 * 86_400}s"
# Between deliveries of one message; Pub/Sub takes 0 to 600 s.
SHORTEST_BACKOFF = "1s"
LONGEST_BACKOFF_SECONDS = 60
# Deliveries before a message is dead; Pub/Sub takes 5 to 100.
DELIVERY_ATTEMPTS = 20
# The longest a push endpoint may take to answer (Pub/Sub push documentation).
PUSH_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class GoogleTopicArgs:
    """`publishers` maps a short name to the IAM member that may publish."""

    topic: str
    publishers: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)


class GoogleTopic(pulumi.ComponentResource):
    """A topic that keeps its messages for seven days, and who may publish to it."""

    def __init__(self, name: str, args: GoogleTopicArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:queues:GoogleTopic", name, None, opts)
        topic = pubsub.Topic(
            f"{name}-topic",
            name=args.topic,
            message_retention_duration=RETENTION,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.topic: pulumi.Output[str] = topic.name
        for publisher, member in args.publishers.items():
            self.published_by(f"{name}-publisher-{publisher}", member)
        # Full name, projects/P/topics/T.
        self.topic_id: pulumi.Output[str] = topic.id
        self.register_outputs({"topic": self.topic, "topicId": self.topic_id})

    def published_by(self, name: str, member: pulumi.Input[str]) -> None:
        """Let a member publish to the topic."""
        pubsub.TopicIAMMember(
            name,
            topic=self.topic,
            role="roles/pubsub.publisher",
            member=member,
            opts=pulumi.ResourceOptions(parent=self),
        )


@dataclass(frozen=True, kw_only=True)
class GooglePushArgs:
    """`endpoint` is pushed to with an identity token of `caller`; `service_agent` is Pub/Sub's own in this project.

    `answer_seconds`: a push without an answer for so long is made again. `attempts`: deliveries before a message is dead.
    `ordered`: messages of one key one after the other. `filter`: which messages, by their attributes.
    """

    subscription: str
    topic: GoogleTopic
    dead: GoogleTopic
    endpoint: pulumi.Input[str]
    caller: pulumi.Input[str]
    service_agent: str
    answer_seconds: int = PUSH_SECONDS
    attempts: int = DELIVERY_ATTEMPTS
    longest_backoff_seconds: int = LONGEST_BACKOFF_SECONDS
    ordered: bool = False
    filter: str | None = None


class GooglePush(pulumi.ComponentResource):
    """A push subscription: signed calls, growing pauses between tries, dead letters after the last one."""

    def __init__(self, name: str, args: GooglePushArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:queues:GooglePush", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        subscription = pubsub.Subscription(
            f"{name}-subscription",
            name=args.subscription,
            topic=args.topic.topic,
            ack_deadline_seconds=args.answer_seconds,
            enable_message_ordering=args.ordered or None,
            filter=args.filter,
            message_retention_duration=RETENTION,
            expiration_policy={"ttl": ""},
            push_config={
                "push_endpoint": args.endpoint,
                "oidc_token": {"service_account_email": args.caller, "audience": args.endpoint},
            },
            retry_policy={"minimum_backoff": SHORTEST_BACKOFF, "maximum_backoff": f"{args.longest_backoff_seconds}s"},
            dead_letter_policy={
                "dead_letter_topic": args.dead.topic_id,
                "max_delivery_attempts": args.attempts,
            },
            opts=child,
        )
        # Pub/Sub itself moves dead letters, so it needs to take them from here (and to publish to the dead topic).
        pubsub.SubscriptionIAMMember(
            f"{name}-dead-letters",
            subscription=subscription.name,
            role="roles/pubsub.subscriber",
            member=args.service_agent,
            opts=child,
        )
        self.register_outputs({"subscription": subscription.name})
