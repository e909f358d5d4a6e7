"""Which distribution a residual is coded with: by the scale of its stretch of a row, and its parent's exponent.

A training step moves the weights of one row by about the same amount, whatever their size, and the amount differs from row to
row; counted in units of the last place it is larger where the parent's exponent is smaller. So a residual's distribution is
known well from the class of its stretch (at most 512 neighbours in a row) and the parent's exponent (conditional coding).
The classes are sent; the exponents the receiver has.

Reference exponent: the largest finite one of the parent's numbers in every eighth stretch, from the first on.

Class of a stretch: each magnitude, at most 2^16 - 1 (2^28 - 1 for numbers of 4 and 8 bytes), is brought to the scale of the
reference exponent: shifted left by 16 bits (4 bits), then right by the distance of its exponent below the reference, at most 31.
The mean's number of bits is the scale; the largest scale in the block is class 15, each below it one less, down to 1. Class 0 is
a stretch without any change.

Direction of a stretch: rows of which most weights went the same way, up or down, are known better without the parent's sign.
0: residuals are turned with the parent's sign; 1: they are not turned; 2: all are. With c numbers that changed, u of them up and
d down: 1 or 2 if (u - d)^2 > 16 c, and |u - d| is larger than it is with the parent's sign; 1 if more went up.

Kind of a stretch = 3 * class + direction; its group = 2 * class, one more with a direction of 1 or 2. What the encoder finds is a
hint: decoding takes reference and kinds as they are sent.

Exponent index: 63 for the reference exponent and above, one less for each below, down to 0; always 0 for integers.

Cells (group, exponent index) with like residuals share a distribution. A cell's level follows from the mean m of its symbols'
numbers (tokens.py) times 256, rounded down, in quarters of an octave: with f = 2^(K+9), where numbers begin to be logarithms, it
is the code (ans.py) of m below f, and above that of f and one more for each 2^(K+6), at most 511. Levels are put together from
the lowest up until a distribution has 1,024 members, or twice as many each time while there are more than 64; a rest joins the
one before it.

Distributions of cells: 1 byte, number of distributions less one (at most 63); for each group that occurs, in order: a field of 6
bits, its lowest index, then for each index from 63 down to it the number of its distribution as a number near a prediction
(bits.py). The prediction for 63 is that of the group before, or 0; else what came last and the step that the group before made
between the same indices (2 in the first group), from 0 to the largest number. Below a group's lowest index its distribution
is that of the lowest. Filled up to a whole byte.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs import ans, bits, tokens
from functions.artifacts.codecs.ans import take
from functions.artifacts.codecs.errors import DamagedBlockError
from functions.artifacts.codecs.integers import Words, exponents, parent_mask
from functions.artifacts.codecs.layouts import Layout
from functions.artifacts.codecs.tokens import highest_bit

CLASSES = 16
DIRECTIONS = 3
KINDS = DIRECTIONS * CLASSES
GROUPS = 2 * CLASSES
INDICES = 64
MOST_STRETCH = 512
REFERENCE_STEP = 8
# A square of standard deviations: chance gives fewer than one row in ten thousand a direction.
LEAST_DIRECTED = 16
MOST_TABLES = 64
# A distribution costs about 20 bytes; below this many members the sharper fit does not earn them.
LEAST_MEMBERS = 1024
FIRST_STEP = 2
_INDEX_BITS = 6
_MOST_LEVELS = 512


@dataclass(frozen=True)
class Contexts:
    """The distribution of each cell, shape (groups, indices), -1 for groups that do not occur, and how many there are."""

    table: NDArray[np.int64]
    number: int


def reference(parent: Words, layout: Layout, stretch: int) -> int:
    """Return the reference exponent; 0 if there is none."""
    fields = exponents(parent, layout)
    looked_at = np.arange(len(parent)) // stretch % REFERENCE_STEP == 0
    return int(fields[looked_at & (fields < layout.exponent_mask)].max(initial=0))


def indices(parent: Words, layout: Layout, of_reference: int) -> NDArray[np.int64]:
    """Return the exponent index of each of the parent's numbers."""
    fields = exponents(parent, layout)
    if not layout.exponent_bits:
        return fields
    return np.clip(fields - of_reference + INDICES - 1, 0, INDICES - 1)


