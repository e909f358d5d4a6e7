"""Fields of varying length in a run of bits, least significant bit first: the NumPy form.

A field of length n holds the n lowest bits of its value; fields follow each other without gaps, byte 0 first, bit 0 of a
byte first. The last byte is filled up with zeros.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs.errors import DamagedBlockError

_HALF = 32
_MOST_ZEROS = 64


def pack(values: NDArray[np.uint64], lengths: NDArray[Any]) -> bytes:
    """Return the fields as bytes; lengths from 0 to 64, bits of a value above its length must be zero."""
    lengths = lengths.astype(np.int64)
    total = int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    run = np.zeros(total // _HALF + 4, np.uint64)
    # In two halves, so that a half at any of 32 bit offsets fits into 64 bits.
    low = values & np.uint64(0xFFFFFFFF)
    high = values >> np.uint64(_HALF)
    for half, start in ((low, starts), (high, starts + _HALF)):
        used = np.flatnonzero(half)
        shifted = half[used] << (start[used] % _HALF).astype(np.uint64)
        index = start[used] // _HALF
        np.bitwise_or.at(run, index, shifted & np.uint64(0xFFFFFFFF))
        np.bitwise_or.at(run, index + 1, shifted >> np.uint64(_HALF))
    return run.astype("<u4").tobytes()[: (total + 7) // 8]


def unpack(data: bytes | memoryview, lengths: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the values of fields that fill `data` exactly; DamagedBlockError if they do not."""
    lengths = lengths.astype(np.int64)
    total = int(lengths.sum())
    if len(data) != (total + 7) // 8:
        raise DamagedBlockError(f"block has {len(data)} bytes of extra bits, its symbols need {(total + 7) // 8}")
    if total % 8 and data[-1] >> (total % 8):
        raise DamagedBlockError("block has bits set after its last field")
    padded = bytes(data) + bytes(20 - len(data) % 4)
    run = np.frombuffer(padded, "<u4").astype(np.uint64)
    starts = np.cumsum(lengths) - lengths

    def half(start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.uint64]:
        index = np.minimum(start // _HALF, len(run) - 2)
        both = run[index] | (run[index + 1] << np.uint64(_HALF))
        mask = (np.uint64(1) << length.astype(np.uint64)) - np.uint64(1)
        field: NDArray[np.uint64] = (both >> (start % _HALF).astype(np.uint64)) & mask
        return field

    low = half(starts, np.minimum(lengths, _HALF))
    if not len(lengths) or int(lengths.max()) <= _HALF:
        return low
    return low | (half(starts + _HALF, np.maximum(lengths - _HALF, 0)) << np.uint64(_HALF))


class Reader:
    """Reads fields one after the other, where a length depends on what came before."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def field(self, length: int) -> int:
        """Return the next field; DamagedBlockError if the data ends before it."""
        value = 0
        for place in range(length):
            value |= self._bit() << place
        return value

    def zeros(self) -> int:
        """Return how many zeros come before the next one, and go past it; DamagedBlockError for more than 64."""
        for count in range(_MOST_ZEROS + 1):
            if self._bit():
                return count
        raise DamagedBlockError(f"block has a number above {_MOST_ZEROS} in unary")

    def finish(self) -> int:
        """Return the number of bytes read, the begun one included; DamagedBlockError if bits are set in its rest."""
        while self._position % 8:
            if self._bit():
                raise DamagedBlockError("block has bits set after its last field")
        return self._position // 8

    def _bit(self) -> int:
        byte = self._position >> 3
        if byte >= len(self._data):
            raise DamagedBlockError("block ends inside a field")
        value = self._data[byte] >> (self._position & 7) & 1
        self._position += 1
        return value
