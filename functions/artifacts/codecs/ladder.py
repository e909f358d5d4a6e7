"""Which codec a tensor is written with, and a tensor as its blocks.

The ladder, from the cheapest rung down; the first three need a parent of the same dtype and shape:

    reference   a block that equals its parent's (a tensor that the far side has whole is not sent at all: the planner's work)
    delta       residuals against the parent (delta.py), any dtype that is known
    XOR         difference in byte planes (general.py)
    floats      exponents without a parent (planes.py)
    planes      byte planes (general.py), for integers
    chunks      content-defined chunks against a parent of any size (chunks.py), for opaque bytes
    zstd, raw   when nothing else pays

The choice is made on a sample from the tensor's middle. What a rung saves on the sample decides, never whether it can be read:
every block falls to raw by itself when its codec does not pay, so a wrong parent or a poor sample costs bytes only.

A tensor as bytes, integers little-endian:

    version   1 byte, 2
    codec     1 byte, what was chosen; for people, as every block says what it is
    dtype     1 byte, code of layouts.py; 0 for opaque bytes
    block     4 bytes, bytes of the tensor in a block; the last may have less
    size      8 bytes, bytes of the tensor
    lengths   4 bytes for each block, its size as written
    blocks    blocks.py

Blocks are independent: encoded and decoded in parallel, in any order. The kernel takes, beside a block's bytes, 12 bytes a
number, twice the block's bytes and 5 MiB to encode, which a thread keeps (of 37 MiB for 4 MiB of BF16 it touches a third), and
1 MiB to decode.
"""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from functions.artifacts.codecs import blocks, chunks, general
from functions.artifacts.codecs.blocks import HEADER, Codec, Shape
from functions.artifacts.codecs.chunks import ParentIndex
from functions.artifacts.codecs.errors import CodecError, DamagedBlockError, UnknownCodecError
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.codecs.layouts import LAYOUTS, Kind, Layout

VERSION = 2
OPAQUE = 0
# Larger blocks share distributions over more numbers, smaller ones bound memory: 4 MiB is within a percent of whole tensors.
BLOCK_BYTES = 4 * 1024 * 1024
BLOCK_RANGE = (4 * 1024, blocks.MOST_BLOCK_BYTES)
SAMPLE_BYTES = 1024 * 1024
# Of smaller tensors this share is looked at, or the choice would take a good part of the time of the work.
SAMPLE_SHARE = 64
LEAST_SAMPLE_BYTES = 16 * 1024
# Below this saving the time to decode outweighs the bytes.
WORTHWHILE = 0.97
# A delta this small leaves nothing for a rung below that knows less.
CONVINCING = 0.5
# With fewer zero bytes than this the XOR is of dense drift, which a delta always writes smaller: no need to try.
SPARSE = 0.875
# A stretch of a row with one scale: shorter follows the scale closer and costs more classes. Rows of up to 512 as a whole
# measured best on encoders; where nothing says what a row is, 128.
STRETCH = 128
LEAST_STRETCH = 32
MOST_STRETCH = 512

T = TypeVar("T")

