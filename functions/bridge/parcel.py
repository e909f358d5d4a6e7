"""A message on its way over the bridge, and its exact form on either side.

Both providers' messages become a parcel and a parcel becomes either provider's message, without loss: bytes, attributes with
their types, ordering key, and the id that the first provider gave. Names that begin with `lifeboat_` are the bridge's own. What
a provider's limits do not allow is refused with the reason and never cut short.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from functions.bridge.errors import UncarriableMessageError
from functions.events import EventError
from functions.settings import Site

# The site that a message first entered the bridge on: the loop guard.
ORIGIN = "lifeboat_origin"
# The id that the first provider gave: what receivers know a repeat by.
IDENTITY = "lifeboat_id"
# JSON, name to SQS data type, for attributes that are no plain strings.
TYPES = "lifeboat_types"
# Set to base64 or empty where a body is no text that SQS takes.
ENCODING = "lifeboat_encoding"
# The ordering key on a queue that has no message groups.
KEY = "lifeboat_key"
# All attributes as one JSON map, where there are more, or other ones, than SQS takes.
PACKED = "lifeboat_attributes"
_OWN = frozenset((ORIGIN, IDENTITY, TYPES, ENCODING, KEY, PACKED))

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html: 10 attributes a message, and
# 256 KiB that every region has long taken, less some room for the entry around it.
SQS_ATTRIBUTES, SQS_BYTES = 10, 240 * 1024
# https://cloud.google.com/pubsub/quotas: 100 attributes, 256 and 1,024 bytes, keys of 1,024 bytes; a server with gRPC's default
# limit takes 4 MiB a call.
PUBSUB_ATTRIBUTES, PUBSUB_NAME_BYTES, PUBSUB_VALUE_BYTES, PUBSUB_KEY_BYTES = 100, 256, 1_024, 1_024
PUBSUB_BYTES = 3 << 20

# What an SQS body and a string attribute may hold (API reference, SendMessage): these, and nothing outside XML's characters.
_SQS_TEXT = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_SQS_NAME = re.compile(r"(?!aws\.|amazon\.)(?!.*\.\.)[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}(?<!\.)", re.IGNORECASE)
# Ids of groups and deduplication: up to 128 of these (API reference, SendMessage).
_SQS_ID = re.compile(r"""[A-Za-z0-9!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}""")
_STRING = "String"
_BASE64, _EMPTY = "base64", "empty"


@dataclass(frozen=True)
class Parcel:
    """One message. `types` names the SQS data type of attributes that are no plain strings; a binary one is base64 text."""

    identity: str
    origin: Site
    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True)
class Outgoing:
    """A message as Pub/Sub takes it."""

    data: bytes
    attributes: Mapping[str, str]
    key: str

    @property
    def size(self) -> int:
        """Return about how many bytes it is on the wire."""
        return len(self.data) + sum(len(name) + len(value) for name, value in self.attributes.items())


def from_sqs(record: Mapping[str, Any], here: Site) -> Parcel:
    """Read a message as Lambda hands it over. Raises EventError for what is none."""
    try:
        given = record.get("messageAttributes") or {}
        system = record.get("attributes") or {}
        values, types = _typed(given)
        own = {name: values.pop(name) for name in _OWN & values.keys()}
        body = str(record["body"])
        data = _decode(body, own.get(ENCODING))
        if PACKED in own:
            values = {str(name): str(value) for name, value in json.loads(own[PACKED]).items()}
        if TYPES in own:
            types = {str(name): str(value) for name, value in json.loads(own[TYPES]).items()}
        return Parcel(
            identity=own.get(IDENTITY) or str(record["messageId"]),
            origin=_site(own.get(ORIGIN), here),
            data=data,
            attributes=values,
            types={name: kind for name, kind in types.items() if name in values},
            key=own.get(KEY) or str(system.get("MessageGroupId") or ""),
        )
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise EventError(f"event carries no SQS message ({error})") from error


def to_sqs(parcel: Parcel, fifo: bool) -> dict[str, Any]:
    """Return the entry of a SendMessageBatch, its `Id` left to the sender.

    On a FIFO queue the ordering key is the group and the first provider's id is what the queue's window of five minutes
    recognises a repeat by; messages without a key each get a group of their own, so that none waits for another.
    """
    body, encoding = _encode(parcel.data)
    own = {IDENTITY: parcel.identity, ORIGIN: parcel.origin.value}
    if encoding:
        own[ENCODING] = encoding
    if parcel.key and not (fifo and _SQS_ID.fullmatch(parcel.key)):
        own[KEY] = parcel.key
    attributes = _native(parcel, own) or _packed(parcel, own)
    entry: dict[str, Any] = {"MessageBody": body, "MessageAttributes": attributes}
    if fifo:
        entry["MessageDeduplicationId"] = _sqs_id(parcel.identity)
        entry["MessageGroupId"] = _sqs_id(parcel.key or parcel.identity)
    if (size := entry_bytes(entry)) > SQS_BYTES:
        raise UncarriableMessageError(
            f"message {parcel.identity} has {size} bytes, SQS takes {SQS_BYTES}; send a reference"
        )
    return entry


def entry_bytes(entry: Mapping[str, Any]) -> int:
    """Return what SQS counts of an entry: the body, and names, types and values of its attributes."""
    total = len(str(entry["MessageBody"]).encode())
    for name, value in entry["MessageAttributes"].items():
        content = value.get("BinaryValue", value.get("StringValue", "").encode())
        total += len(name) + len(value["DataType"]) + len(content)
    return total


def from_pubsub(data: Any, here: Site) -> Parcel:
    """Read the data of a CloudEvent, or the body of a push. Raises EventError for what is none."""
    try:
        if isinstance(data, str | bytes):
            data = json.loads(data)
        message = data["message"]
        values = {str(name): str(value) for name, value in (message.get("attributes") or {}).items()}
        own = {name: values.pop(name) for name in _OWN & values.keys()}
        return Parcel(
            identity=own.get(IDENTITY) or str(message.get("messageId") or message["message_id"]),
            origin=_site(own.get(ORIGIN), here),
            data=base64.b64decode(message.get("data") or "", validate=True),
            attributes=values,
            types={str(name): str(kind) for name, kind in json.loads(own.get(TYPES, "{}")).items() if name in values},
            key=str(message.get("orderingKey") or ""),
        )
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise EventError(f"event carries no Pub/Sub message ({error})") from error


def to_pubsub(parcel: Parcel) -> Outgoing:
    """Return the message as Pub/Sub takes it."""
    attributes = {**parcel.attributes, IDENTITY: parcel.identity, ORIGIN: parcel.origin.value}
    if parcel.types:
        attributes[TYPES] = _json(parcel.types)
    outgoing = Outgoing(parcel.data, attributes, parcel.key)
    reason = _pubsub_refusal(outgoing)
    if reason:
        raise UncarriableMessageError(f"message {parcel.identity} can't go to Pub/Sub: {reason}")
    return outgoing


def _typed(given: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    values: dict[str, str] = {}
    types: dict[str, str] = {}
    for name, value in given.items():
        kind = str(value["dataType"])
        if kind != _STRING:
            types[name] = kind
        # Lambda gives binary values as base64 text, and as text they travel.
        values[name] = str(value["binaryValue"] if kind.startswith("Binary") else value["stringValue"])
    return values, types


def _native(parcel: Parcel, own: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the attributes one by one, None if SQS would refuse them so."""
    if len(parcel.attributes) + len(own) > SQS_ATTRIBUTES:
        return None
    if not all(_SQS_NAME.fullmatch(name) for name in parcel.attributes):
        return None
    entries: dict[str, Any] = {name: _string(value) for name, value in own.items()}
    for name, value in parcel.attributes.items():
        kind = parcel.types.get(name, _STRING)
        if kind.startswith("Binary"):
            try:
                entries[name] = {"DataType": kind, "BinaryValue": base64.b64decode(value, validate=True)}
            except binascii.Error:
                return None
        elif _SQS_TEXT.fullmatch(value):
            entries[name] = {"DataType": kind, "StringValue": value}
        else:
            return None
    return entries


