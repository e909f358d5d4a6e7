"""Messages there and back: nothing lost, nothing cut, limits named."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.bridge.errors import UncarriableMessageError
from functions.bridge.parcel import (
    ENCODING,
    IDENTITY,
    ORIGIN,
    SQS_ATTRIBUTES,
    Parcel,
    from_pubsub,
    from_sqs,
    to_pubsub,
    to_sqs,
)
from functions.events import EventError
from functions.settings import Site

NAMES = st.text(min_size=1, max_size=20).filter(lambda name: not name.startswith(("lifeboat_", "goog")))
TEXTS = st.text(max_size=60)


@st.composite
def parcels(draw: st.DrawFn) -> Parcel:
    attributes = draw(st.dictionaries(NAMES, TEXTS, max_size=14))
    types = {}
    for name in attributes:
        kind = draw(st.sampled_from(["String", "String", "Binary", "String.note"]))
        if kind == "Binary":
            attributes[name] = base64.b64encode(draw(st.binary(min_size=1, max_size=20))).decode()
        if kind != "String":
            types[name] = kind
    return Parcel(
        identity=draw(st.text("abcdef0123456789-", min_size=1, max_size=40)),
        origin=draw(st.sampled_from(Site)),
        data=draw(st.binary(max_size=200) | TEXTS.map(str.encode)),
        attributes=attributes,
        types=types,
        key=draw(TEXTS),
    )


def as_lambda(entry: dict[str, Any]) -> dict[str, Any]:
    """What the event source mapping hands over for an entry that was sent."""
    attributes: dict[str, Any] = {}
    for name, value in entry["MessageAttributes"].items():
        attributes[name] = {"dataType": value["DataType"]}
        if "BinaryValue" in value:
            attributes[name]["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
        else:
            attributes[name]["stringValue"] = value["StringValue"]
    system = {"MessageGroupId": entry["MessageGroupId"]} if "MessageGroupId" in entry else {}
    return json.loads(  # type: ignore[no-any-return]
        json.dumps(
            {
                "messageId": "second-hop",
                "body": entry["MessageBody"],
                "messageAttributes": attributes,
                "attributes": {"ApproximateReceiveCount": "1", **system},
            }
        )
    )


def as_push(parcel: Parcel) -> dict[str, Any]:
    sent = to_pubsub(parcel)
    message = {"data": base64.b64encode(sent.data).decode(), "attributes": dict(sent.attributes), "messageId": "9"}
    return {"message": {**message, "orderingKey": sent.key} if sent.key else message}


@given(parcels())
def test_a_parcel_crosses_pubsub_unchanged(parcel: Parcel) -> None:
    assert from_pubsub(as_push(parcel), Site.GCP) == parcel


@given(parcels())
def test_a_parcel_crosses_a_standard_queue_unchanged(parcel: Parcel) -> None:
    entry = to_sqs(parcel, fifo=False)
    assert len(entry["MessageAttributes"]) <= SQS_ATTRIBUTES
    assert from_sqs(as_lambda(entry), Site.AWS) == parcel


@given(parcels())
def test_a_fifo_queue_keeps_key_and_identity(parcel: Parcel) -> None:
    entry = to_sqs(parcel, fifo=True)
    again = from_sqs(as_lambda(entry), Site.AWS)
    # Without a key the queue still wants a group: the message's own, so that it waits for no other.
    expected = parcel.key or entry["MessageGroupId"]
    assert (again.key, again.data, again.attributes) == (expected, parcel.data, parcel.attributes)
    assert entry["MessageDeduplicationId"] == parcel.identity
    assert 1 <= len(entry["MessageGroupId"]) <= 128


def test_a_queues_message_gets_the_bridges_marks_once() -> None:
    first = from_sqs({"messageId": "m-1", "body": "hello", "attributes": {"MessageGroupId": "user-7"}}, Site.AWS)
    sent = to_pubsub(first)
    assert (sent.data, sent.key) == (b"hello", "user-7")
    assert sent.attributes == {IDENTITY: "m-1", ORIGIN: "aws"}
    second = from_pubsub(as_push(first), Site.GCP)
    assert (second.identity, second.origin) == ("m-1", Site.AWS)


def test_bytes_that_are_no_text_travel_as_base64_and_are_decoded_once() -> None:
    parcel = Parcel("1", Site.GCP, b"\x00\xff" * 4)
    entry = to_sqs(parcel, fifo=False)
    assert entry["MessageAttributes"][ENCODING]["StringValue"] == "base64"
    assert base64.b64decode(entry["MessageBody"]) == parcel.data
    assert from_sqs(as_lambda(entry), Site.AWS).data == parcel.data


@pytest.mark.parametrize(
    "parcel",
    [
        Parcel("1", Site.AWS, b"x", {"long": "v" * 1_025}),
        Parcel("1", Site.AWS, b"x", {f"name{index}": "v" for index in range(99)}),
        Parcel("1", Site.AWS, b"x" * (4 << 20)),
        Parcel("1", Site.AWS, b"x", key="k" * 1_025),
        Parcel("1", Site.AWS, b"x", {"google": "reserved"}),
    ],
    ids=["value", "count", "size", "key", "name"],
)
def test_what_pubsub_never_takes_is_refused_by_name(parcel: Parcel) -> None:
    with pytest.raises(UncarriableMessageError, match="message 1 can't go to Pub/Sub"):
        to_pubsub(parcel)


def test_what_sqs_never_takes_is_refused_with_its_size() -> None:
    with pytest.raises(UncarriableMessageError, match="SQS takes 245760"):
        to_sqs(Parcel("1", Site.GCP, b"x" * 250_000), fifo=False)


@pytest.mark.parametrize("record", [{}, {"messageId": "1"}, {"body": "x"}])
def test_what_is_no_queue_message_is_an_event_error(record: dict[str, Any]) -> None:
    with pytest.raises(EventError):
        from_sqs(record, Site.AWS)


@pytest.mark.parametrize("data", ["no json", {"message": {}}, {"message": {"messageId": "1", "data": "*"}}, None])
def test_what_is_no_push_is_an_event_error(data: Any) -> None:
    with pytest.raises(EventError):
        from_pubsub(data, Site.GCP)