def kinds(changes: Words, parent: Words, layout: Layout, stretch: int, of_reference: int) -> NDArray[np.uint8]:
    """Return the kind of each stretch for differences that nothing has turned yet."""
    begins = np.arange(0, len(parent), stretch)
    magnitudes = np.minimum(changes, ~changes + changes.dtype.type(1)).astype(np.uint64)
    of_class = _classes(magnitudes, parent, layout, begins, of_reference)
    signs = _signs(changes, layout)
    balance = np.add.reduceat(signs, begins)
    aligned = np.add.reduceat(np.where(parent_mask(parent, layout) > 0, -signs, signs), begins)
    changed = np.add.reduceat((changes != 0).astype(np.int64), begins)
    directed = (balance * balance > LEAST_DIRECTED * changed) & (np.abs(balance) > np.abs(aligned))
    direction = np.where(directed, np.where(balance > 0, 1, 2), 0)
    return (DIRECTIONS * of_class + direction).astype(np.uint8)


def _classes(
    magnitudes: NDArray[np.uint64], parent: Words, layout: Layout, begins: NDArray[np.int64], of_reference: int
) -> NDArray[np.int64]:
    scale_bits = 16 if layout.width < 4 else 4
    most = np.uint64((1 << 16 if layout.width < 4 else 1 << 28) - 1)
    distance = np.clip(of_reference - exponents(parent, layout), 0, 31).astype(np.uint64)
    scaled = (np.minimum(magnitudes, most) << np.uint64(scale_bits)) >> distance
    members = np.diff(np.append(begins, len(parent))).astype(np.uint64)
    scale = highest_bit(np.add.reduceat(scaled, begins) // members)
    changed = np.add.reduceat(np.minimum(magnitudes, np.uint64(1)), begins) > 0
    largest = int(scale[changed].max(initial=0))
    return np.where(changed, np.maximum(scale - largest + CLASSES - 1, 1), 0)


def _signs(numbers: Words, layout: Layout) -> NDArray[np.int64]:
    negative = (numbers >> numbers.dtype.type(layout.bits - 1)).astype(np.int64)
    found: NDArray[np.int64] = (numbers != 0).astype(np.int64) - 2 * negative
    return found


def masks(of_stretch: NDArray[np.uint8], parent: Words, layout: Layout, stretch: int) -> Words:
    """Return what turns the residuals of stretches of these kinds."""
    direction = spread(of_stretch % DIRECTIONS, stretch, len(parent))
    aligned = parent_mask(parent, layout)
    all_ones = ~np.zeros_like(parent)
    return np.where(direction == 0, aligned, np.where(direction == 1, np.zeros_like(parent), all_ones))


def spread(of_stretch: NDArray[np.uint8], stretch: int, count: int) -> NDArray[np.int64]:
    """Return for each number what its stretch has."""
    found: NDArray[np.int64] = np.repeat(of_stretch.astype(np.int64), stretch)[:count]
    return found


def groups_of(of_stretch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the groups of kinds."""
    return (of_stretch // DIRECTIONS * 2 + (of_stretch % DIRECTIONS > 0)).astype(np.uint8)


def contexts(symbols: NDArray[np.uint8], cells: NDArray[np.int64], layout: Layout) -> Contexts:
    """Return which cells share a distribution, each number's cell being its group times 64 plus its index."""
    members = np.bincount(cells, minlength=GROUPS * INDICES)
    sums = np.zeros(GROUPS * INDICES, np.int64)
    np.add.at(sums, cells, (symbols.astype(np.int64) + 1) // 2)
    levels = _levels((sums << 8) // np.maximum(members, 1), layout)
    of_level = np.bincount(levels, weights=members, minlength=_MOST_LEVELS).astype(np.int64)
    least = LEAST_MEMBERS
    while True:
        table_of_level, number = _put_together(of_level.tolist(), least)
        if number <= MOST_TABLES:
            break
        least *= 2
    table = np.minimum(np.array(table_of_level)[levels], number - 1)
    table[members == 0] = -1
    shaped = table.reshape(GROUPS, INDICES)
    shaped[(shaped >= 0).any(axis=1)] = _filled(shaped[(shaped >= 0).any(axis=1)], number)
    return Contexts(shaped, number)


def _levels(means: NDArray[np.int64], layout: Layout) -> NDArray[np.int64]:
    k = tokens.MANTISSA_BITS[layout.width]
    first = np.int64(512 << k)
    above = np.maximum(means - first, 0) >> (k + 6)
    found: NDArray[np.int64] = np.minimum(ans.code_of(np.minimum(means, first)) + above, _MOST_LEVELS - 1)
    return found


def _put_together(of_level: list[int], least: int) -> tuple[list[int], int]:
    """Return the distribution of each level, the rest having one too many, and how many there are."""
    table_of_level, number, together = [], 0, 0
    for count in of_level:
        table_of_level.append(number)
        together += count
        if together >= least:
            number, together = number + 1, 0
    return table_of_level, max(number, 1)


def _filled(rows: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return the rows with every empty cell as it costs least: as predicted; below the lowest, as the lowest."""
    before: NDArray[np.int64] | None = None
    for row in rows:
        lowest = int(np.flatnonzero(row >= 0)[0])
        for index in range(INDICES - 1, lowest, -1):
            if row[index] < 0:
                row[index] = _prediction(row, before, index, number)
        row[:lowest] = row[lowest]
        before = row
    return rows


def _prediction(row: NDArray[np.int64], before: NDArray[np.int64] | None, index: int, number: int) -> int:
    if index == INDICES - 1:
        return 0 if before is None else int(before[index])
    step = FIRST_STEP if before is None else int(before[index] - before[index + 1])
    return min(max(int(row[index + 1]) + step, 0), number - 1)


def write_contexts(found: Contexts) -> bytes:
    """Return the distributions of cells as bytes."""
    fields = bits.Fields()
    before: NDArray[np.int64] | None = None
    for row in found.table[found.table[:, 0] >= 0]:
        lowest = int(np.flatnonzero(row != row[0])[0]) - 1 if (row != row[0]).any() else INDICES - 1
        fields.add(lowest, _INDEX_BITS)
        for index in range(INDICES - 1, lowest - 1, -1):
            fields.add_near(int(row[index]), _prediction(row, before, index, found.number))
        before = row
    return bytes([found.number - 1]) + fields.packed()


def read_contexts(data: memoryview, of_stretch: NDArray[np.uint8]) -> tuple[Contexts, memoryview]:
    """Return the distributions of the cells of these groups, and what follows; DamagedBlockError if no encoder wrote them."""
    number = take(data, 1)[0] + 1
    if number > MOST_TABLES:
        raise DamagedBlockError(f"block has {number} distributions, at most {MOST_TABLES} are possible")
    reader = bits.Reader(data[1:])
    table = np.full((GROUPS, INDICES), -1, np.int64)
    before: NDArray[np.int64] | None = None
    for group in np.unique(of_stretch).tolist():
        row = table[group]
        lowest = reader.field(_INDEX_BITS)
        for index in range(INDICES - 1, lowest - 1, -1):
            row[index] = reader.near(_prediction(row, before, index, number), number - 1)
        row[:lowest] = row[lowest]
        before = row
    return Contexts(table, number), data[1 + reader.finish() :]
