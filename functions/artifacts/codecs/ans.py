"""Entropy coding with interleaved range asymmetric numeral systems (rANS) and one distribution a context: the NumPy form.

Method: J. Duda, arXiv 1311.2540 (2013); interleaving of several states over one stream of words: F. Giesen, arXiv
1402.3392 (2014). A symbol is coded with the distribution of its own context, whatever its neighbours use, so nothing has
to be sorted into groups.

Format, integers little-endian:

    tables   for each distribution in turn: a field of 8 bits, number of symbols s less one, then for each of the s symbols its
             weight's code as a number near a prediction (bits.py). The prediction is the code of the symbol before the last (same
             sign, next smaller magnitude of a residual); for symbols 1 and 2 that of the last one; 32 for symbol 0. Filled up
             to a whole byte.
    lanes    1 byte, base-2 logarithm of the number of lanes (0 to 6)
    count    4 bytes, number of 16-bit words
    states   4 bytes a lane: where its decoder starts
    words    2 bytes each

Weight of a code c: c itself below 8; above, with s = c / 4 - 1, (4 + c modulo 4) << s plus half of 1 << s. Frequencies are
`normalise(weights)`: they add up to 4,096. Rounding them to two bits after the highest costs less than a thousandth of the
symbols' bits and saves two thirds of the tables'.

Symbol i belongs to lane i modulo lanes. Decoding a symbol: slot = state
modulo 4,096; the symbol is the one whose interval [start, start + frequency) holds the slot, intervals being in order of
the symbols; state = frequency * (state / 4,096) + slot - start; if the state is below 65,536, it becomes state * 65,536 +
the next word. At the end every state is 65,536 and no word is left.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs import bits
from functions.artifacts.codecs.errors import DamagedBlockError

# 12 bits: a decoding table of 16 KiB a distribution, so that those in use fit into a core's second-level cache, and a
# symbol costs at most 0.0004 bits when it is certain.
PRECISION_BITS = 12
TOTAL = 1 << PRECISION_BITS
LOWEST_STATE = 1 << 16
# Eight vectors of eight lanes: with more, nothing is left to wait for.
MOST_LANES_LOG = 6
# One lane for every 4,096 symbols: a lane costs two bytes more than the entropy.
SYMBOLS_A_LANE_LOG = 12
MOST_SYMBOLS = 256
MOST_TABLES = 256
# Of the weight 4,096.
MOST_CODE = 44
FIRST_CODE = 32

Tables = NDArray[np.int64]


def normalise(counts: NDArray[np.int64]) -> Tables:
    """Return frequencies that add up to 4,096 in each row of counts, at least 1 for a symbol that occurs.

    Integer arithmetic only, so that every implementation finds the same. A row without any symbol gives the first one all.
    """
    tables = np.zeros(counts.shape, np.int64)
    for row, of_row in zip(tables, counts.astype(np.int64), strict=True):
        total = int(of_row.sum())
        if not total:
            row[0] = TOTAL
            continue
        row[:] = np.where(of_row > 0, np.maximum(1, (of_row * TOTAL + total // 2) // total), 0)
        _spread(row)
    return tables


def _spread(row: NDArray[np.int64]) -> None:
    """Take what is too much from all symbols, or give what is missing to them, in proportion to their frequencies."""
    excess = int(row.sum()) - TOTAL
    if not excess:
        return
    sign = 1 if excess > 0 else -1
    # Nothing may fall below 1.
    weights = [int(frequency) - (excess > 0 and frequency > 0) for frequency in row]
    left, weight_left = abs(excess), sum(weights)
    for symbol, weight in enumerate(weights):
        if weight:
            share = left * weight // weight_left
            row[symbol] -= sign * share
            left -= share
            weight_left -= weight


def rounded(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tables]:
    """Return the weight codes for counts of symbols and the tables that a decoder makes of them."""
    frequencies = normalise(counts)
    codes = code_of(frequencies)
    return codes, normalise(_weights(codes))


def code_of(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the codes of weights up to 2^17: four to an octave, so they are logarithms as well."""
    lengths = np.searchsorted(np.int64(1) << np.arange(18), weights, side="right")
    shift = np.maximum(lengths.astype(np.int64) - 3, 0)
    codes: NDArray[np.int64] = (shift << 2) + (weights >> shift)
    return codes


def write_tables(codes: NDArray[np.int64]) -> bytes:
    """Return the tables as bytes."""
    fields = bits.Fields()
    for row in codes:
        used = row[: int(np.flatnonzero(row)[-1]) + 1].tolist()
        fields.add(len(used) - 1, 8)
        for symbol, code in enumerate(used):
            fields.add_near(code, _prediction(used, symbol))
    return fields.packed()


def read_tables(data: memoryview, number: int, alphabet: int) -> tuple[Tables, memoryview]:
    """Return `number` tables over an alphabet and what follows them; DamagedBlockError if no encoder wrote them."""
    reader = bits.Reader(data)
    codes = np.zeros((number, MOST_SYMBOLS), np.int64)
    for row in codes:
        size = reader.field(8) + 1
        if size > alphabet:
            raise DamagedBlockError(f"block has a distribution over {size} symbols, {alphabet} exist")
        used: list[int] = []
        for symbol in range(size):
            used.append(reader.near(_prediction(used, symbol), MOST_CODE))
        if not used[-1]:
            raise DamagedBlockError("block has a distribution that ends with a symbol that never occurs")
        row[:size] = used
    return normalise(_weights(codes)), data[reader.finish() :]


