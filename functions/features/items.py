"""A DynamoDB item in wire form (`{"N": "1"}`) as an envelope, the row that any writer, aware of versions or not, left there.

Lambda events carry binary as base64 text, boto3 carries bytes: `binary` decodes what the caller has, exactly once.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from functions.features.envelope import Envelope, Value, decode, encode, read_header
from functions.features.errors import EnvelopeError
from functions.features.layout import (
    TAG_BYTES,
    Tag,
    deeper,
    name_bytes,
    pack_header,
    put_blob,
    put_name,
    put_set,
    seal,
    text_bytes,
    varint,
)
from functions.features.number import MOST_DIGITS, SPELLED, canonical
from functions.settings import FEATURE_ENVELOPE, FEATURE_EXPIRES, FEATURE_KEY, FEATURE_VERSION

Item = Mapping[str, Mapping[str, Any]]
BinaryDecoder = Callable[[Any], bytes]

_RESERVED = frozenset((FEATURE_KEY, FEATURE_VERSION, FEATURE_ENVELOPE, FEATURE_EXPIRES))


@dataclass(frozen=True)
class Content:
    """What an item says: `version` is None where no aware writer ever wrote."""

    version: int | None
    envelope: bytes


def from_base64(value: Any) -> bytes:
    """Decode binary of a Lambda event."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise EnvelopeError("binary attribute is not base64") from error


def from_bytes(value: Any) -> bytes:
    """Take binary as boto3 hands it over."""
    return bytes(value)


def key_of(item: Item) -> str:
    """Return the row's key; EnvelopeError where it is missing or no text."""
    key = item.get(FEATURE_KEY, {}).get("S")
    if not isinstance(key, str) or not key:
        raise EnvelopeError(f"item has no text attribute {FEATURE_KEY!r} as its key")
    return key


def content(item: Item, binary: BinaryDecoder) -> Content:
    """Return the item's version and canonical bytes.

    Attributes beside the envelope come from writers that know nothing of it and lie over its own of the same name; so does the
    time-to-live attribute. An item whose envelope stands alone is passed on byte for byte.
    """
    version = _version(item)
    sealed = item.get(FEATURE_ENVELOPE)
    if sealed is not None and "B" not in sealed:
        raise EnvelopeError(f"attribute {FEATURE_ENVELOPE!r} is reserved for the envelope and must be binary")
    expires = _expires(item)
    plain = _plain(tuple(item))
    if sealed is not None:
        data = binary(sealed["B"])
        _, _, _, until = read_header(data)
        if not plain and (FEATURE_EXPIRES not in item or expires == until):
            return Content(version, data)
        below = decode(data)
        over = decode(_encode_plain(item, plain, binary, 0)).attributes
        merged: dict[str, Value] = {**below.attributes, **over}
        # A plain write brings the row back to life: deleted and attributes exclude each other.
        deleted = below.deleted and not merged
        until = expires if FEATURE_EXPIRES in item else until
        return Content(version, encode(Envelope(merged, deleted, below.event_ms, below.schema, until)))
    return Content(version, _encode_plain(item, plain, binary, expires))


@lru_cache(maxsize=4_096)
def _plain(names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    """Return the names that are not ours, in canonical order, each with its bytes; a table's items share few such lists."""
    return tuple((name, name_bytes(name)) for name in sorted(names) if name not in _RESERVED)


def _version(item: Item) -> int | None:
    if FEATURE_VERSION not in item:
        return None
    text = item[FEATURE_VERSION].get("N")
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise EnvelopeError(f"attribute {FEATURE_VERSION!r} is reserved for the version and must be a whole number")
    return int(text)


def _expires(item: Item) -> int:
    text = item.get(FEATURE_EXPIRES, {}).get("N")
    # DynamoDB ignores a time to live that is no whole number, so the row never expires there either.
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= 18 else 0


def _encode_plain(item: Item, plain: tuple[tuple[str, bytes], ...], binary: BinaryDecoder, expires: int) -> bytes:
    out = [pack_header(False, 0, 0, expires), varint(len(plain))]
    for name, label in plain:
        typed = item[name]
        out.append(label)
        # Most attributes are numbers in their one spelling: this is what a stream's throughput hangs on.
        if (
            isinstance(typed, dict)
            and len(typed) == 1
            and isinstance(text := typed.get("N"), str)
            and len(text) <= MOST_DIGITS
            and SPELLED(text)
            and text != "-0"
        ):
            out += (_NUMBER_HEADS[len(text)], text.encode())
        else:
            _put(out, typed, binary, 0)
    return seal(out)


def _put(out: list[bytes], typed: Mapping[str, Any], binary: BinaryDecoder, level: int) -> None:
    # Items are parsed JSON: a test for any kind of mapping would cost as much as the rest of a number.
    if not isinstance(typed, dict) or len(typed) != 1:
        raise EnvelopeError("attribute value does not name exactly one type")
    ((kind, value),) = typed.items()
    try:
        _WRITERS[kind](out, value, binary, level)
    except KeyError as error:
        raise EnvelopeError(f"attribute of unknown type {kind!r}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise EnvelopeError(f"attribute of type {kind} does not hold such a value") from error


def _put_list(out: list[bytes], value: Any, binary: BinaryDecoder, level: int) -> None:
    below = deeper(level)
    out.append(TAG_BYTES[Tag.LIST] + varint(len(value)))
    for member in value:
        _put(out, member, binary, below)


def _put_map(out: list[bytes], value: Any, binary: BinaryDecoder, level: int) -> None:
    below = deeper(level)
    out.append(TAG_BYTES[Tag.MAP] + varint(len(value)))
    for name in sorted(value):
        put_name(out, name)
        _put(out, value[name], binary, below)


_NUMBER, _TEXT, _BINARY = TAG_BYTES[Tag.NUMBER], TAG_BYTES[Tag.TEXT], TAG_BYTES[Tag.BINARY]
_NUMBER_HEADS = [_NUMBER + varint(size) for size in range(MOST_DIGITS + 1)]
_TEXTS, _NUMBERS, _BINARIES = TAG_BYTES[Tag.TEXTS], TAG_BYTES[Tag.NUMBERS], TAG_BYTES[Tag.BINARIES]

_WRITERS: Mapping[str, Callable[[list[bytes], Any, BinaryDecoder, int], None]] = {
    "N": lambda out, value, binary, level: put_blob(out, _NUMBER, canonical(value).encode()),
    "S": lambda out, value, binary, level: put_blob(out, _TEXT, text_bytes(value)),
    "B": lambda out, value, binary, level: put_blob(out, _BINARY, binary(value)),
    "BOOL": lambda out, value, binary, level: out.append(TAG_BYTES[Tag.TRUE if value else Tag.FALSE]),
    "NULL": lambda out, value, binary, level: out.append(TAG_BYTES[Tag.NULL]),
    "SS": lambda out, value, binary, level: put_set(out, _TEXTS, map(text_bytes, value)),
    "NS": lambda out, value, binary, level: put_set(out, _NUMBERS, (canonical(text).encode() for text in value)),
    "BS": lambda out, value, binary, level: put_set(out, _BINARIES, map(binary, value)),
    "L": _put_list,
    "M": _put_map,
}
