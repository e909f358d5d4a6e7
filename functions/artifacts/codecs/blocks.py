"""One block of a tensor: written with a codec, read back with its checksum proven. Blocks know nothing of each other.

    codec     1 byte (Codec)
    checksum  4 bytes, little-endian, CRC32C of the block's own bytes (not of the payload)
    payload   the rest, as the codec writes it

A block that its codec cannot make smaller is written raw, so it is never more than five bytes larger than its bytes; one that
equals the parent's is a reference of five bytes. Reading takes the size from the caller, who knows it from the tensor, and no
size from the payload: a block of a few bytes cannot ask for gigabytes. The checksum finds accidents and a wrong parent;
against tampering the tensor's BLAKE3 and the manifest's signature stand.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from awscrt import checksums  # type: ignore[import-untyped]  # ships no types

from functions.artifacts import kernel
from functions.artifacts.codecs import chunks, general
from functions.artifacts.codecs.chunks import ParentIndex
from functions.artifacts.codecs.errors import (
    ChecksumError,
    CodecError,
    DamagedBlockError,
    ParentMissingError,
    UnknownCodecError,
)
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.codecs.layouts import Kind, Layout

HEADER = struct.Struct("<BI")
_STEP = 16 * 1024
# Above what any caller uses; what a block's working memory follows from.
MOST_BLOCK_BYTES = 64 * 1024 * 1024


class Codec(IntEnum):
    """How a block is written; ids are part of the format and never used twice.

    3 and 5 were deltas and floats in tensors of version 1.
    """

    RAW = 0
    ZSTD = 1
    REFERENCE = 2
    XOR = 4
    PLANES = 6
    CHUNKS = 7
    DELTA = 8
    FLOATS = 9


@dataclass(frozen=True)
class Shape:
    """What a codec is told about the numbers of a block; no layout: opaque bytes."""

    layout: Layout | None
    stretch: int


def encode_block(codec: Codec, child: Bytes, parent: Bytes | ParentIndex | None, shape: Shape) -> bytes:
    """Return the block. `parent` is the same range of the parent's tensor; for CHUNKS, the index of all its bytes."""
    if isinstance(parent, Bytes) and are_equal(child, parent):
        codec, payload = Codec.REFERENCE, b""
    else:
        found = _payload(codec, child, parent, shape) if len(child) else None
        if found is None or len(found) >= len(child):
            codec, payload = Codec.RAW, bytes(child)
        else:
            payload = found
    return HEADER.pack(codec, checksum(child)) + payload


def decode_block(
    block: Bytes, child: memoryview, parent: Bytes | None, whole_parent: Bytes | None, shape: Shape
) -> None:
    """Fill `child`, which says how many bytes the block has.

    `parent` is the same range of the parent's tensor, `whole_parent` all its bytes; None where the caller has none. Raises
    DamagedBlockError, UnknownCodecError, ParentMissingError or ChecksumError, and nothing else whatever the bytes; `child` then
    holds anything.
    """
    data, size = memoryview(block), len(child)
    if len(data) < HEADER.size or size > MOST_BLOCK_BYTES:
        raise DamagedBlockError(f"block of {len(data)} bytes cannot hold {size}")
    code, expected = HEADER.unpack_from(data)
    try:
        codec = Codec(code)
    except ValueError as error:
        raise UnknownCodecError(
            f"block has codec {code}, unknown to this release. Read it with the one that wrote it"
        ) from error
    _fill(codec, data[HEADER.size :], child, parent, whole_parent, shape)
    found = checksum(child)
    if found != expected:
        raise ChecksumError(
            f"block decodes to other bytes than were encoded (CRC32C {found:08x}, written {expected:08x}): "
            "damaged, or read with another parent. Fetch it again, and check the parent's version"
        )


def are_equal(left: Bytes, right: Bytes) -> bool:
    """Tell whether two runs of bytes are the same."""
    # Views compare number by number, a hundred times slower than bytes do; in steps, as what differs does so soon.
    return len(left) == len(right) and all(
        bytes(left[begin : begin + _STEP]) == bytes(right[begin : begin + _STEP])
        for begin in range(0, len(left), _STEP)
    )


def checksum(data: Bytes) -> int:
    """Return the CRC32C (Castagnoli, RFC 3720)."""
    return int(checksums.crc32c(data))


