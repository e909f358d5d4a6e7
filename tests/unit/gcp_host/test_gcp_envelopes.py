"""Pushed messages on the wire, and what functions-framework makes of them."""

import base64
import json

from cloudevents.http import from_http

from local.clouds.gcp.delivery import Message
from local.clouds.gcp.envelopes import PUBSUB_EVENT, pubsub_event, push_envelope, storage_event

SUBSCRIPTION = "projects/p/subscriptions/s"
TOPIC = "projects/p/topics/t"
MESSAGE = Message("m1", b"hello", {"kind": "test"}, 1_700_000_000_120_000_000, "key")


def test_a_push_body_has_googles_form() -> None:
    envelope = push_envelope(MESSAGE, SUBSCRIPTION, attempt=None)
    assert json.loads(envelope.body) == {
        "message": {
            "attributes": {"kind": "test"},
            "data": base64.b64encode(b"hello").decode(),
            "messageId": "m1",
            "message_id": "m1",
            "publishTime": "2023-11-14T22:13:20.120Z",
            "publish_time": "2023-11-14T22:13:20.120Z",
            "orderingKey": "key",
        },
        "subscription": SUBSCRIPTION,
    }
    assert "authorization" not in {name.lower() for name in envelope.headers}


def test_the_attempt_is_counted_only_under_a_dead_letter_policy() -> None:
    assert json.loads(push_envelope(MESSAGE, SUBSCRIPTION, attempt=3).body)["deliveryAttempt"] == 3


def test_absent_parts_are_left_out() -> None:
    message = json.loads(push_envelope(Message("m1", b"", {"a": "b"}, 0), SUBSCRIPTION, None).body)["message"]
    assert "data" not in message
    assert "orderingKey" not in message


def test_a_trigger_on_a_topic_gets_a_cloud_event() -> None:
    envelope = pubsub_event(MESSAGE, SUBSCRIPTION, TOPIC)
    event = from_http(dict(envelope.headers), envelope.body)
    assert (event["type"], event["source"], event["id"]) == (PUBSUB_EVENT, f"//pubsub.googleapis.com/{TOPIC}", "m1")
    assert base64.b64decode(event.data["message"]["data"]) == b"hello"
    assert event.data["subscription"] == SUBSCRIPTION


def test_a_trigger_on_a_bucket_gets_the_object() -> None:
    body = {"name": "manifests/a.json", "bucket": "b", "generation": "1"}
    message = Message("m1", json.dumps(body).encode(), {"objectId": "manifests/a.json"}, 0)
    envelope = storage_event(message, "google.cloud.storage.object.v1.finalized", "b")
    event = from_http(dict(envelope.headers), envelope.body)
    assert event["source"] == "//storage.googleapis.com/projects/_/buckets/b"
    assert event["subject"] == "objects/manifests/a.json"
    assert event.data == body
