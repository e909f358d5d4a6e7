"""How a piece's bytes are written into a pack: the pack's own ids, and the ladder of codecs behind them.

A pack says of every piece how to read it: as it is, the base itself, or through the ladder (codecs/ladder.py), alone or with a
base, bytes that the receiver already has. Ids are never used twice: 1 and 3 were zstd without and with a base.
"""

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

from functions.artifacts import kernel
from functions.artifacts.codecs.blocks import Codec, are_equal
from functions.artifacts.codecs.errors import CodecError
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.codecs.ladder import SAMPLE_SHARE, decode_tensor, encode_tensor
from functions.artifacts.codecs.layouts import LAYOUTS, Kind
from functions.artifacts.errors import PackError
from functions.artifacts.manifest import TensorEntry

RAW = 0
COPY = 2
LADDER = 4
LADDER_ON_BASE = 5

CODECS = frozenset((RAW, COPY, LADDER, LADDER_ON_BASE))
# Codecs that can't do without a base.
ON_A_BASE = frozenset((COPY, LADDER_ON_BASE))
# Of less than this the ladder looks at less than 128 KiB, and chunks are 64 KiB.
_SMALL_SAMPLE = 128 * 1024 * SAMPLE_SHARE
# Blocks of one tensor that are worked on at once; more threads than processors only cost memory.
MOST_WORKERS = 4


@dataclass(frozen=True)
class Form:
    """What a piece's bytes are: numbers of a dtype in rows of a shape, or opaque (an empty dtype)."""

    dtype: str = ""
    shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, tensor: TensorEntry | None, length: int) -> "Form":
        """Return the form of `length` bytes of a tensor; opaque if they are not whole numbers of a known dtype."""
        layout = LAYOUTS.get(tensor.dtype) if tensor else None
        if tensor is None or layout is None or length % layout.width:
            return cls()
        return cls(tensor.dtype, tuple(tensor.shape))


def encode(data: Bytes, base: Bytes | None, form: Form) -> tuple[int, Bytes]:
    """Return the cheapest way to write the bytes down, and the bytes as written: never more than there are."""
    if base is not None and are_equal(base, data):
        return COPY, b""
    if not data:
        return RAW, data
    if form.dtype and base is not None and len(base) != len(data):
        base = None
    try:
        written = encode_tensor(
            data, base, form.dtype, form.shape, codec=_quick(form, base is not None), executor=_workers()
        )
        if base is not None and not form.dtype and len(data) <= _SMALL_SAMPLE:
            # The ladder's sample of so few bytes is shorter than one chunk and can't tell what chunks would save.
            chunked = encode_tensor(data, base, "", (), codec=Codec.CHUNKS, executor=_workers())
            written = min(written, chunked, key=len)
    except CodecError:
        # A rung that does not work is left out.
        return RAW, data
    if len(written) >= len(data):
        return RAW, data
    return (LADDER if base is None else LADDER_ON_BASE), written


def decode(codec: int, data: Bytes, length: int, base: Bytes | None, form: Form) -> Bytes:
    """Return exactly `length` bytes; PackError for anything else, without allocating more than `length`."""
    if codec == RAW:
        if len(data) != length:
            raise PackError(f"pack holds {len(data)} raw bytes and claims {length}")
        return data
    if codec == COPY:
        if base is None or len(base) != length or data:
            raise PackError(f"pack claims {length} bytes to be those of a base that does not have them")
        return base
    if codec not in CODECS:
        raise PackError(f"codec {codec} is unknown to this release; upgrade it first")
    try:
        return decode_tensor(data, base, form.dtype, length, executor=_workers())
    except CodecError as error:
        raise PackError(f"piece is damaged: {error}") from error


def _quick(form: Form, has_base: bool) -> Codec | None:
    """Return the rung to take where the compiled kernel is missing, None to let the ladder choose.

    Without it the float codecs run at a few megabytes a second (they are for reading then), byte planes at a hundred.
    """
    layout = LAYOUTS.get(form.dtype)
    if kernel.load() is not None or layout is None:
        return None
    if has_base:
        return Codec.XOR
    return Codec.PLANES if layout.kind is Kind.FLOAT and layout.width > 1 else None


@cache
def _workers() -> Executor | None:
    count = min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    return ThreadPoolExecutor(count, thread_name_prefix="codec") if count > 1 else None
