"""The functions host: archives, revisions, limits, crashes, triggers of topics and buckets."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gcp_toys import FUNCTION, NOTIFICATION, TOY_MAIN, ToyCloud, archive, process_ids, wait_for

from local.ground.client import GroundClient

TOPIC_EVENT = "google.cloud.pubsub.topic.v1.messagePublished"
OBJECT_EVENT = "google.cloud.storage.object.v1.finalized"


@pytest.fixture
def cloud(ground: GroundClient, tmp_path: Path) -> Iterator[ToyCloud]:
    toys = ToyCloud(ground, tmp_path)
    yield toys
    toys.clear()


@pytest.fixture
def internet(ground: GroundClient) -> Iterator[httpx.Client]:
    with httpx.Client(proxy=ground.endpoints.probe_proxy, timeout=30, trust_env=False) as client:
        yield client


def plain(url: str) -> str:
    """Return a function's URL as the ground's internet serves it."""
    return url.replace("https://", "http://")


def test_a_function_answers_at_its_own_hostname(cloud: ToyCloud, internet: httpx.Client) -> None:
    url = plain(cloud.function("hello", "hello"))
    answer = internet.get(f"{url}/any/path")
    assert (answer.status_code, answer.text) == (200, "1")


def test_a_new_revision_takes_over_without_losing_a_request(cloud: ToyCloud, internet: httpx.Client) -> None:
    url = plain(cloud.function("hello", "hello"))
    answers: list[tuple[int, str]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answer = internet.get(f"{url}/?sleep=0.05")
            answers.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    inputs = cloud.function_inputs(cloud.upload_code(archive(version="2")), "hello")
    updated = cloud.operation("update", FUNCTION, cloud.function_id("hello"), inputs, {"url": cloud.url("hello")})
    assert updated.status_code == 200, updated.text
    wait_for(lambda: answers[-1:] == [(200, "2")], "an answer of the new revision")
    done.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {200}
    assert {text for _, text in answers} == {"1", "2"}


def test_a_broken_revision_leaves_the_old_one_serving(cloud: ToyCloud, internet: httpx.Client) -> None:
    url = plain(cloud.function("hello", "hello"))
    broken = archive(main="raise RuntimeError('broken on purpose')\n")
    inputs = cloud.function_inputs(cloud.upload_code(broken), "hello")
    answer = cloud.operation("update", FUNCTION, cloud.function_id("hello"), inputs, {"url": cloud.url("hello")})
    assert answer.status_code == 422
    assert "broken on purpose" in answer.json()["error"]
    assert internet.get(url).text == "1"


def test_a_request_over_the_time_limit_ends_and_the_function_goes_on(cloud: ToyCloud, internet: httpx.Client) -> None:
    url = plain(cloud.function("slow", "hello", timeoutSeconds=1, maxInstanceCount=1))
    started = time.monotonic()
    assert internet.get(f"{url}/?sleep=20").status_code == 504
    assert time.monotonic() - started < 5
    wait_for(lambda: internet.get(url).status_code == 200, "an answer after the hanging one")


def test_a_crash_is_retried_on_a_new_process(cloud: ToyCloud) -> None:
    topic = cloud.topic("t")
    url = cloud.function("crash", "push")
    push = {"pushEndpoint": url}
    subscription = cloud.subscription("s", topic, pushConfig=push, retryPolicy={"minimumBackoff": "0.1s"})
    cloud.publish(topic, "hello", crash="1")
    wait_for(lambda: cloud.statistics()["subscriptions"][subscription]["delivered"] == 1, "a delivery after the crash")
    assert len(cloud.calls("crash")) == 2


@pytest.mark.parametrize("package", ["functions.toy", "infra", "local"])
def test_the_source_tree_cannot_be_imported(cloud: ToyCloud, package: str) -> None:
    code = archive(main=f"import {package}\n{TOY_MAIN}", package=False)
    inputs = cloud.function_inputs(cloud.upload_code(code), "hello")
    answer = cloud.operation("create", FUNCTION, cloud.function_id("stray"), inputs, {"url": cloud.url("stray")})
    assert answer.status_code == 422
    assert "ModuleNotFoundError" in answer.json()["error"]


def test_more_requests_than_places_start_another_process(cloud: ToyCloud, internet: httpx.Client) -> None:
    url = plain(cloud.function("busy", "hello", maxInstanceRequestConcurrency=1))
    threads = [threading.Thread(target=internet.get, args=(f"{url}/?sleep=1.5",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    function = cloud.function_id("busy")
    wait_for(lambda: cloud.statistics()["functions"][function]["instances"] == 2, "a second instance")
    for thread in threads:
        thread.join()
    counted = cloud.statistics()["functions"][function]
    assert (counted["succeeded"], counted["refused"]) == (4, 0)


def test_a_deleted_function_leaves_no_process(cloud: ToyCloud) -> None:
    cloud.function("gone", "hello")
    pattern = f"/{cloud.statistics()['functions'][cloud.function_id('gone')]['revision']}"
    pattern = pattern.removeprefix("/")
    assert process_ids(pattern)
    assert cloud.operation("delete", FUNCTION, cloud.function_id("gone"), {}, {}).status_code == 200
    assert process_ids(pattern) == []


def test_a_topic_trigger_retries_or_gives_up_as_told(cloud: ToyCloud) -> None:
    topic = cloud.topic("t")
    retried = {"eventType": TOPIC_EVENT, "pubsubTopic": topic, "retryPolicy": "RETRY_POLICY_RETRY"}
    once = {"eventType": TOPIC_EVENT, "pubsubTopic": topic, "retryPolicy": "RETRY_POLICY_DO_NOT_RETRY"}
    cloud.function("retried", "event", trigger=retried)
    cloud.function("once", "event", trigger=once)
    cloud.publish(topic, "hello", fail="1")
    (first, second) = wait_for(lambda: len(cloud.calls("retried")) == 2 and cloud.calls("retried"), "the retry")
    assert second["time"] - first["time"] >= 10
    assert (first["type"], first["source"]) == (TOPIC_EVENT, f"//pubsub.googleapis.com/{topic}")
    assert first["data"]["subscription"].startswith(f"projects/{cloud.project}/subscriptions/eventarc-europe-west4-")
    assert len(cloud.calls("once")) == 1


def test_an_upload_under_the_prefix_reaches_the_function(cloud: ToyCloud) -> None:
    topic, bucket = cloud.topic("events"), cloud.bucket("data")
    cloud.create(
        NOTIFICATION,
        f"{bucket}/notificationConfigs/1",
        {
            "bucket": bucket,
            "topic": topic,
            "payloadFormat": "JSON_API_V1",
            "eventTypes": ["OBJECT_FINALIZE"],
            "objectNamePrefix": "manifests/",
        },
    )
    cloud.function("verify", "event", trigger={"eventType": TOPIC_EVENT, "pubsubTopic": topic})
    cloud.put_object(bucket, "packs/ignored", b"x")
    cloud.put_object(bucket, "manifests/first.json", b"{}")
    # An overwrite also archives the old version: an event of another type, which is not asked for.
    cloud.put_object(bucket, "manifests/first.json", b"[]")
    cloud.put_object(bucket, "manifests/last.json", b"{}")

    def objects() -> list[str]:
        return sorted(call["data"]["message"]["attributes"]["objectId"] for call in cloud.calls("verify"))

    wanted = ["manifests/first.json", "manifests/first.json", "manifests/last.json"]
    wait_for(lambda: objects() == wanted, "exactly the events of the prefix")


def test_a_bucket_trigger_gets_the_object_as_a_cloud_event(cloud: ToyCloud) -> None:
    bucket = cloud.bucket("data")
    filters = [{"attribute": "bucket", "value": bucket}]
    trigger = {"eventType": OBJECT_EVENT, "eventFilters": filters, "retryPolicy": "RETRY_POLICY_RETRY"}
    cloud.function("object", "event", trigger=trigger)
    cloud.put_object(bucket, "a/b.txt", b"hello")
    (call,) = wait_for(lambda: cloud.calls("object"), "the event")
    assert call["type"] == OBJECT_EVENT
    assert call["source"] == f"//storage.googleapis.com/projects/_/buckets/{bucket}"
    assert (call["data"]["name"], call["data"]["size"]) == ("a/b.txt", "5")
