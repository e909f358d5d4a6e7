"""The envelope: the canonical bytes of one feature row, equal on both sides exactly when the data are equal.

The layout stands in features/layout.py. Decoding accepts canonical bytes only, checks every length before it allocates, and
refuses anything left over, so `encode(decode(data)) == data` for all that it accepts.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from types import MappingProxyType

from functions.features.errors import EnvelopeError
from functions.features.layout import (
    DELETED,
    FLOAT32,
    FLOAT32_BYTES,
    FORMAT,
    HEADER,
    MOST_BYTES,
    MOST_DIMENSIONS,
    TAG_BYTES,
    Tag,
    deeper,
    pack_header,
    put_blob,
    put_name,
    put_set,
    seal,
    text_bytes,
    varint,
)
from functions.features.number import canonical


@dataclass(frozen=True)
class Vector:
    """A float32 array: `shape`, and its elements packed little-endian in C order."""

    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != _elements(self.shape) * FLOAT32_BYTES:
            raise EnvelopeError(f"vector of shape {self.shape} has {len(self.data)} bytes, 4 an element are needed")

    @classmethod
    def of(cls, values: Sequence[float]) -> "Vector":
        """Return a vector of one dimension; each element is rounded to float32."""
        return cls((len(values),), struct.pack(f"<{len(values)}f", *values))


# A set holds members of one kind; numbers in it are Decimal once decoded.
Member = str | bytes | int | float | Decimal
Value = (
    None
    | bool
    | int
    | float
    | Decimal
    | str
    | bytes
    | Vector
    | frozenset[Member]
    | Sequence["Value"]
    | Mapping[str, "Value"]
)

NOTHING: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True)
class Envelope:
    """One row's data and its header. Decoded numbers are Decimal; int and float are accepted when encoding."""

    attributes: Mapping[str, Value] = field(default_factory=lambda: NOTHING)
    deleted: bool = False
    event_ms: int = 0
    schema: int = 0
    expires: int = 0


def encode(envelope: Envelope) -> bytes:
    """Return the canonical bytes; EnvelopeError for a value that an envelope can't hold."""
    if envelope.deleted and envelope.attributes:
        raise EnvelopeError("a tombstone carries no attributes")
    out = [pack_header(envelope.deleted, envelope.event_ms, envelope.schema, envelope.expires)]
    _put_map(out, envelope.attributes, 0)
    return seal(out)


def peek(data: bytes) -> Envelope:
    """Return the header alone, attributes left empty; EnvelopeError if it is none."""
    deleted, event_ms, schema, expires = read_header(data)
    return Envelope(NOTHING, deleted, event_ms, schema, expires)


def read_header(data: bytes) -> tuple[bool, int, int, int]:
    """Return deleted, event time, schema and expiry of canonical bytes; EnvelopeError if they are none."""
    if not HEADER.size < len(data) <= MOST_BYTES:
        raise EnvelopeError(f"{len(data)} bytes are no envelope, {HEADER.size + 1} to {MOST_BYTES} are expected")
    kind, flags, event_ms, schema, expires = HEADER.unpack_from(data)
    if kind != FORMAT or flags & ~DELETED:
        raise EnvelopeError(
            f"envelope of format {kind} with flags {flags} is unknown to this release; upgrade it first"
        )
    return bool(flags), event_ms, schema, expires


def decode(data: bytes) -> Envelope:
    """Return what `encode` was given; EnvelopeError for anything that `encode` would not have written."""
    found = peek(data)
    reader = _Reader(data, HEADER.size)
    try:
        attributes = reader.map(0)
    except UnicodeDecodeError as error:
        raise EnvelopeError("envelope holds text that is not UTF-8") from error
    if reader.position != len(data):
        raise EnvelopeError(f"{len(data) - reader.position} bytes follow the end of the envelope")
    if found.deleted and attributes:
        raise EnvelopeError("a tombstone carries no attributes")
    return Envelope(attributes, found.deleted, found.event_ms, found.schema, found.expires)


def _elements(shape: tuple[int, ...]) -> int:
    if len(shape) > MOST_DIMENSIONS or any(not 0 <= size <= MOST_BYTES for size in shape):
        raise EnvelopeError(
            f"vector of shape {shape}: at most {MOST_DIMENSIONS} dimensions of 0 to {MOST_BYTES} are allowed"
        )
    count = 1
    for size in shape:
        count *= size
    return count


def _number_bytes(value: int | float | Decimal) -> bytes:
    # repr of a float is its shortest decimal that reads back as the same float.
    return canonical(repr(value) if isinstance(value, float) else str(value)).encode()


def _put_map(out: list[bytes], items: Mapping[str, Value], level: int) -> None:
    out.append(varint(len(items)))
    for name in sorted(items):
        put_name(out, name)
        _put(out, items[name], level)