def _payload(codec: Codec, child: Bytes, parent: Bytes | ParentIndex | None, shape: Shape) -> bytes | None:
    layout = shape.layout
    if codec is Codec.RAW:
        return None
    if codec is Codec.ZSTD:
        return general.compress(child)
    if codec is Codec.CHUNKS:
        if not isinstance(parent, ParentIndex):
            raise CodecError("chunks need the index of a parent. Make it with chunks.index_of")
        return chunks.encode(child, parent)
    if layout is None or len(child) % layout.width:
        raise CodecError(f"{codec.name} writes whole numbers of a known dtype, {len(child)} bytes are none")
    if codec is Codec.PLANES:
        return general.encode_planes(child, layout.width)
    if codec is Codec.FLOATS:
        return _encode_floats(child, layout, shape.stretch)
    if not isinstance(parent, Bytes) or len(parent) != len(child):
        raise CodecError(f"{codec.name} needs the parent's bytes of the same range")
    if codec is Codec.XOR:
        return general.encode_planes(general.exclusive_or(child, parent), layout.width)
    if codec is Codec.DELTA:
        return _encode_delta(child, parent, layout, shape.stretch)
    raise CodecError(f"{codec.name} is written for a block that equals its parent's, and no other")


def _fill(
    codec: Codec, payload: memoryview, child: memoryview, parent: Bytes | None, whole_parent: Bytes | None, shape: Shape
) -> None:
    size = len(child)
    if codec is Codec.RAW:
        if len(payload) != size:
            raise DamagedBlockError(f"block holds {len(payload)} raw bytes, {size} are wanted")
        child[:] = payload
    elif codec is Codec.ZSTD:
        child[:] = general.decompress(payload, size)
    elif codec is Codec.CHUNKS:
        if whole_parent is None:
            raise ParentMissingError("block refers to a parent that is not there. Fetch the parent version first")
        child[:] = chunks.decode(payload, size, whole_parent)
    elif codec is Codec.PLANES:
        child[:] = general.decode_planes(payload, size, _whole(shape.layout, size).width)
    elif codec is Codec.FLOATS:
        _decode_floats(payload, child, _whole(shape.layout, size))
    elif parent is None or len(parent) != size:
        raise ParentMissingError(
            f"block needs {size} bytes of its parent, there are {0 if parent is None else len(parent)}. "
            "Fetch the parent version first"
        )
    elif codec is Codec.REFERENCE:
        if len(payload):
            raise DamagedBlockError(f"reference has {len(payload)} bytes after it")
        child[:] = parent
    elif codec is Codec.XOR:
        planes = general.decode_planes(payload, size, _whole(shape.layout, size).width)
        child[:] = general.exclusive_or(planes, parent)
    else:
        _decode_delta(payload, parent, child, _whole(shape.layout, size))


def _whole(layout: Layout | None, size: int) -> Layout:
    if layout is None or not size or size % layout.width:
        raise DamagedBlockError(f"block claims to hold numbers, its {size} bytes are none of the tensor's dtype")
    return layout


# The kernel where there is one. NumPy is imported only without it: a function's archive need not carry it.


def _encode_delta(child: Bytes, parent: Bytes, layout: Layout, stretch: int) -> bytes | None:
    if found := kernel.load():
        return found.delta_encode(child, parent, _numbers(layout), stretch)
    from functions.artifacts.codecs import delta

    return delta.encode(child, parent, layout, stretch)


def _decode_delta(payload: memoryview, parent: Bytes, child: memoryview, layout: Layout) -> None:
    if found := kernel.load():
        found.delta_decode(payload, parent, _numbers(layout), child)
        return
    from functions.artifacts.codecs import delta

    child[:] = delta.decode(payload, parent, layout)


def _encode_floats(child: Bytes, layout: Layout, stretch: int) -> bytes | None:
    if layout.kind is not Kind.FLOAT:
        raise CodecError("FLOATS writes floats only")
    if found := kernel.load():
        return found.floats_encode(child, _numbers(layout), stretch)
    from functions.artifacts.codecs import planes

    return planes.encode(child, layout, stretch)


def _decode_floats(payload: memoryview, child: memoryview, layout: Layout) -> None:
    if layout.kind is not Kind.FLOAT:
        raise DamagedBlockError("block claims to hold floats, its tensor does not")
    if found := kernel.load():
        found.floats_decode(payload, _numbers(layout), child)
        return
    from functions.artifacts.codecs import planes

    child[:] = planes.decode(payload, len(child), layout)


def _numbers(layout: Layout) -> kernel.Numbers:
    return int(layout.kind), layout.width, layout.exponent_bits, layout.mantissa_bits
