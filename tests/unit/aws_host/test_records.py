"""Events have Lambda's own shape, and what the emulators do differently is taken back."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from local.clouds.aws.event_sources.queue_messages import filter_view, message_event, succeeded_messages
from local.clouds.aws.event_sources.stream_records import encoded, event_payload, stream_record

ARN = "arn:aws:dynamodb:eu-central-1:123456789012:table/features/stream/2026-01-01T00:00:00.000"


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "eventID": "1",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "ddblocal",
        "dynamodb": {
            "ApproximateCreationDateTime": datetime.fromtimestamp(1_800_000_000, UTC),
            "Keys": {"entity": {"S": "user#1"}},
            "NewImage": {
                "entity": {"S": "user#1"},
                "e": {"B": b"\x00\xff"},
                "s": {"BS": [b"a", b"b"]},
                "m": {"M": {"l": {"L": [{"B": b"x"}, {"NULL": True}]}}},
                "v": {"N": "12.50"},
            },
            "SequenceNumber": "000000000000000000007",
            "SizeBytes": 30,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    } | changes


def test_binaries_are_base64_text_once_and_numbers_stay_text() -> None:
    event, _ = stream_record(raw(), ARN, "eu-central-1", now=1_800_000_030.5)
    image = event["dynamodb"]["NewImage"]
    assert image["e"] == {"B": "AP8="}
    assert image["s"] == {"BS": ["YQ==", "Yg=="]}
    assert image["m"] == {"M": {"l": {"L": [{"B": "eA=="}, {"NULL": True}]}}}
    assert image["v"] == {"N": "12.50"}
    assert (event["awsRegion"], event["eventSourceARN"]) == ("eu-central-1", ARN)


@pytest.mark.parametrize(
    ("stamp", "now", "expected"),
    # 1,800,000,000 is a whole minute: the emulator's cut. The service's own stamps are whole seconds.
    [
        (1_800_000_000, 1_800_000_030.5, 1_800_000_030),
        (1_800_000_000, 1_800_000_500.0, 1_800_000_059),
        (1_800_000_007, 1_800_000_030.0, 1_800_000_007),
    ],
)
def test_creation_times_cut_to_the_minute_are_mended(stamp: int, now: float, expected: int) -> None:
    record = raw()
    record["dynamodb"]["ApproximateCreationDateTime"] = datetime.fromtimestamp(stamp, UTC)
    event, _ = stream_record(record, ARN, "eu-central-1", now)
    assert event["dynamodb"]["ApproximateCreationDateTime"] == expected


def test_an_expiry_is_a_removal_by_the_service() -> None:
    event, _ = stream_record(raw(eventName="UNKNOWN_TO_SDK_VERSION"), ARN, "eu-central-1", now=0.0)
    assert event["eventName"] == "REMOVE"
    assert event["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}


def test_payload_is_the_records_in_order() -> None:
    event, created_at = stream_record(raw(), ARN, "eu-central-1", now=1_800_000_001.0)
    record = encoded(event, created_at)
    assert json.loads(event_payload([record.body, record.body])) == {"Records": [event, event]}
    assert record.partition == '{"entity": {"S": "user#1"}}'


def test_queue_message() -> None:
    message = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "Body": '{"kind": "manifest"}',
        "MD5OfBody": "d",
        "Attributes": {"ApproximateReceiveCount": "1"},
        "MessageAttributes": {
            "a": {"DataType": "String", "StringValue": "x"},
            "b": {"DataType": "Binary", "BinaryValue": b"\x00"},
        },
    }
    event = message_event(message, "arn:aws:sqs:eu-central-1:1:q", "eu-central-1")
    assert event["messageAttributes"]["a"]["stringValue"] == "x"
    assert event["messageAttributes"]["b"]["binaryValue"] == "AA=="
    assert filter_view(event)["body"] == {"kind": "manifest"}
    assert filter_view({**event, "body": "[1]"})["body"] == "[1]"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"{}", ["a", "b", "c"]),
        (b'{"batchItemFailures": [{"itemIdentifier": "b"}]}', ["a", "c"]),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', []),
        (b'{"batchItemFailures": [{"itemIdentifier": "zzz"}]}', []),
    ],
)
def test_partial_queue_answers(answer: bytes, expected: list[str]) -> None:
    assert succeeded_messages(answer, ["a", "b", "c"]) == expected
