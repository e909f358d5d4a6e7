"""Pulumi's property values as Python values, and back.

Unknown values travel as fixed marker strings, secrets and assets as objects with a signature key; the constants are
those of the SDK's own serializer (`pulumi.runtime.rpc`) and of the engine's (`sdk/go/common/resource/plugin/rpc.go`).
Null properties are dropped: to the engine a null and an absent property are the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format, struct_pb2

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a type marker of the protocol, no secret
ASSET = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE = "0def7320c3a5731c473e5ecbe6d01bc7"

UNKNOWN_STRING = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
UNKNOWN_MARKERS = frozenset(
    {
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        UNKNOWN_STRING,
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
    }
)

Properties = dict[str, Any]
"""Property names to values: str, bool, int, float, list, dict, Unknown, Secret or Asset."""


@dataclass(frozen=True)
class Unknown:
    """A value that will be known only after other resources exist."""


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Secret:
    """A value that the engine keeps encrypted in the state and hides in its output."""

    value: Any


@dataclass(frozen=True)
class Asset:
    """A file or an archive as the engine describes it; equal when kind and content hash are equal."""

    archive: bool
    hash: str
    body: Properties = field(compare=False, hash=False)


def decode(struct: struct_pb2.Struct) -> Properties:
    """Return the properties of a message."""
    return {
        name: _decode(value)
        for name, value in json_format.MessageToDict(struct).items()
        if value is not None and name != SIGNATURE
    }


def encode(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return the message for properties."""
    struct = struct_pb2.Struct()
    struct.update({name: _encode(value) for name, value in properties.items() if value is not None})
    return struct


def unwrap(value: Any) -> Any:
    """Return the value with every secret replaced by its plain value."""
    if isinstance(value, Secret):
        return unwrap(value.value)
    return _walk(value, unwrap)


def conceal_like(value: Any, example: Any) -> Any:
    """Return the value with everything secret that is secret in the example, place by place."""
    if isinstance(value, Secret):
        return value
    if isinstance(example, Secret):
        return Secret(value)
    if isinstance(value, dict) and isinstance(example, dict):
        return {name: conceal_like(item, example.get(name)) for name, item in value.items()}
    if isinstance(value, list) and isinstance(example, list):
        padded = [*example, *([None] * len(value))]
        return [conceal_like(item, padded[index]) for index, item in enumerate(value)]
    return value


def contains_unknown(value: Any) -> bool:
    """Tell whether any part of the value is unknown."""
    if isinstance(value, Secret):
        return contains_unknown(value.value)
    if isinstance(value, dict):
        return any(map(contains_unknown, value.values()))
    if isinstance(value, list):
        return any(map(contains_unknown, value))
    return isinstance(value, Unknown)


def _walk(value: Any, visit: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: visit(item) for name, item in value.items()}
    if isinstance(value, list):
        return [visit(item) for item in value]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, str):
        return UNKNOWN if value in UNKNOWN_MARKERS else value
    if isinstance(value, float) and value.is_integer():
        # The protocol has one number type; integers come back as integers, as a user wrote them.
        return int(value)
    if isinstance(value, dict):
        signature = value.get(SIGNATURE)
        if signature == SECRET:
            return Secret(_decode(value.get("value")))
        if signature in (ASSET, ARCHIVE):
            return Asset(archive=signature == ARCHIVE, hash=value.get("hash", ""), body=value)
        return {name: _decode(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value


def _encode(value: Any) -> Any:
    if isinstance(value, Unknown):
        return UNKNOWN_STRING
    if isinstance(value, Secret):
        return {SIGNATURE: SECRET, "value": _encode(value.value)}
    if isinstance(value, Asset):
        return value.body
    return _walk(value, _encode)
