"""What arrives: real event shapes of both clouds, decoded and bounded, nothing decided.

S3 notifications come inside SQS messages, keys URL-quoted, after a first `s3:TestEvent`
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html). Pub/Sub messages come as CloudEvents
whose data holds the message with base64 content (https://cloud.google.com/eventarc/docs/cloudevents).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from functions.errors import PermanentError


class EventError(PermanentError):
    """The event has a shape that its source never sends."""


@dataclass(frozen=True)
class PubSubMessage:
    """A message as a subscription delivers it."""

    identity: str
    body: str
    attributes: Mapping[str, str]


def created_keys(body: str) -> list[str]:
    """Return the keys of objects that an S3 notification says were created; none for a test event or a removal."""
    try:
        event = json.loads(body)
    except ValueError as error:
        raise EventError("message is no S3 notification") from error
    if not isinstance(event, dict):
        raise EventError("message is no S3 notification")
    if event.get("Event") == "s3:TestEvent":
        return []
    try:
        return [
            unquote_plus(record["s3"]["object"]["key"])
            for record in event["Records"]
            if str(record["eventName"]).startswith("ObjectCreated:")
        ]
    except (KeyError, TypeError) as error:
        raise EventError("message is no S3 notification") from error


def pubsub_message(data: Any) -> PubSubMessage:
    """Return the message in the data of a CloudEvent, or in the body of a push."""
    if isinstance(data, str | bytes):
        try:
            data = json.loads(data)
        except ValueError as error:
            raise EventError("event carries no Pub/Sub message") from error
    try:
        message = data["message"]
        body = base64.b64decode(message.get("data") or "", validate=True).decode()
        attributes = {str(name): str(value) for name, value in (message.get("attributes") or {}).items()}
        return PubSubMessage(str(message.get("messageId") or message.get("message_id") or ""), body, attributes)
    except (KeyError, TypeError, AttributeError, binascii.Error, UnicodeDecodeError) as error:
        raise EventError("event carries no Pub/Sub message") from error


def finalized_key(message: PubSubMessage) -> str | None:
    """Return the key of the object that a GCS notification says was finished, None for any other kind.

    https://cloud.google.com/storage/docs/pubsub-notifications (attributes).
    """
    if message.attributes.get("eventType") != "OBJECT_FINALIZE":
        return None
    return message.attributes.get("objectId")
