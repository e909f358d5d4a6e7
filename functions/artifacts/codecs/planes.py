"""Floats without a parent: exponents coded with a distribution a row scale, the rest as it is. The NumPy form.

The exponents of weights take few values, and which ones depends on the scale of the row; signs and most mantissa bits are noise
that nothing can shorten (the same split as in arXiv 2411.05239 and arXiv 2504.11651, which use one distribution for all).

Payload of a block of floats, integers little-endian:

    stretch   2 bytes, numbers in a stretch (1 to 512; the last may be shorter)
    present   2^exponent bits / 8 bytes: bit e modulo 8 of byte e / 8 says that exponent e occurs
    mantissa  1 byte, k: how many of the highest mantissa bits belong to the symbol
    classes   1 byte, their number (1 to 16); only if it is above 1: one table over them and a run of one symbol a stretch,
              both as ans.py writes them
    tables    one a class, as ans.py writes them
    symbols   one a number, the context being its class
    extra     a field a number (bits.py) of mantissa bits - k + 1 bits: the mantissa's lower bits, the sign above them

Symbol = rank of the exponent among those present, shifted left by k, plus the k mantissa bits. The encoder takes the largest
k up to 2 that 256 symbols allow; a block with more than 256 exponents cannot be written so.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs import ans, bits, groups
from functions.artifacts.codecs.ans import take
from functions.artifacts.codecs.errors import DamagedBlockError
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.codecs.integers import UNSIGNED, Words, exponents, words
from functions.artifacts.codecs.layouts import Layout

MOST_MANTISSA_BITS = 2


def encode(child: Bytes, layout: Layout, stretch: int) -> bytes | None:
    """Return the payload of a block of one number at least; None if it holds more exponents than there are symbols."""
    numbers = words(child, layout)
    fields = exponents(numbers, layout)
    present = np.bincount(fields, minlength=1 << layout.exponent_bits) > 0
    distinct = int(present.sum())
    if distinct > ans.MOST_SYMBOLS:
        return None
    k = min(MOST_MANTISSA_BITS, layout.mantissa_bits)
    while distinct << k > ans.MOST_SYMBOLS:
        k -= 1
    low_bits = layout.mantissa_bits - k
    wide = numbers.astype(np.uint64)
    top = (wide >> np.uint64(low_bits)).astype(np.int64) & ((1 << k) - 1)
    rank = np.cumsum(present) - 1
    symbols = ((rank[fields] << k) | top).astype(np.uint8)
    low = wide & np.uint64((1 << low_bits) - 1)
    extra = low | ((wide >> np.uint64(layout.bits - 1)) << np.uint64(low_bits))
    of_stretch = classes(fields, stretch)
    number = int(of_stretch.max()) + 1
    contexts = np.repeat(of_stretch, stretch)[: len(numbers)].astype(np.int64)
    codes, tables = ans.rounded(ans.counted(symbols, contexts, number))
    parts = [struct.pack("<H", stretch), np.packbits(present, bitorder="little").tobytes(), bytes([k, number])]
    if number > 1:
        parts.append(ans.write_run(of_stretch))
    lengths = np.full(len(numbers), low_bits + 1)
    parts += [ans.write_tables(codes), ans.encode(symbols, contexts, tables), bits.pack(extra, lengths)]
    return b"".join(parts)


def decode(payload: Bytes, size: int, layout: Layout) -> bytes:
    """Return `size` bytes, a multiple of the layout's width; DamagedBlockError for what no encoder writes."""
    count = size // layout.width
    data = memoryview(payload)
    (stretch,) = struct.unpack("<H", take(data, 2))
    if not 1 <= stretch <= groups.MOST_STRETCH:
        raise DamagedBlockError(f"block has stretches of {stretch} numbers, 1 to {groups.MOST_STRETCH} are possible")
    mask_size = (1 << layout.exponent_bits) // 8
    present = np.unpackbits(np.frombuffer(take(data[2:], mask_size), np.uint8), bitorder="little")
    found = np.flatnonzero(present).astype(np.uint64)
    data = data[2 + mask_size :]
    k, number = take(data, 2)
    most = min(MOST_MANTISSA_BITS, layout.mantissa_bits)
    if k > most or not 1 <= len(found) << k <= ans.MOST_SYMBOLS or not 1 <= number <= groups.CLASSES:
        raise DamagedBlockError(f"block has {len(found)} exponents, {k} mantissa bits in a symbol and {number} classes")
    of_stretch: NDArray[np.uint8] = np.zeros(-(-count // stretch), np.uint8)
    data = data[2:]
    if number > 1:
        of_stretch, data = ans.read_run(data, len(of_stretch), number)
    tables, data = ans.read_tables(data, number, len(found) << k)
    symbols, data = ans.decode(data, np.repeat(of_stretch, stretch)[:count], tables)
    low_bits = layout.mantissa_bits - k
    extra = bits.unpack(data, np.full(count, low_bits + 1))
    wide = symbols.astype(np.uint64)
    exponent = found[(wide >> np.uint64(k)).astype(np.int64)] << np.uint64(layout.mantissa_bits)
    top = (wide & np.uint64((1 << k) - 1)) << np.uint64(low_bits)
    sign = (extra >> np.uint64(low_bits)) << np.uint64(layout.bits - 1)
    low = extra & np.uint64((1 << low_bits) - 1)
    numbers: Words = (sign | exponent | top | low).astype(UNSIGNED[layout.width])
    return numbers.tobytes()


def classes(fields: NDArray[np.int64], stretch: int) -> NDArray[np.uint8]:
    """Return the class of each stretch: twice the mean exponent, the largest in the block being 15."""
    begins = np.arange(0, len(fields), stretch)
    members = np.diff(np.append(begins, len(fields)))
    mean = 2 * np.add.reduceat(fields, begins) // members
    found: NDArray[np.uint8] = np.clip(mean - int(mean.max()) + groups.CLASSES - 1, 0, groups.CLASSES - 1).astype(
        np.uint8
    )
    return found
