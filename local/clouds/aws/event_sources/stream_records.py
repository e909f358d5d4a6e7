"""Stream records as Lambda hands them to a function, made from what the streams API returns.

The emulator's differences from the service are taken back here: it writes expiries under an unknown event name without a
user identity, and cuts creation times down to the minute.
"""

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

from local.clouds.aws.event_sources.decisions import StreamRecord

# What an SDK shows for an event name that its model lacks: DynamoDB Local's name for an expiry.
UNKNOWN_EVENT = "UNKNOWN_TO_SDK_VERSION"
SERVICE_IDENTITY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
MINUTE_SECONDS = 60


def stream_record(record: Mapping[str, Any], source_arn: str, region: str, now: float) -> tuple[dict[str, Any], float]:
    """Return a record in the shape of a Lambda event and its time of creation in epoch seconds.

    Shape: docs.aws.amazon.com/lambda/latest/dg/with-ddb.html. `now` bounds the creation time from above.
    """
    change = dict(record["dynamodb"])
    created_at = _created_at(change.get("ApproximateCreationDateTime"), now)
    change["ApproximateCreationDateTime"] = float(int(created_at))
    for image in ("Keys", "NewImage", "OldImage"):
        if image in change:
            change[image] = {name: _attribute(value) for name, value in change[image].items()}
    name = str(record.get("eventName", ""))
    event: dict[str, Any] = {
        "eventID": record.get("eventID") or uuid.uuid4().hex,
        "eventName": "REMOVE" if name == UNKNOWN_EVENT else name,
        "eventVersion": record.get("eventVersion") or "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": region,
        "dynamodb": change,
        "eventSourceARN": source_arn,
    }
    identity = record.get("userIdentity")
    if name == UNKNOWN_EVENT:
        event["userIdentity"] = dict(SERVICE_IDENTITY)
    elif identity:
        event["userIdentity"] = {"type": identity.get("Type"), "principalId": identity.get("PrincipalId")}
    return event, created_at


def encoded(event: Mapping[str, Any], created_at: float) -> StreamRecord:
    """Return a record with its JSON, made once: batches that are split or tried again only join it anew."""
    change = event["dynamodb"]
    return StreamRecord(
        sequence_number=str(change["SequenceNumber"]),
        partition=json.dumps(change["Keys"], sort_keys=True),
        created_at=created_at,
        body=json.dumps(event, separators=(",", ":")).encode(),
    )


def event_payload(bodies: list[bytes]) -> bytes:
    """Return the event of one invocation."""
    return b'{"Records":[' + b",".join(bodies) + b"]}"


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    kind, content = next(iter(value.items()))
    if kind == "B":
        return {kind: base64.b64encode(content).decode()}
    if kind == "BS":
        return {kind: [base64.b64encode(item).decode() for item in content]}
    if kind == "M":
        return {kind: {name: _attribute(item) for name, item in content.items()}}
    if kind == "L":
        return {kind: [_attribute(item) for item in content]}
    return {kind: content}


def _created_at(stamp: Any, now: float) -> float:
    """Return the latest time that agrees with a stamp: the emulator's stamps are cut down to the minute."""
    if stamp is None:
        return now
    seconds = float(stamp.timestamp())
    if seconds % MINUTE_SECONDS == 0:
        return max(min(now, seconds + MINUTE_SECONDS - 1), seconds)
    return seconds