_HEAD = struct.Struct("<BBBIQ")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class TensorPlan:
    """How a tensor will be written: blocks of `block_bytes`, each encoded by `encode_block` whenever and wherever one likes."""

    codec: Codec
    dtype: str
    shape: Shape
    child: memoryview
    parent: memoryview | None
    index: ParentIndex | None
    block_bytes: int
    # The only block, where it was written to choose the codec.
    written: bytes | None = None

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return -(-len(self.child) // self.block_bytes)

    def encode_block(self, number: int) -> bytes:
        """Return a block; its time goes with its bytes, and threads do not wait for each other in it."""
        if self.written is not None:
            return self.written
        begin = number * self.block_bytes
        span = slice(begin, begin + self.block_bytes)
        same_range = self.parent[span] if self.parent is not None else None
        return blocks.encode_block(self.codec, self.child[span], self.index or same_range, self.shape)


def plan_tensor(
    child: Bytes,
    parent: Bytes | None,
    dtype: str,
    shape: Sequence[int],
    *,
    codec: Codec | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> TensorPlan:
    """Choose how to write a tensor.

    `parent`: the bytes of the parent's tensor of this name, dtype and shape; for opaque bytes, any older version of them; else
    None. `codec` overrides the choice. Raises CodecError for bytes that are no whole numbers of the dtype.
    """
    if not BLOCK_RANGE[0] <= block_bytes <= BLOCK_RANGE[1] or block_bytes % 8:
        raise CodecError(
            f"blocks of {block_bytes} bytes: {BLOCK_RANGE[0]} to {BLOCK_RANGE[1]} in steps of 8 are possible"
        )
    layout = LAYOUTS.get(dtype)
    numbers = Shape(layout, stretch_of(shape))
    view = memoryview(child).cast("B")
    older = None if parent is None else memoryview(parent).cast("B")
    if layout is not None and len(view) % layout.width:
        raise CodecError(f"{len(view)} bytes are no whole numbers of {dtype}")
    if layout is not None and older is not None and len(older) != len(view):
        raise CodecError(
            f"parent has {len(older)} bytes, the child {len(view)}: give the tensor of the same shape, or none"
        )
    index = chunks.index_of(older) if layout is None and older is not None else None
    unit = _unit(layout, shape, numbers.stretch)
    chosen, written = (codec, None) if codec is not None else _choose(view, older, index, numbers, unit)
    index = index if chosen is Codec.CHUNKS else None
    # Stretches are counted from the beginning of a block: where it begins within a row, none would have one scale.
    block_bytes -= block_bytes % unit if unit <= block_bytes else 0
    same = older if layout is not None else None
    return TensorPlan(
        chosen, dtype, numbers, view, same, index, block_bytes, written if len(view) <= block_bytes else None
    )


def encode_tensor(
    child: Bytes,
    parent: Bytes | None,
    dtype: str,
    shape: Sequence[int],
    *,
    codec: Codec | None = None,
    block_bytes: int = BLOCK_BYTES,
    executor: Executor | None = None,
) -> bytes:
    """Return a tensor as bytes; arguments as in `plan_tensor`. With an executor of threads, blocks are encoded side by side."""
    plan = plan_tensor(child, parent, dtype, shape, codec=codec, block_bytes=block_bytes)
    return assemble(plan, list(_map(executor, plan.encode_block, range(plan.count))))


def assemble(plan: TensorPlan, encoded: Sequence[bytes]) -> bytes:
    """Return the tensor's bytes from all its blocks, in order."""
    layout = plan.shape.layout
    head = _HEAD.pack(VERSION, plan.codec, layout.code if layout else OPAQUE, plan.block_bytes, len(plan.child))
    return b"".join((head, *(_LENGTH.pack(len(block)) for block in encoded), *encoded))


@dataclass(frozen=True)
class EncodedTensor:
    """A tensor's bytes, taken apart and checked for sizes; nothing is decoded yet."""

    codec: int
    layout: Layout | None
    block_bytes: int
    size: int
    blocks: tuple[memoryview, ...]

    def decode_block(self, number: int, parent: Bytes | None, tensor: memoryview) -> None:
        """Write a block's bytes to their place in `tensor`, which takes all `size` of them.

        `parent` as for the encoder, all of it. Errors as of blocks.decode_block; the place then holds anything.
        """
        begin = number * self.block_bytes
        end = min(begin + self.block_bytes, self.size)
        older = memoryview(parent).cast("B") if parent is not None else None
        same_range = older[begin:end] if older is not None and len(older) == self.size else None
        blocks.decode_block(self.blocks[number], tensor[begin:end], same_range, older, Shape(self.layout, STRETCH))


def open_tensor(data: Bytes, size: int, dtype: str) -> EncodedTensor:
    """Take a tensor's bytes apart, `size` and `dtype` being what the manifest says.

    Raises DamagedBlockError or UnknownCodecError; memory is taken for the table of blocks only, and that is in `data`.
    """
    view = memoryview(data).cast("B")
    if len(view) < _HEAD.size:
        raise DamagedBlockError(f"{len(view)} bytes are no encoded tensor")
    version, codec, code, block_bytes, claimed = _HEAD.unpack_from(view)
    if version != VERSION:
        raise UnknownCodecError(f"tensor has format {version}, this release reads {VERSION}. Use the one that wrote it")
    layout = LAYOUTS.get(dtype)
    if code != (layout.code if layout else OPAQUE) or claimed != size:
        raise DamagedBlockError(f"tensor holds {claimed} bytes of dtype {code}, not {size} bytes of {dtype}")
    # Blocks that end with a row have more than half of what was asked for.
    if not BLOCK_RANGE[0] // 2 <= block_bytes <= BLOCK_RANGE[1] or block_bytes % 8:
        raise DamagedBlockError(f"tensor has blocks of {block_bytes} bytes")
    count = -(-size // block_bytes)
    if count * (_LENGTH.size + HEADER.size) > len(view) - _HEAD.size:
        raise DamagedBlockError(f"{len(view)} bytes cannot hold {count} blocks")
    table = view[_HEAD.size : _HEAD.size + count * _LENGTH.size]
    position = _HEAD.size + len(table)
    found: list[memoryview] = []
    for (length,) in _LENGTH.iter_unpack(table):
        if length > len(view) - position:
            raise DamagedBlockError(f"block {len(found)} claims {length} bytes, {len(view) - position} are left")
        found.append(view[position : position + length])
        position += length
    if position != len(view):
        raise DamagedBlockError(f"{len(view) - position} bytes follow the last block")
    return EncodedTensor(codec, layout, block_bytes, size, tuple(found))


def decode_tensor(
    data: Bytes, parent: Bytes | None, dtype: str, size: int, *, executor: Executor | None = None
) -> bytearray:
    """Return a tensor's `size` bytes; `parent` and `dtype` as for the encoder. Errors as of open_tensor and blocks."""
    encoded = open_tensor(data, size, dtype)
    child = bytearray(size)
    with memoryview(child) as view:
        for _ in _map(executor, lambda number: encoded.decode_block(number, parent, view), range(len(encoded.blocks))):
            pass
    return child


def stretch_of(shape: Sequence[int]) -> int:
    """Return how many numbers share a scale: the row, or a whole part of it, where it has one of a fitting size."""
    row = shape[-1] if len(shape) > 1 else 0
    if row > MOST_STRETCH:
        parts = -(-row // MOST_STRETCH)
        return row // parts if row % parts == 0 else STRETCH
    return row if row >= LEAST_STRETCH else STRETCH


def _unit(layout: Layout | None, shape: Sequence[int], stretch: int) -> int:
    """Return of how many bytes a block must be a multiple so that it ends with a row, or with a stretch of a long one."""
    if layout is None:
        return 8
    row = shape[-1] if len(shape) > 1 else stretch
    return math.lcm(8, layout.width * (row if row * layout.width <= BLOCK_BYTES and row else stretch))


def _map(executor: Executor | None, work: Callable[[int], T], numbers: Iterable[int]) -> Iterable[T]:
    return executor.map(work, numbers) if executor else map(work, numbers)


def _choose(
    child: memoryview, parent: memoryview | None, index: ParentIndex | None, shape: Shape, unit: int
) -> tuple[Codec, bytes | None]:
    """Return the codec that makes the sample smallest, RAW if none is worth it; and the block, if the sample is all there is.

    The sample begins at a multiple of `unit`.
    """
    size = min(len(child), SAMPLE_BYTES, max(LEAST_SAMPLE_BYTES, len(child) // SAMPLE_SHARE)) // 8 * 8 or len(child)
    begin = (len(child) - size) // 2 // unit * unit
    span = slice(begin, begin + size)
    sample, older = child[span], parent[span] if parent is not None and index is None else None
    if not size or (older is not None and blocks.are_equal(sample, older)):
        # What is not like the sample will show in its block.
        return (Codec.DELTA if older is not None else Codec.RAW), None
    best, smallest, written = Codec.RAW, WORTHWHILE * size, None
    for codec in _rungs(shape.layout, older is not None, index is not None):
        if best in (Codec.DELTA, Codec.XOR) and codec not in (Codec.DELTA, Codec.XOR) and smallest < CONVINCING * size:
            break
        if codec is Codec.XOR and best is Codec.DELTA and older is not None and not _is_sparse(sample, older):
            continue
        block = blocks.encode_block(codec, sample, index or older, shape)
        if len(block) < smallest:
            best, smallest, written = codec, len(block), block
    return best, written if size == len(child) else None


def _is_sparse(sample: memoryview, older: memoryview) -> bool:
    return general.exclusive_or(sample, older).count(0) >= SPARSE * len(sample)


def _rungs(layout: Layout | None, has_parent: bool, has_index: bool) -> list[Codec]:
    if layout is None:
        return [Codec.CHUNKS, Codec.ZSTD] if has_index else [Codec.ZSTD]
    rungs = [Codec.DELTA, Codec.XOR] if has_parent else []
    if layout.kind is Kind.FLOAT:
        rungs.append(Codec.FLOATS)
    if layout.width > 1:
        rungs.append(Codec.PLANES)
    return [*rungs, Codec.ZSTD]