def _prediction(codes: list[int], symbol: int) -> int:
    if not symbol:
        return FIRST_CODE
    return codes[symbol - 1] if symbol < 3 else codes[symbol - 2]


def _weights(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    shift = np.maximum((codes >> 2) - 1, 0)
    weights: NDArray[np.int64] = ((codes - (shift << 2)) << shift) + ((np.int64(1) << shift) >> 1)
    return weights


def encode(symbols: NDArray[Any], contexts: NDArray[Any], tables: Tables) -> bytes:
    """Return lanes, count, states and words for symbols, each coded with the table that its context names."""
    lanes_log = min(MOST_LANES_LOG, max(0, len(symbols).bit_length() - 1 - SYMBOLS_A_LANE_LOG))
    lanes = 1 << lanes_log
    flat = contexts.astype(np.int64) * MOST_SYMBOLS + symbols
    frequencies = tables.reshape(-1)[flat]
    starts = (np.cumsum(tables, axis=1) - tables).reshape(-1)[flat]
    states = np.full(lanes, LOWEST_STATE, np.int64)
    out: list[NDArray[np.uint16]] = []
    for begin in range((len(symbols) - 1) // lanes * lanes, -1, -lanes):
        frequency, start = frequencies[begin : begin + lanes], starts[begin : begin + lanes]
        active = states[: len(frequency)]
        # A state that would outgrow 32 bits gives its lower half away first; once is always enough.
        full = (active >> 20) >= frequency
        out.append(active[full].astype(np.uint16))
        active = np.where(full, active >> 16, active)
        quotient, remainder = np.divmod(active, frequency)
        states[: len(frequency)] = (quotient << PRECISION_BITS) + remainder + start
    stream = np.concatenate(out[::-1]) if out else np.zeros(0, np.uint16)
    head = struct.pack("<BI", lanes_log, len(stream))
    return b"".join((head, states.astype("<u4").tobytes(), stream.astype("<u2").tobytes()))


def decode(data: memoryview, contexts: NDArray[Any], tables: Tables) -> tuple[NDArray[np.uint8], memoryview]:
    """Return one symbol for each context and what follows the words; DamagedBlockError if no encoder wrote them."""
    lanes_log, count = struct.unpack("<BI", take(data, 5))
    lanes = 1 << lanes_log
    if lanes_log > MOST_LANES_LOG or count > len(contexts):
        raise DamagedBlockError(f"block claims 2^{lanes_log} lanes and {count} words for {len(contexts)} symbols")
    states = np.frombuffer(take(data[5:], 4 * lanes), "<u4").astype(np.int64)
    data = data[5 + 4 * lanes :]
    stream = np.frombuffer(take(data, 2 * count), "<u2").astype(np.int64)
    if (states < LOWEST_STATE).any():
        raise DamagedBlockError("block starts from a state that no encoder leaves")
    table = _slots(tables)
    base = contexts.astype(np.int64) * TOTAL
    symbols = np.zeros(len(contexts), np.uint8)
    position = 0
    for begin in range(0, len(contexts), lanes):
        context = base[begin : begin + lanes]
        active = states[: len(context)]
        entry = table[context + (active & (TOTAL - 1))]
        symbols[begin : begin + lanes] = entry & 0xFF
        active = ((entry >> 20) + 1) * (active >> PRECISION_BITS) + ((entry >> 8) & (TOTAL - 1))
        low = np.flatnonzero(active < LOWEST_STATE)
        if position + len(low) > count:
            raise DamagedBlockError("block ends before its last symbol")
        active[low] = (active[low] << 16) | stream[position : position + len(low)]
        position += len(low)
        states[: len(context)] = active
    if position != count or (states != LOWEST_STATE).any():
        raise DamagedBlockError("block has words left, or was not read as it was written")
    return symbols, data[2 * count :]


def counted(symbols: NDArray[Any], contexts: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return how often each symbol occurs in each of `number` contexts, shape (number, 256)."""
    flat = contexts * MOST_SYMBOLS + symbols
    return np.bincount(flat, minlength=number * MOST_SYMBOLS).reshape(number, MOST_SYMBOLS)


def write_run(symbols: NDArray[np.uint8]) -> bytes:
    """Return one table and all symbols coded with it."""
    nothing = np.zeros(len(symbols), np.int64)
    codes, tables = rounded(counted(symbols, nothing, 1))
    return write_tables(codes) + encode(symbols, nothing, tables)


def read_run(data: memoryview, count: int, alphabet: int) -> tuple[NDArray[np.uint8], memoryview]:
    """Return `count` symbols that `write_run` wrote and what follows; DamagedBlockError if it did not."""
    tables, data = read_tables(data, 1, alphabet)
    return decode(data, np.zeros(count, np.int64), tables)


def take(data: memoryview, size: int) -> memoryview:
    """Return the first `size` bytes; DamagedBlockError if there are fewer."""
    if len(data) < size:
        raise DamagedBlockError(f"block ends {size - len(data)} bytes too early")
    return data[:size]


def _slots(tables: Tables) -> NDArray[np.int64]:
    """Return for every table and slot: frequency - 1, slot - start and symbol, in 12, 12 and 8 bits."""
    symbols = np.tile(np.arange(MOST_SYMBOLS), len(tables))
    flat = tables.reshape(-1)
    starts = (np.cumsum(tables, axis=1) - tables).reshape(-1)
    slot = np.tile(np.arange(TOTAL), len(tables))
    found: NDArray[np.int64] = np.repeat(((flat - 1) << 20) | symbols, flat) | ((slot - np.repeat(starts, flat)) << 8)
    return found
