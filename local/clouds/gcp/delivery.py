"""Decide what becomes of a message after a delivery: done, tried again after a back-off, or set aside as a dead letter.

The rules are Pub/Sub's (https://cloud.google.com/pubsub/docs/handling-failures): exponential back-off within a
subscription's bounds, a dead letter topic after a number of attempts, an end at the retention. Nothing here reads a
clock, rolls dice or talks to a server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

# A retry policy without bounds means these (RetryPolicy in the Pub/Sub API reference).
DEFAULT_MINIMUM_BACKOFF_SECONDS = 10.0
DEFAULT_MAXIMUM_BACKOFF_SECONDS = 600.0
# Without a retry policy Pub/Sub slows pushes to a failing endpoint down by itself, from 100 ms to 60 s
# (https://cloud.google.com/pubsub/docs/push, "Push backoff").
PUSH_MINIMUM_BACKOFF_SECONDS = 0.1
PUSH_MAXIMUM_BACKOFF_SECONDS = 60.0
DEFAULT_MAXIMUM_ATTEMPTS = 5
DEFAULT_RETENTION_SECONDS = 7 * 86_400.0
# A trigger with retries on keeps trying a message for one day (https://cloud.google.com/run/docs/tips/function-retries).
TRIGGER_RETENTION_SECONDS = 86_400.0
# Jitter only lengthens: the minimum back-off is a promise.
JITTER_SHARE = 0.25

DEAD_LETTER_PREFIX = "CloudPubSubDeadLetterSource"


@dataclass(frozen=True)
class Message:
    """A published message as a subscription holds it; `publish_time_ns` counts from the epoch."""

    id: str
    data: bytes
    attributes: Mapping[str, str]
    publish_time_ns: int
    ordering_key: str = ""

    def publish_time(self) -> str:
        """Return the publish time as Pub/Sub writes it: RFC 3339 in UTC with milliseconds."""
        return rfc3339(self.publish_time_ns)


@dataclass(frozen=True)
class DeliveryPolicy:
    """How a subscription treats failed deliveries."""

    minimum_backoff_seconds: float = PUSH_MINIMUM_BACKOFF_SECONDS
    maximum_backoff_seconds: float = PUSH_MAXIMUM_BACKOFF_SECONDS
    retry: bool = True
    ordered: bool = False
    dead_letter_topic: str | None = None
    maximum_attempts: int = DEFAULT_MAXIMUM_ATTEMPTS
    retention_seconds: float = DEFAULT_RETENTION_SECONDS

    @classmethod
    def of_subscription(cls, inputs: Mapping[str, Any]) -> "DeliveryPolicy":
        """Read the policy out of a gcp.pubsub.Subscription's inputs."""
        retry = inputs.get("retryPolicy")
        dead = inputs.get("deadLetterPolicy") or {}
        minimum, maximum = PUSH_MINIMUM_BACKOFF_SECONDS, PUSH_MAXIMUM_BACKOFF_SECONDS
        if retry is not None:
            minimum = seconds(retry.get("minimumBackoff"), DEFAULT_MINIMUM_BACKOFF_SECONDS)
            maximum = seconds(retry.get("maximumBackoff"), DEFAULT_MAXIMUM_BACKOFF_SECONDS)
        return cls(
            minimum_backoff_seconds=minimum,
            maximum_backoff_seconds=max(minimum, maximum),
            ordered=bool(inputs.get("enableMessageOrdering")),
            dead_letter_topic=dead.get("deadLetterTopic"),
            maximum_attempts=int(dead.get("maxDeliveryAttempts") or DEFAULT_MAXIMUM_ATTEMPTS),
            retention_seconds=seconds(inputs.get("messageRetentionDuration"), DEFAULT_RETENTION_SECONDS),
        )

    @classmethod
    def of_trigger(cls, retry: bool) -> "DeliveryPolicy":
        """Return the policy of the subscription that Eventarc makes for a function's trigger."""
        return cls(
            minimum_backoff_seconds=DEFAULT_MINIMUM_BACKOFF_SECONDS,
            maximum_backoff_seconds=DEFAULT_MAXIMUM_BACKOFF_SECONDS,
            retry=retry,
            retention_seconds=TRIGGER_RETENTION_SECONDS,
        )

    def exhausted(self, attempts: int) -> bool:
        """Tell whether a message that failed `attempts` times belongs in the dead letter topic."""
        return self.dead_letter_topic is not None and attempts >= self.maximum_attempts


class Verdict(StrEnum):
    """What becomes of a message after one delivery."""

    DONE = "done"
    RETRY = "retry"
    DEAD_LETTER = "dead-letter"
    # Retries are off: the message is acknowledged whatever the answer was.
    DROP = "drop"
    # The message outlived its retention.
    EXPIRE = "expire"


@dataclass(frozen=True)
class Decision:
    """A verdict, and for a retry the seconds to wait first."""

    verdict: Verdict
    delay_seconds: float = 0.0


def decide(policy: DeliveryPolicy, *, attempts: int, succeeded: bool, age_seconds: float, jitter: float) -> Decision:
    """Judge a message after its `attempts`-th delivery (counted from 1); `jitter` is in [0, 1)."""
    if succeeded:
        return Decision(Verdict.DONE)
    if not policy.retry:
        return Decision(Verdict.DROP)
    if policy.exhausted(attempts):
        return Decision(Verdict.DEAD_LETTER)
    if age_seconds >= policy.retention_seconds:
        return Decision(Verdict.EXPIRE)
    return Decision(Verdict.RETRY, backoff_seconds(policy, attempts, jitter))


def backoff_seconds(policy: DeliveryPolicy, attempts: int, jitter: float) -> float:
    """Return the wait after `attempts` failed deliveries: doubled each time, within the policy's bounds."""
    # The exponent is capped because a float overflows long before a day of retries ends.
    doubled = policy.minimum_backoff_seconds * 2.0 ** min(attempts - 1, 40)
    return min(policy.maximum_backoff_seconds, doubled * (1.0 + JITTER_SHARE * jitter))


def dead_letter(message: Message, subscription: str, attempts: int) -> Message:
    """Return the message as Pub/Sub forwards it: the same content and key, with attributes that say where from."""
    _, project, _, name = subscription.split("/")
    source = {
        f"{DEAD_LETTER_PREFIX}DeliveryCount": str(attempts),
        f"{DEAD_LETTER_PREFIX}Subscription": name,
        f"{DEAD_LETTER_PREFIX}SubscriptionProject": project,
        f"{DEAD_LETTER_PREFIX}TopicPublishTime": message.publish_time(),
    }
    return Message(
        id=message.id,
        data=message.data,
        attributes={**message.attributes, **source},
        publish_time_ns=message.publish_time_ns,
        ordering_key=message.ordering_key,
    )


def seconds(duration: str | None, default: float) -> float:
    """Read a duration in the API's form, `"10s"` or `"0.5s"`; None gives the default."""
    return default if duration is None else float(duration.removesuffix("s"))


def rfc3339(time_ns: int) -> str:
    """Write a time in nanoseconds since the epoch as RFC 3339 in UTC with milliseconds."""
    return f"{_second(time_ns // 1_000_000_000)}.{time_ns // 1_000_000 % 1000:03d}Z"


@lru_cache(maxsize=16)
def _second(seconds_since: int) -> str:
    # Messages of a burst share their second, and its text is the dearest part of their envelope.
    return f"{datetime.fromtimestamp(seconds_since, tz=UTC):%Y-%m-%dT%H:%M:%S}"
