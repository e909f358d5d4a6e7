"""SQS messages as Lambda hands them to a function (docs.aws.amazon.com/lambda/latest/dg/with-sqs.html)."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from local.clouds.aws.event_sources.decisions import failed_identifiers


def message_event(message: Mapping[str, Any], source_arn: str, region: str) -> dict[str, Any]:
    """Return a received message in the shape of a Lambda event."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {
            name: _message_attribute(value) for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": source_arn,
        "awsRegion": region,
    }


def filter_view(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as its filter sees it: a body that holds a JSON object is matched by its parts."""
    try:
        body = json.loads(event["body"])
    except ValueError:
        body = event["body"]
    return {**event, "body": body if isinstance(body, dict) else event["body"]}


def succeeded_messages(answer: bytes, identifiers: Sequence[str]) -> list[str]:
    """Return the message ids to delete after a partial batch response; a broken response fails them all."""
    failed = failed_identifiers(answer)
    if any(identifier is None or identifier not in identifiers for identifier in failed):
        return []
    return [identifier for identifier in identifiers if identifier not in failed]


def _message_attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    attribute: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        attribute["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        attribute["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return attribute
