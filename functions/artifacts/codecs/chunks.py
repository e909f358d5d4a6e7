"""Opaque bytes against an older version of them: chunks cut where the content says, those that the parent has too by reference.

Cuts: a gear hash of the last 32 bytes, h = 2h + gear[byte] modulo 2^32 (Xia et al., FastCDC, USENIX ATC 2016), has its 16
highest bits zero: every 64 KiB on average. Cuts closer than 8 KiB to the one before are passed over, and after 128 KiB one is
made. So bytes that moved are found again, as in files that were cut elsewhere or had something inserted.

Payload, integers little-endian:

    count     4 bytes, number of parts
    parts     12 bytes each: 8 bytes where in the parent, or 2^64 - 1 for a new part; 4 bytes length
    new       one zstd frame of all new parts in order; nothing if there are none

Where a part begins in the child follows from the lengths before it.
"""

import functools
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from blake3 import blake3

from functions.artifacts import kernel
from functions.artifacts.codecs.errors import DamagedBlockError, ParentMissingError
from functions.artifacts.codecs.general import Bytes, compress, decompress

LEAST_BYTES = 8 * 1024
MOST_BYTES = 128 * 1024
CUT_BITS = 16
NEW = (1 << 64) - 1
# How far a hash looks back.
_WINDOW = 32

_COUNT = struct.Struct("<I")
_PART = struct.Struct("<QI")


@dataclass(frozen=True)
class ParentIndex:
    """The parent's bytes and where each of their chunks begins, by BLAKE3."""

    data: memoryview
    places: dict[bytes, int]


def index_of(parent: Bytes) -> ParentIndex:
    """Return the index of a parent. It takes about 200 bytes for every 64 KiB."""
    data = memoryview(parent)
    places: dict[bytes, int] = {}
    for begin, end in cut(data):
        places.setdefault(blake3(data[begin:end]).digest(), begin)
    return ParentIndex(data, places)


def cut(data: memoryview) -> Iterator[tuple[int, int]]:
    """Yield begin and end of every chunk."""
    begin = 0
    for end in _ends(data):
        yield begin, end
        begin = end


def encode(child: Bytes, parent: ParentIndex) -> bytes:
    """Return the payload of a block."""
    data = memoryview(child)
    parts: list[tuple[int, int]] = []
    fresh: list[memoryview] = []
    for begin, end in cut(data):
        size = end - begin
        place = parent.places.get(blake3(data[begin:end]).digest(), NEW)
        if place == NEW:
            fresh.append(data[begin:end])
        last_place, last_size = parts[-1] if parts else (0, 0)
        follows = last_place == NEW if place == NEW else last_place != NEW and last_place + last_size == place
        if parts and follows:
            parts[-1] = (last_place, last_size + size)
        else:
            parts.append((place, size))
    table = b"".join(_PART.pack(place, size) for place, size in parts)
    return _COUNT.pack(len(parts)) + table + (compress(b"".join(fresh)) if fresh else b"")


def decode(payload: Bytes, size: int, parent: Bytes) -> bytearray:
    """Return `size` bytes; DamagedBlockError for what no encoder writes, ParentMissingError for parts the parent lacks."""
    data, source = memoryview(payload), memoryview(parent)
    if len(data) < _COUNT.size:
        raise DamagedBlockError("block of chunks has no count")
    (count,) = _COUNT.unpack_from(data)
    table, rest = data[_COUNT.size : _COUNT.size + count * _PART.size], data[_COUNT.size + count * _PART.size :]
    if count * _PART.size > len(data) - _COUNT.size:
        raise DamagedBlockError(f"block claims {count} parts in {len(data)} bytes")
    parts = list(_PART.iter_unpack(table))
    if sum(length for _, length in parts) != size:
        raise DamagedBlockError(f"block's parts do not add up to its {size} bytes")
    new_size = sum(length for place, length in parts if place == NEW)
    fresh = memoryview(decompress(rest, new_size) if new_size else b"")
    if not new_size and len(rest):
        raise DamagedBlockError(f"block has {len(rest)} bytes after its parts")
    child = bytearray()
    taken = 0
    for place, length in parts:
        if place == NEW:
            child += fresh[taken : taken + length]
            taken += length
        elif place + length > len(source):
            raise ParentMissingError(f"block refers to byte {place + length} of a parent of {len(source)} bytes")
        else:
            child += source[place : place + length]
    return child


@functools.cache
def gear() -> bytes:
    """Return the 256 numbers of 32 bits, little-endian: the first four bytes of SHA-256 of `gear` and the byte."""
    return b"".join(hashlib.sha256(b"gear" + bytes([byte])).digest()[:4] for byte in range(256))


def _ends(data: memoryview) -> list[int]:
    found = kernel.load()
    if found:
        return found.cuts(data, gear(), CUT_BITS, LEAST_BYTES, MOST_BYTES)
    # Only who has no kernel needs NumPy.
    from functions.artifacts.codecs.gear import candidates

    ends: list[int] = []
    begin = 0
    for place in [*candidates(data, gear(), CUT_BITS, _WINDOW), len(data)]:
        while place - begin > MOST_BYTES:
            begin += MOST_BYTES
            ends.append(begin)
        if place - begin >= LEAST_BYTES or place == len(data) > begin:
            begin = place
            ends.append(begin)
    return ends
