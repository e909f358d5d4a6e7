"""What a pushed message looks like on the wire: Pub/Sub's wrapped push body and Eventarc's CloudEvents. Pure.

Pub/Sub: https://cloud.google.com/pubsub/docs/payload-unwrapping and /push; Eventarc:
https://cloud.google.com/eventarc/docs/cloudevents. A push subscription with an OIDC token gets no `Authorization`
header here: the emulators sign nothing, and a header that looks like a token but proves nothing would let a missing
check pass. On Google Cloud the token is checked before a request reaches the function.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.clouds.gcp.delivery import Message

PUBSUB_EVENT = "google.cloud.pubsub.topic.v1.messagePublished"
STORAGE_EVENT_PREFIX = "google.cloud.storage.object.v1."
# Types of a trigger and what a bucket's notification calls them.
STORAGE_EVENTS: Mapping[str, str] = {
    f"{STORAGE_EVENT_PREFIX}finalized": "OBJECT_FINALIZE",
    f"{STORAGE_EVENT_PREFIX}deleted": "OBJECT_DELETE",
    f"{STORAGE_EVENT_PREFIX}archived": "OBJECT_ARCHIVE",
    f"{STORAGE_EVENT_PREFIX}metadataUpdated": "OBJECT_METADATA_UPDATE",
}


@dataclass(frozen=True)
class Envelope:
    """Headers and body of one POST."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def push_envelope(message: Message, subscription: str, attempt: int | None) -> Envelope:
    """Wrap a message as a push subscription does; `attempt` is given only under a dead letter policy."""
    body: dict[str, Any] = {"message": _message(message), "subscription": subscription}
    if attempt is not None:
        body["deliveryAttempt"] = attempt
    return Envelope(json.dumps(body).encode(), {"content-type": "application/json"})


def pubsub_event(message: Message, subscription: str, topic: str) -> Envelope:
    """Wrap a message as Eventarc does for a trigger on a topic: a CloudEvent in binary mode."""
    body = {"message": _message(message), "subscription": subscription}
    return Envelope(
        json.dumps(body).encode(),
        _event_headers(message, PUBSUB_EVENT, f"//pubsub.googleapis.com/{topic}"),
    )


def storage_event(message: Message, event_type: str, bucket: str) -> Envelope:
    """Wrap a bucket's notification as Eventarc does for a trigger on a bucket: the object's resource is the data."""
    headers = _event_headers(message, event_type, f"//storage.googleapis.com/projects/_/buckets/{bucket}")
    headers["ce-subject"] = f"objects/{message.attributes.get('objectId', '')}"
    headers["ce-bucket"] = bucket
    return Envelope(message.data, headers)


def _message(message: Message) -> dict[str, Any]:
    # Each name is sent twice, in both spellings, as Pub/Sub does.
    published = message.publish_time()
    wrapped: dict[str, Any] = {
        "attributes": dict(message.attributes),
        "messageId": message.id,
        "message_id": message.id,
        "publishTime": published,
        "publish_time": published,
    }
    if message.data:
        wrapped["data"] = base64.b64encode(message.data).decode()
    if message.ordering_key:
        wrapped["orderingKey"] = message.ordering_key
    return wrapped


def _event_headers(message: Message, event_type: str, source: str) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": message.id,
        "ce-type": event_type,
        "ce-source": source,
        "ce-time": message.publish_time(),
    }