def _put(out: list[bytes], value: Value, level: int) -> None:
    if isinstance(value, str):
        put_blob(out, TAG_BYTES[Tag.TEXT], text_bytes(value))
    elif value is None or isinstance(value, bool):
        out.append(TAG_BYTES[Tag.NULL if value is None else Tag.TRUE if value else Tag.FALSE])
    elif isinstance(value, int | float | Decimal):
        put_blob(out, TAG_BYTES[Tag.NUMBER], _number_bytes(value))
    elif isinstance(value, bytes):
        put_blob(out, TAG_BYTES[Tag.BINARY], value)
    elif isinstance(value, Vector):
        shape = b"".join(map(varint, value.shape))
        out += (TAG_BYTES[Tag.VECTOR], bytes([FLOAT32]), varint(len(value.shape)), shape, value.data)
    elif isinstance(value, frozenset | set):
        _put_members(out, value)
    elif isinstance(value, Mapping):
        out.append(TAG_BYTES[Tag.MAP])
        _put_map(out, value, deeper(level))
    elif isinstance(value, list | tuple):
        out.append(TAG_BYTES[Tag.LIST] + varint(len(value)))
        below = deeper(level)
        for item in value:
            _put(out, item, below)
    else:
        raise EnvelopeError(f"a value of type {type(value).__name__} can't be stored in a feature row")


def _put_members(out: list[bytes], members: frozenset[Member]) -> None:
    if all(isinstance(member, str) for member in members):
        put_set(out, TAG_BYTES[Tag.TEXTS], (text_bytes(member) for member in members if isinstance(member, str)))
    elif all(isinstance(member, bytes) for member in members):
        put_set(out, TAG_BYTES[Tag.BINARIES], (member for member in members if isinstance(member, bytes)))
    elif all(isinstance(member, int | float | Decimal) and not isinstance(member, bool) for member in members):
        numbers = (member for member in members if isinstance(member, int | float | Decimal))
        put_set(out, TAG_BYTES[Tag.NUMBERS], map(_number_bytes, numbers))
    else:
        raise EnvelopeError("a set holds texts, numbers or binaries, all of one kind")


class _Reader:
    """Reads canonical bytes from `position` on; every length is checked against what is left before it is used."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    def map(self, level: int) -> Mapping[str, Value]:
        found: dict[str, Value] = {}
        last: bytes | None = None
        for _ in range(self._count()):
            name = self._blob()
            if last is not None and name <= last:
                raise EnvelopeError("keys of a map are not ascending")
            last = name
            found[name.decode()] = self._value(level)
        return found

    def _value(self, level: int) -> Value:
        tag = self._take(1)[0]
        if tag == Tag.NUMBER:
            return self._number(self._blob())
        if tag == Tag.TEXT:
            return self._blob().decode()
        if tag == Tag.BINARY:
            return self._blob()
        if tag == Tag.NULL:
            return None
        if tag in (Tag.FALSE, Tag.TRUE):
            return tag == Tag.TRUE
        if tag == Tag.VECTOR:
            return self._vector()
        if tag == Tag.MAP:
            return self.map(deeper(level))
        if tag == Tag.LIST:
            below = deeper(level)
            return [self._value(below) for _ in range(self._count())]
        if tag in (Tag.TEXTS, Tag.NUMBERS, Tag.BINARIES):
            members = self._members()
            if tag == Tag.TEXTS:
                return frozenset(member.decode() for member in members)
            return frozenset(map(self._number, members)) if tag == Tag.NUMBERS else frozenset(members)
        raise EnvelopeError(f"value of unknown kind {tag:#04x}")

    def _members(self) -> list[bytes]:
        members = [self._blob() for _ in range(self._count())]
        if not members or any(one >= other for one, other in pairwise(members)):
            raise EnvelopeError("members of a set are missing or not ascending")
        return members

    def _vector(self) -> Vector:
        if (dtype := self._take(1)[0]) != FLOAT32:
            raise EnvelopeError(f"vector of unknown dtype {dtype}")
        dimensions = self._varint()
        if dimensions > MOST_DIMENSIONS:
            raise EnvelopeError(f"vector has {dimensions} dimensions, at most {MOST_DIMENSIONS} are allowed")
        shape = tuple(self._varint() for _ in range(dimensions))
        return Vector(shape, self._take(_elements(shape) * FLOAT32_BYTES))

    @staticmethod
    def _number(data: bytes) -> Decimal:
        text = data.decode()
        if canonical(text) != text:
            raise EnvelopeError(f"number {text[:40]!r} is not in its one spelling")
        return Decimal(text)

    def _blob(self) -> bytes:
        return self._take(self._varint())

    def _count(self) -> int:
        # Every member takes a byte at least, so a larger count is a lie and would only cost memory.
        count = self._varint()
        if count > len(self._data) - self.position:
            raise EnvelopeError(f"envelope promises {count} members in {len(self._data) - self.position} bytes")
        return count

    def _take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self._data):
            raise EnvelopeError(f"envelope ends {end - len(self._data)} bytes early")
        data = self._data[self.position : end]
        self.position = end
        return data

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if not byte and shift:
                    raise EnvelopeError("envelope holds a length in a longer form than needed")
                return value
            shift += 7
            if shift > 28:
                raise EnvelopeError("envelope holds a length beyond any bound")
