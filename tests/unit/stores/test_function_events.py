"""Events and batches: real shapes understood, one message's fault never its neighbour's, reasons that every queue can carry."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from functions import batch, telemetry
from functions.errors import NotReadyError, PermanentError, TransientError
from functions.events import EventError, created_keys, finalized_key, pubsub_message
from functions.parking import MOST_REASON_CHARACTERS, park_message, reason_text
from functions.stores.protocols import Message
from functions.stores.queues import _batches

EVENTS = Path(__file__).parents[2] / "events"
VERSION = "3f" * 32


def test_s3_notifications_are_read_and_their_keys_unquoted() -> None:
    bodies = [record["body"] for record in json.loads((EVENTS / "s3_in_sqs.json").read_text())["Records"]]
    assert [created_keys(body) for body in bodies] == [
        [],
        [f"manifests/recommender/{VERSION}.json"],
        ["models/a b/ü 1.bin"],
        [],
    ]


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"Records": 1}', '{"Records": [{}]}', '{"Records": [{"eventName": "x", "s3": 1}]}']
)
def test_what_is_no_notification_is_refused(body: str) -> None:
    if body == '{"Records": [{"eventName": "x", "s3": 1}]}':
        body = body.replace('"x"', '"ObjectCreated:Put"')
    with pytest.raises(EventError):
        created_keys(body)


def test_pubsub_messages_are_read() -> None:
    push = json.loads((EVENTS / "pubsub_push.json").read_text())
    message = pubsub_message(push)
    assert (message.identity, message.body) == ("2070443601311540", '{"pack":"packs/x"}')
    assert message.attributes == {"model": "recommender", "version": VERSION}
    assert pubsub_message(json.dumps(push)) == message
    assert pubsub_message({"message": {"attributes": {"a": "b"}}}).body == ""
    gcs = pubsub_message(json.loads((EVENTS / "gcs_notification.json").read_text()))
    assert finalized_key(gcs) == f"manifests/recommender/{VERSION}.json"
    assert finalized_key(message) is None


@pytest.mark.parametrize(
    "data", [None, "", "{", {}, {"message": None}, {"message": {"data": "%"}}, {"message": {"data": "/w=="}}]
)
def test_what_is_no_message_is_refused(data: object) -> None:
    with pytest.raises(EventError):
        pubsub_message(data)


@dataclass
class Source:
    waits: list[int] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    broken: bool = False

    def again_after(self, record: Mapping[str, Any], seconds: int) -> None:
        if self.broken:
            raise TransientError("queue is gone")
        self.waits.append(seconds)

    def park(self, record: Mapping[str, Any], reason: str) -> None:
        if self.broken:
            raise TransientError("queue is gone")
        self.parked.append(reason)


def raising(error: Exception) -> Callable[[str], None]:
    def handle(body: str) -> None:
        if body == "bad":
            raise error

    return handle


def event(tries: int = 1) -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": str(tries)}
    return {
        "Records": [{"messageId": name, "body": name, "attributes": attributes} for name in ("good", "bad", "last")]
    }


BAD = {"batchItemFailures": [{"itemIdentifier": "bad"}]}


def test_each_kind_of_fault_is_answered_in_its_way() -> None:
    source = Source()
    assert batch.run(event(), raising(NotReadyError("soon")), source) == BAD
    assert batch.run(event(), raising(TransientError("later")), source) == BAD
    assert batch.run(event(), raising(ZeroDivisionError("bug")), source) == BAD
    assert source.waits == [1, 1]
    assert batch.run(event(), raising(PermanentError("never")), source) == {"batchItemFailures": []}
    assert source.parked == ["never"]


@pytest.mark.parametrize("error", [NotReadyError("soon"), TransientError("later"), PermanentError("never")])
def test_a_message_that_can_be_neither_parked_nor_delayed_comes_again(error: Exception) -> None:
    assert batch.run(event(), raising(error), Source(broken=True)) == BAD


def test_waits_grow_and_are_bounded() -> None:
    source = Source()
    for tries in range(1, 51):
        batch.run(event(tries), raising(NotReadyError("soon")), source)
    assert source.waits[:10] == [1] * 10
    assert source.waits == sorted(source.waits)
    assert max(source.waits) == 300
    assert sum(source.waits) > 3_600
    batch.run(event(10**9), raising(TransientError("later")), source)
    assert source.waits[-1] == 300


def test_reasons_fit_every_queue() -> None:
    assert reason_text("ü\n" + "x" * 5_000) == "??" + "x" * (MOST_REASON_CHARACTERS - 2)
    assert reason_text("") == "unknown"
    sent: list[Message] = []

    class Queue:
        def publish(self, messages: Any) -> None:
            sent.extend(messages)

    park_message(Queue(), "", {"a": "b"}, "why")
    assert sent == [Message("{}", {"a": "b", "reason": "why"})]


def test_batches_keep_to_both_limits_and_lose_nothing() -> None:
    messages = [Message("x" * size) for size in (5, 5, 1, 100, 1, 1, 1, 1)]
    found = list(_batches(messages, 3, 11))
    assert [len(each) for each in found] == [3, 1, 3, 1]
    assert [message for each in found for message in each] == messages
    assert list(_batches([], 3, 11)) == []


def test_metric_lines_are_what_cloudwatch_reads(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.emit("Lifeboat", {"site": "aws"}, {"applied": (3, "Count")})
    line = json.loads(capsys.readouterr().out)
    assert (line["site"], line["applied"]) == ("aws", 3)
    assert line["_aws"]["CloudWatchMetrics"] == [
        {"Namespace": "Lifeboat", "Dimensions": [["site"]], "Metrics": [{"Name": "applied", "Unit": "Count"}]}
    ]
