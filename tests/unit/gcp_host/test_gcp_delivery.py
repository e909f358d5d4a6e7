"""What becomes of a message after a delivery."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.clouds.gcp.delivery import (
    Decision,
    DeliveryPolicy,
    Message,
    Verdict,
    backoff_seconds,
    dead_letter,
    decide,
)

SUBSCRIPTION = "projects/p/subscriptions/s"


def policies(dead_letter_topic: str | None = None) -> st.SearchStrategy[DeliveryPolicy]:
    bounds = st.tuples(st.floats(0.01, 600), st.floats(0.01, 600)).map(sorted)
    return bounds.map(
        lambda pair: DeliveryPolicy(
            minimum_backoff_seconds=pair[0], maximum_backoff_seconds=pair[1], dead_letter_topic=dead_letter_topic
        )
    )


@given(policies(), st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_within_its_bounds(policy: DeliveryPolicy, attempts: int, jitter: float) -> None:
    delay = backoff_seconds(policy, attempts, jitter)
    assert policy.minimum_backoff_seconds <= delay <= policy.maximum_backoff_seconds


@given(policies(), st.integers(1, 200), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_backoff_never_shrinks(policy: DeliveryPolicy, attempts: int, one: float, other: float) -> None:
    assert backoff_seconds(policy, attempts, one) <= backoff_seconds(policy, attempts + 1, other)


@given(policies("projects/p/topics/dead"), st.integers(1, 200), st.booleans(), st.floats(0, 1e6))
def test_dead_letter_exactly_from_the_last_attempt_on(
    policy: DeliveryPolicy, attempts: int, succeeded: bool, age_seconds: float
) -> None:
    decision = decide(policy, attempts=attempts, succeeded=succeeded, age_seconds=age_seconds, jitter=0.5)
    expected = not succeeded and attempts >= policy.maximum_attempts
    assert (decision.verdict is Verdict.DEAD_LETTER) == expected


def test_success_ends_it_also_at_the_last_attempt() -> None:
    policy = DeliveryPolicy(dead_letter_topic="projects/p/topics/dead", maximum_attempts=5)
    assert decide(policy, attempts=5, succeeded=True, age_seconds=1e9, jitter=0) == Decision(Verdict.DONE)


def test_a_trigger_without_retries_drops_a_failed_message() -> None:
    policy = DeliveryPolicy.of_trigger(retry=False)
    assert decide(policy, attempts=1, succeeded=False, age_seconds=0, jitter=0).verdict is Verdict.DROP


def test_a_trigger_with_retries_gives_up_after_a_day() -> None:
    policy = DeliveryPolicy.of_trigger(retry=True)
    young = decide(policy, attempts=200, succeeded=False, age_seconds=86_399, jitter=0)
    old = decide(policy, attempts=200, succeeded=False, age_seconds=86_400, jitter=0)
    assert young == Decision(Verdict.RETRY, 600.0)
    assert old.verdict is Verdict.EXPIRE


@pytest.mark.parametrize(
    ("inputs", "minimum", "maximum"),
    [
        ({}, 0.1, 60.0),
        ({"retryPolicy": {}}, 10.0, 600.0),
        ({"retryPolicy": {"minimumBackoff": "1s", "maximumBackoff": "30s"}}, 1.0, 30.0),
        ({"retryPolicy": {"minimumBackoff": "0.5s"}}, 0.5, 600.0),
    ],
)
def test_bounds_come_from_the_retry_policy(inputs: dict[str, object], minimum: float, maximum: float) -> None:
    policy = DeliveryPolicy.of_subscription(inputs)
    assert (policy.minimum_backoff_seconds, policy.maximum_backoff_seconds) == (minimum, maximum)


def test_a_subscription_is_read_whole() -> None:
    policy = DeliveryPolicy.of_subscription(
        {
            "enableMessageOrdering": True,
            "messageRetentionDuration": "600s",
            "deadLetterPolicy": {"deadLetterTopic": "projects/p/topics/dead", "maxDeliveryAttempts": 7},
        }
    )
    assert policy == DeliveryPolicy(
        ordered=True, retention_seconds=600.0, dead_letter_topic="projects/p/topics/dead", maximum_attempts=7
    )


def test_a_dead_letter_says_where_it_comes_from() -> None:
    message = Message("m7", b"body", {"kept": "yes"}, 1_700_000_000_123_456_789, "key")
    dead = dead_letter(message, SUBSCRIPTION, 5)
    assert (dead.data, dead.ordering_key) == (b"body", "key")
    assert dead.attributes == {
        "kept": "yes",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "s",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "p",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2023-11-14T22:13:20.123Z",
    }
