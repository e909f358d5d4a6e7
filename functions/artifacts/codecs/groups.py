"""Which distribution a residual is coded with: by the scale of its stretch of a row, and its parent's exponent.

A training step moves the weights of one row by about the same amount, whatever their size, and the amount differs from row to
row; counted in units of the last place it is larger where the parent's exponent is smaller. So a residual's distribution is
known well from the class of its stretch (at most 512 neighbours in a row) and the parent's exponent (conditional coding).
The classes are sent; the exponents the receiver has.

Class of a stretch: each magnitude, at most 2^16 - 1 (2^28 - 1 for numbers of 4 and 8 bytes), is brought to the scale of the
reference exponent, which is the largest finite one of the parent's block: shifted left by 16 bits (4 bits), then right by the
distance of its exponent to the reference, at most 31. The mean's number of bits is the scale; the largest scale in the block is
class 15, each below it one less, down to 1. Class 0 is a stretch without any change. What the encoder finds is a hint: decoding
takes the classes as they are sent.

Exponent index: 63 for the reference exponent and above, one less for each below, down to 0; always 0 for integers.

Pools: the cells (class, exponent index) of one class, from index 0 up, are put together until a pool has a minimum of
members, every fourth number of a stretch being counted; a rest joins the pool before it. Every pool has a distribution.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs import ans
from functions.artifacts.codecs.ans import take
from functions.artifacts.codecs.errors import DamagedBlockError
from functions.artifacts.codecs.integers import Words, exponents
from functions.artifacts.codecs.layouts import Layout
from functions.artifacts.codecs.tokens import highest_bit

CLASSES = 16
INDICES = 64
MOST_STRETCH = 512
# A distribution costs about 15 bytes; below this many counted members, a fourth of all, the sharper fit does not earn them.
LEAST_MEMBERS = 128
COUNTED_STEP = 4


@dataclass(frozen=True)
class Pools:
    """For each class the largest exponent index of each of its pools; a class that does not occur has none."""

    bounds: tuple[tuple[int, ...], ...]

    @property
    def number(self) -> int:
        """How many pools there are."""
        return sum(len(each) for each in self.bounds)

    def table(self) -> NDArray[np.int64]:
        """Return the pool of each cell, shape (classes, indices); -1 for the cells of a class without pools."""
        table = np.full((len(self.bounds), INDICES), -1, np.int64)
        first = 0
        for row, bounds in zip(table, self.bounds, strict=True):
            if bounds:
                row[:] = first + np.searchsorted(bounds, np.arange(INDICES))
            first += len(bounds)
        return table


def indices(parent: Words, layout: Layout) -> NDArray[np.int64]:
    """Return the exponent index of each of the parent's numbers."""
    fields = exponents(parent, layout)
    if not layout.exponent_bits:
        return fields
    return np.clip(fields - reference(fields, layout) + INDICES - 1, 0, INDICES - 1)


def reference(fields: NDArray[np.int64], layout: Layout) -> int:
    """Return the largest exponent that is not all ones; 0 if there is none."""
    return int(fields[fields < layout.exponent_mask].max(initial=0))


def classes(magnitudes: NDArray[np.uint64], parent: Words, layout: Layout, stretch: int) -> NDArray[np.uint8]:
    """Return the class of each stretch."""
    scale_bits = 16 if layout.width < 4 else 4
    most = np.uint64((1 << 16 if layout.width < 4 else 1 << 28) - 1)
    fields = exponents(parent, layout)
    distance = np.clip(reference(fields, layout) - fields, 0, 31).astype(np.uint64)
    scaled = (np.minimum(magnitudes, most) << np.uint64(scale_bits)) >> distance
    begins = np.arange(0, len(parent), stretch)
    members = np.diff(np.append(begins, len(parent))).astype(np.uint64)
    mean = np.add.reduceat(scaled, begins) // members
    scale = highest_bit(mean)
    changed = np.add.reduceat(np.minimum(magnitudes, np.uint64(1)), begins) > 0
    largest = int(scale[changed].max(initial=0))
    return np.where(changed, np.maximum(scale - largest + CLASSES - 1, 1), 0).astype(np.uint8)


def pools(of_stretch: NDArray[np.uint8], index: NDArray[np.int64], stretch: int) -> Pools:
    """Return pools for stretches of these classes and numbers of these exponent indices."""
    number = int(of_stretch.max(initial=0)) + 1
    counted = np.arange(len(index)) % stretch % COUNTED_STEP == 0
    cells = np.repeat(of_stretch.astype(np.int64), stretch)[: len(index)] * INDICES + index
    counts = np.bincount(cells[counted], minlength=number * INDICES).reshape(number, INDICES)
    least = LEAST_MEMBERS
    while True:
        found = Pools(tuple(_bounds(row.tolist(), least) for row in counts))
        if found.number <= ans.MOST_TABLES - 1:
            return found
        least *= 2


def _bounds(counts: list[int], least: int) -> tuple[int, ...]:
    """Return the bounds of the pools of one class."""
    if not any(counts):
        return ()
    bounds: list[int] = []
    members = 0
    for index, count in enumerate(counts):
        members += count
        if members >= least:
            bounds.append(index)
            members = 0
    return (*bounds[:-1], INDICES - 1)


def write_pools(found: Pools) -> bytes:
    """Return for each class one byte, the number of its pools, and one byte a pool, its bound; first, the number of classes."""
    return bytes([len(found.bounds)]) + b"".join(bytes([len(each), *each]) for each in found.bounds)


def read_pools(data: memoryview) -> tuple[Pools, memoryview]:
    """Return the pools and what follows; DamagedBlockError if no encoder wrote them."""
    number = take(data, 1)[0]
    data = data[1:]
    if not 1 <= number <= CLASSES:
        raise DamagedBlockError(f"block has {number} classes, 1 to {CLASSES} are possible")
    found = []
    for _ in range(number):
        size = take(data, 1)[0]
        bounds = tuple(take(data[1:], size))
        data = data[1 + size :]
        if bounds and (bounds[-1] != INDICES - 1 or any(a >= b for a, b in pairwise(bounds))):
            raise DamagedBlockError("block has pools that do not cover the exponents")
        found.append(bounds)
    result = Pools(tuple(found))
    if not 1 <= result.number < ans.MOST_TABLES:
        raise DamagedBlockError(f"block has {result.number} pools, 1 to {ans.MOST_TABLES - 1} are possible")
    return result, data
