"""The byte layout of an envelope: tags, bounds, and how each kind of content is written.

All integers big-endian, `varint` as in Protocol Buffers (least significant group first, shortest form only):

    format   1 byte, 1
    flags    1 byte, bit 0: deleted (a tombstone; its map is empty)
    event    8 bytes signed, event time in epoch milliseconds, data and never the order; 0: not given
    schema   4 bytes, schema id; 0: none
    expires  8 bytes, expiry in epoch seconds; 0: never
    map      varint count, then key (varint length, UTF-8) and value, keys ascending by their bytes

A value is one tag byte and its content:

    00 null   01 false   02 true
    03 number: varint length, decimal text in its one spelling (features/number.py)
    04 text: varint length, UTF-8          05 binary: varint length, bytes
    06, 07, 08 set of texts, numbers, binaries: varint count, then members as varint length and bytes, ascending, none twice
    09 list: varint count, values          0A map: as above
    0B vector: dtype byte (0: float32 little-endian), varint dimensions, varint each, packed elements
"""

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache

from functions.features.errors import EnvelopeError

FORMAT = 1
DELETED = 1
HEADER = struct.Struct(">BBqIQ")
FLOAT32 = 0
FLOAT32_BYTES = 4

# An item of DynamoDB has 400 KB and nests 32 levels; what could never be written there is refused here.
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
MOST_BYTES = 400 * 1024
MOST_LEVELS = 32
MOST_DIMENSIONS = 8


class Tag(IntEnum):
    """What kind of value follows."""

    NULL = 0
    FALSE = 1
    TRUE = 2
    NUMBER = 3
    TEXT = 4
    BINARY = 5
    TEXTS = 6
    NUMBERS = 7
    BINARIES = 8
    LIST = 9
    MAP = 10
    VECTOR = 11


TAG_BYTES = {tag: bytes([tag]) for tag in Tag}
_SMALL = [bytes([value]) for value in range(0x80)]


def varint(value: int) -> bytes:
    """Return the shortest form of a number of zero or more."""
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pack_header(deleted: bool, event_ms: int, schema: int, expires: int) -> bytes:
    """Return the bytes in front of the map."""
    try:
        return HEADER.pack(FORMAT, DELETED if deleted else 0, event_ms, schema, expires)
    except struct.error as error:
        raise EnvelopeError(f"envelope header out of range: {error}") from error


def seal(parts: Sequence[bytes]) -> bytes:
    """Return the joined bytes if they stay within what both stores take."""
    data = b"".join(parts)
    if len(data) > MOST_BYTES:
        raise EnvelopeError(f"envelope has {len(data)} bytes, at most {MOST_BYTES} fit an item of both stores")
    return data


def text_bytes(value: str) -> bytes:
    """Return the UTF-8 bytes; EnvelopeError for lone surrogates, which have none."""
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise EnvelopeError("text with a lone surrogate has no UTF-8 form") from error


@lru_cache(maxsize=4_096)
def name_bytes(name: str) -> bytes:
    """Return a name with its length. Rows of a table have the same few names, so nearly all are known."""
    data = text_bytes(name)
    return varint(len(data)) + data


def put_name(out: list[bytes], name: str) -> None:
    """Append the key of a map's member."""
    out.append(name_bytes(name))


def put_blob(out: list[bytes], tag: bytes, data: bytes) -> None:
    """Append a tag and one content with its length."""
    size = len(data)
    out.append(tag + (_SMALL[size] if size < 0x80 else varint(size)) + data)


def put_set(out: list[bytes], tag: bytes, members: Iterable[bytes]) -> None:
    """Append a set, members ascending; an empty one is refused, as DynamoDB does."""
    ordered = sorted(set(members))
    if not ordered:
        raise EnvelopeError("an empty set is no value")
    out.append(tag + varint(len(ordered)))
    out.extend(varint(len(member)) + member for member in ordered)


def deeper(level: int) -> int:
    """Return the level below; EnvelopeError beyond what a store nests, which also bounds recursion on hostile bytes."""
    if level >= MOST_LEVELS:
        raise EnvelopeError(f"value nests deeper than {MOST_LEVELS} levels")
    return level + 1
