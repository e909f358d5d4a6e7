"""Pub/Sub pushes to functions: form, retries, dead letters, ordering, faults."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gcp_toys import ToyCloud, decoded, wait_for

from local.clouds.gcp.pubsub import PULL_SECONDS
from local.ground.client import GroundClient
from local.names import Cloud, FaultMode

QUICK_RETRY = {"minimumBackoff": "0.2s", "maximumBackoff": "2s"}


@pytest.fixture
def cloud(ground: GroundClient, tmp_path: Path) -> Iterator[ToyCloud]:
    toys = ToyCloud(ground, tmp_path)
    yield toys
    toys.clear()


def pushed(cloud: ToyCloud, topic: str, name: str = "push", **inputs: Any) -> str:
    """Deploy a toy function behind a push subscription and return the subscription's name."""
    url = cloud.function(name, "push")
    return cloud.subscription(f"{name}-sub", topic, pushConfig={"pushEndpoint": f"{url}/"}, **inputs)


def test_a_push_reaches_the_function_in_googles_form(cloud: ToyCloud) -> None:
    topic = cloud.topic("t")
    # The provider takes a topic's short name too.
    subscription = pushed(cloud, "t")
    (identity,) = cloud.publish(topic, "hello", kind="test")
    (call,) = wait_for(lambda: cloud.calls("push"), "the push")
    assert call["body"]["subscription"] == subscription
    assert "deliveryAttempt" not in call["body"]
    message = call["body"]["message"]
    assert message["messageId"] == message["message_id"] == identity
    assert message["attributes"] == {"kind": "test"}
    assert decoded(message) == "hello"
    assert "authorization" not in call["headers"]


def test_a_failing_push_is_retried_with_backoff_and_then_set_aside(cloud: ToyCloud) -> None:
    topic, dead = cloud.topic("t"), cloud.topic("dead")
    graves = cloud.subscription("graves", dead)
    policy = {"deadLetterTopic": dead, "maxDeliveryAttempts": 5}
    subscription = pushed(cloud, topic, retryPolicy=QUICK_RETRY, deadLetterPolicy=policy)
    (identity,) = cloud.publish(topic, "never", fail="99")
    cloud.publish(topic, "twice", fail="1")
    (message,) = wait_for(lambda: cloud.pulled(graves), "the dead letter")
    assert message.data == b"never"
    assert dict(message.attributes) == {
        "fail": "99",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "push-sub",
        "CloudPubSubDeadLetterSourceSubscriptionProject": cloud.project,
        "CloudPubSubDeadLetterSourceTopicPublishTime": message.attributes[
            "CloudPubSubDeadLetterSourceTopicPublishTime"
        ],
    }
    attempts = [call for call in cloud.calls("push") if call["id"] == identity]
    assert [call["body"]["deliveryAttempt"] for call in attempts] == [1, 2, 3, 4, 5]
    times = [call["time"] for call in attempts]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap >= least for gap, least in zip(gaps, [0.2, 0.4, 0.8, 1.6], strict=True)), gaps
    assert sum(call["text"] == "twice" for call in cloud.calls("push")) == 2
    counted = cloud.statistics()["subscriptions"][subscription]
    assert (counted["delivered"], counted["dead_lettered"], counted["waiting"]) == (1, 1, 0)


def test_messages_of_one_key_stay_in_order_through_failures(cloud: ToyCloud) -> None:
    topic = cloud.topic("t")
    pushed(cloud, topic, retryPolicy=QUICK_RETRY, enableMessageOrdering=True)
    cloud.publish(topic, "0", key="a", fail="2")
    for number in range(1, 10):
        cloud.publish(topic, str(number), key="a")
        cloud.publish(topic, str(number), key="b")
    wait_for(lambda: len(cloud.calls("push")) >= 21, "all messages and two repeats")
    order = [call["text"] for call in cloud.calls("push") if call["key"] == "a"]
    assert order == ["0", "0", *map(str, range(10))]
    assert [call["text"] for call in cloud.calls("push") if call["key"] == "b"] == [*map(str, range(1, 10))]


def test_two_subscriptions_count_attempts_apart(cloud: ToyCloud) -> None:
    topic, dead = cloud.topic("t"), cloud.topic("dead")
    graves = cloud.subscription("graves", dead)
    policy = {"deadLetterTopic": dead, "maxDeliveryAttempts": 5}
    one = pushed(cloud, topic, "one", retryPolicy=QUICK_RETRY, deadLetterPolicy=policy)
    other = pushed(cloud, topic, "other", retryPolicy=QUICK_RETRY, deadLetterPolicy=policy)
    cloud.publish(topic, "four failures are allowed", fail="4")

    def delivered() -> bool:
        counted = cloud.statistics()["subscriptions"]
        return bool(counted[one]["delivered"] and counted[other]["delivered"])

    wait_for(delivered, "both deliveries at the fifth attempt")
    assert cloud.pulled(graves) == []


def test_a_killed_cloud_loses_no_message(cloud: ToyCloud) -> None:
    topic = cloud.topic("t")
    subscription = pushed(cloud, topic, retryPolicy=QUICK_RETRY)
    identities = set(cloud.publish(topic, *map(str, range(150)), sleep="0.05"))
    wait_for(lambda: len(cloud.calls("push")) > 20, "work under way")
    cloud.ground.fault(Cloud.GCP, FaultMode.KILL)
    before = len(cloud.calls("push"))
    assert before < 150
    cloud.ground.restore(Cloud.GCP)
    wait_for(lambda: {call["id"] for call in cloud.calls("push")} == identities, "every message")
    wait_for(lambda: cloud.statistics()["subscriptions"][subscription]["waiting"] == 0, "an empty backlog")


@pytest.mark.parametrize("mode", [FaultMode.BLACK_HOLE, FaultMode.HANG])
def test_a_cut_cloud_makes_no_attempts_and_resumes(cloud: ToyCloud, mode: FaultMode) -> None:
    topic, dead = cloud.topic("t"), cloud.topic("dead")
    policy = {"deadLetterTopic": dead, "maxDeliveryAttempts": 5}
    retry = {"minimumBackoff": "3s", "maximumBackoff": "3s"}
    subscription = pushed(cloud, topic, retryPolicy=retry, deadLetterPolicy=policy)
    cloud.publish(topic, "first", fail="1")
    (first,) = wait_for(lambda: cloud.calls("push"), "the first attempt")
    cloud.ground.fault(Cloud.GCP, mode)
    try:
        # The second attempt falls due while the cloud is cut off, and a hanging call has ended before.
        wait_for(lambda: time.time() > first["time"] + PULL_SECONDS + 3, "time to pass")
        calls = cloud.calls("push")
    finally:
        cloud.ground.restore(Cloud.GCP)
    assert len(calls) <= (1 if mode is FaultMode.BLACK_HOLE else 2)
    cloud.publish(topic, "second")
    wait_for(lambda: cloud.statistics()["subscriptions"][subscription]["delivered"] == 2, "both after the cut")
