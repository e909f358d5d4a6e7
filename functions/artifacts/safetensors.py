"""The header of a safetensors file, read with bounds and without the library: eight bytes of length, JSON, then the tensors.

https://huggingface.co/docs/safetensors/index (format). Nothing is allocated before its size is checked against the file.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from functions.artifacts.errors import SafetensorsError

SUFFIX = ".safetensors"

# The reference implementation stops at 100 MB; a header of a 405 B parameter shard has well below one.
MOST_HEADER_BYTES = 100_000_000
MOST_TENSORS = 100_000
MOST_DIMENSIONS = 32
# Commas of a header with that many tensors of eight dimensions, and room for metadata.
MOST_VALUES = 16 * MOST_TENSORS
# Names of tensors in any script may take this much; a header that large has tens of thousands of them.
MOST_WIDE_BYTES = 8 << 20

# Bits, since some dtypes take less than a byte. A dtype not listed is carried as bytes, its size unchecked.
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
}


@dataclass(frozen=True)
class TensorSpan:
    """One tensor; `start` and `end` count from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def tensors(read: Callable[[int, int], bytes], size: int, what: str) -> list[TensorSpan]:
    """Return the tensors of a file of `size` bytes in the order of their bytes; `read(offset, length)` reads a range.

    Raises SafetensorsError for a header that is malformed, too large, or whose tensors overlap, leave gaps or do not fill the
    file.
    """
    if size < 8:
        raise SafetensorsError(f"{what}: {size} bytes are no safetensors file; upload it again")
    length = int.from_bytes(read(0, 8), "little")
    if length > min(MOST_HEADER_BYTES, size - 8):
        raise SafetensorsError(f"{what}: header claims {length} bytes, {min(MOST_HEADER_BYTES, size - 8)} are possible")
    text = read(8, length)
    _demand_modest(text, what)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"{what}: header is no JSON") from error
    if not isinstance(header, dict) or len(header) > MOST_TENSORS:
        raise SafetensorsError(f"{what}: header is no JSON object of at most {MOST_TENSORS} tensors")
    start = 8 + length
    found = [_span(name, entry, start, what) for name, entry in header.items() if name != "__metadata__"]
    found.sort(key=lambda tensor: (tensor.start, tensor.end))
    position = start
    for tensor in found:
        if tensor.start != position:
            raise SafetensorsError(f"{what}: tensor {tensor.name[:80]!r} overlaps another or leaves a gap before it")
        position = tensor.end
    if position != size:
        raise SafetensorsError(f"{what}: tensors end at byte {position}, the file has {size}")
    return found


def _demand_modest(text: bytes, what: str) -> None:
    """Refuse a header that would take many times its size as objects, before anything is made of it.

    Every value costs an object, however short it is written, and one character beyond Latin-1 makes the whole text two or four
    times as wide in memory.
    """
    brackets = text.count(b"{") + text.count(b"[")
    if brackets > 3 * MOST_TENSORS + MOST_DIMENSIONS or text.count(b",") > MOST_VALUES:
        raise SafetensorsError(
            f"{what}: header has {brackets} objects and lists, more than {MOST_TENSORS} tensors need"
        )
    if len(text) > MOST_WIDE_BYTES and not text.isascii():
        raise SafetensorsError(f"{what}: header of {len(text)} bytes is not all ASCII; use plain names for tensors")


def _span(name: str, entry: Any, start: int, what: str) -> TensorSpan:
    where = f"{what}: tensor {name[:80]!r}"
    if not isinstance(entry, dict):
        raise SafetensorsError(f"{where} is not described by an object")
    dtype, shape, offsets = entry.get("dtype"), _whole(entry.get("shape")), _whole(entry.get("data_offsets"))
    if not isinstance(dtype, str) or len(dtype) > 32 or shape is None or offsets is None:
        raise SafetensorsError(f"{where} lacks dtype, shape or offsets of the right kind")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise SafetensorsError(f"{where} ends before it starts")
    elements = 1
    for dimension in shape:
        elements *= dimension
    bits = BITS.get(dtype)
    if bits is not None and elements * bits != (offsets[1] - offsets[0]) * 8:
        raise SafetensorsError(f"{where}: {dtype}{shape} does not take {offsets[1] - offsets[0]} bytes")
    return TensorSpan(name, dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _whole(values: Any) -> list[int] | None:
    """Return a short list of whole numbers of zero or more, None for anything else."""
    if not isinstance(values, list) or len(values) > MOST_DIMENSIONS:
        return None
    return values if all(type(value) is int and 0 <= value < 1 << 62 for value in values) else None