def _packed(parcel: Parcel, own: Mapping[str, str]) -> dict[str, Any]:
    packed = {**own, PACKED: _json(parcel.attributes)}
    if parcel.types:
        packed[TYPES] = _json(parcel.types)
    return {name: _string(value) for name, value in packed.items()}


def _string(value: str) -> dict[str, str]:
    return {"DataType": _STRING, "StringValue": value}


def _encode(data: bytes) -> tuple[str, str]:
    """Return the body that SQS takes for these bytes, and the encoding's name, empty for plain text."""
    if not data:
        # An empty body is refused (API reference), so something has to stand for it.
        return _EMPTY, _EMPTY
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    return (text, "") if _SQS_TEXT.fullmatch(text) else (base64.b64encode(data).decode(), _BASE64)


def _decode(body: str, encoding: str | None) -> bytes:
    if encoding == _EMPTY:
        return b""
    return base64.b64decode(body, validate=True) if encoding == _BASE64 else body.encode()


def _sqs_id(text: str) -> str:
    if _SQS_ID.fullmatch(text):
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def _pubsub_refusal(outgoing: Outgoing) -> str | None:
    if len(outgoing.attributes) > PUBSUB_ATTRIBUTES:
        return f"{len(outgoing.attributes)} attributes, allowed {PUBSUB_ATTRIBUTES}"
    for name, value in outgoing.attributes.items():
        if not name or len(name.encode()) > PUBSUB_NAME_BYTES or name.startswith("goog"):
            return f"attribute name {name[:40]!r} is reserved or too long"
        if len(value.encode()) > PUBSUB_VALUE_BYTES:
            return f"attribute {name} has {len(value.encode())} bytes, allowed {PUBSUB_VALUE_BYTES}"
    if len(outgoing.key.encode()) > PUBSUB_KEY_BYTES:
        return f"ordering key of {len(outgoing.key.encode())} bytes, allowed {PUBSUB_KEY_BYTES}"
    return f"{outgoing.size} bytes, allowed {PUBSUB_BYTES}" if outgoing.size > PUBSUB_BYTES else None


def _site(value: str | None, here: Site) -> Site:
    return Site(value) if value in set(Site) else here


def _json(value: Mapping[str, str]) -> str:
    return json.dumps(dict(value), sort_keys=True, separators=(",", ":"))
