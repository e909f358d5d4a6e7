"""Fields of varying length in a run of bits, least significant bit first: the NumPy form.

A field of length n holds the n lowest bits of its value; fields follow each other without gaps, byte 0 first, bit 0 of a
byte first. The last byte is filled up with zeros.

A number near a prediction: a 1 bit if it is the prediction; else a 0 bit and a Golomb-Rice number n: n / 4, rounded down, as that
many 0 bits and a 1 bit, then its two lowest bits. With d = prediction - number, n = 2d - 2 if d > 0, else -2d - 1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs.errors import DamagedBlockError

_HALF = 32
_LOW_BITS = 2
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


class Fields:
    """Fields that are written one after the other."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._lengths: list[int] = []

    def add(self, value: int, length: int) -> None:
        """Append a field."""
        self._values.append(value)
        self._lengths.append(length)

    def add_near(self, number: int, prediction: int) -> None:
        """Append a number near a prediction."""
        difference = prediction - number
        if not difference:
            self.add(1, 1)
            return
        rest = 2 * difference - 2 if difference > 0 else -2 * difference - 1
        zeros = rest >> _LOW_BITS
        low = rest & ((1 << _LOW_BITS) - 1)
        self.add((2 * low + 1) << (zeros + 1), zeros + 2 + _LOW_BITS)

    def packed(self) -> bytes:
        """Return all fields as bytes."""
        return pack(np.array(self._values, np.uint64), np.array(self._lengths))


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

    def near(self, prediction: int, most: int) -> int:
        """Return the next number near a prediction; DamagedBlockError if it is not from 0 to `most`."""
        number = prediction
        if not self.field(1):
            zeros = self.zeros()
            rest = (zeros << _LOW_BITS) + self.field(_LOW_BITS)
            number += rest // 2 + 1 if rest % 2 else -(rest // 2) - 1
        if not 0 <= number <= most:
            raise DamagedBlockError(f"block has the number {number} where 0 to {most} are possible")
        return number

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
