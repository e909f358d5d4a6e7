"""Float delta: what changed against the parent, coded close to its conditional entropy. The NumPy form.

Payload of a block of numbers that all have a parent, integers little-endian:

    stretch  2 bytes, numbers in a stretch (1 to 512; the last may be shorter)
    frequent 1 byte, their number (0 to 8), then that many residuals, each as wide as a number
    pools    as groups.py writes them; the number of classes is theirs
    classes  only if there is more than one class: one table over the classes and a run of one symbol a stretch, its class,
             both as ans.py writes them
    tables   one a pool, as ans.py writes them
    symbols  one a number, the context being the pool of its class and its parent's exponent index
    extra    the extra bits of all numbers (tokens.py) as fields (bits.py), to the end of the payload

A number is apply(residual, parent) of integers.py. A symbol from the end of the alphabet of tokens.py on stands for a frequent
residual in turn, without extra bits. AdamW takes the same share from every weight in every step (arXiv 1711.05101); where no
sample touches a weight of 32 bits, that is the same few units in the last place each time, and whole tables change by just two or
three values. The encoder looks at 4,096 residuals at equal distances, of numbers of 4 and 8 bytes only.

The compiled kernel writes and reads the same bytes.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs import ans, bits, groups, tokens
from functions.artifacts.codecs.ans import take
from functions.artifacts.codecs.errors import DamagedBlockError
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.codecs.integers import Words, apply, residuals, words
from functions.artifacts.codecs.layouts import Layout

MOST_SAMPLES = 4096
MOST_FREQUENT = 8
# Of the samples. A frequent residual costs its own width and a place in the tables; it saves its extra bits.
LEAST_FREQUENT = 64
# Narrower numbers have few extra bits to save.
LEAST_WIDTH = 4


def encode(child: Bytes, parent: Bytes, layout: Layout, stretch: int) -> bytes:
    """Return the payload of a block; child and parent have the same size, one number at least."""
    of_child, of_parent = words(child, layout), words(parent, layout)
    changes = residuals(of_child, of_parent, layout)
    symbols, extra, lengths = tokens.split(changes, layout)
    of_stretch = groups.classes(tokens.magnitudes(symbols, extra, lengths, layout), of_parent, layout, stretch)
    favourites = frequent(changes, lengths)
    for number, favourite in enumerate(favourites):
        hits = changes == favourite
        symbols[hits], extra[hits], lengths[hits] = tokens.ALPHABET[layout.width] + number, 0, 0
    of_number = np.repeat(of_stretch, stretch)[: len(of_child)].astype(np.int64)
    index = groups.indices(of_parent, layout)
    pools = groups.pools(of_stretch, index, stretch)
    contexts = pools.table()[of_number, index]
    codes, tables = ans.rounded(ans.counted(symbols, contexts, pools.number))
    parts = [struct.pack("<HB", stretch, len(favourites)), favourites.tobytes(), groups.write_pools(pools)]
    if len(pools.bounds) > 1:
        parts.append(ans.write_run(of_stretch))
    parts += [ans.write_tables(codes), ans.encode(symbols, contexts, tables), bits.pack(extra, lengths)]
    return b"".join(parts)


def decode(payload: Bytes, parent: Bytes, layout: Layout) -> bytes:
    """Return the child's bytes, as many as the parent's; DamagedBlockError for what no encoder writes."""
    of_parent = words(parent, layout)
    data = memoryview(payload)
    stretch, count = struct.unpack("<HB", take(data, 3))
    if not 1 <= stretch <= groups.MOST_STRETCH:
        raise DamagedBlockError(f"block has stretches of {stretch} numbers, 1 to {groups.MOST_STRETCH} are possible")
    if count > MOST_FREQUENT:
        raise DamagedBlockError(f"block has {count} frequent residuals, at most {MOST_FREQUENT} are possible")
    favourites = words(take(data[3:], count * layout.width), layout)
    pools, data = groups.read_pools(data[3 + count * layout.width :])
    of_stretch: NDArray[np.uint8] = np.zeros(-(-len(of_parent) // stretch), np.uint8)
    if len(pools.bounds) > 1:
        of_stretch, data = ans.read_run(data, len(of_stretch), len(pools.bounds))
    alphabet = tokens.ALPHABET[layout.width]
    tables, data = ans.read_tables(data, pools.number, alphabet + count)
    of_number = np.repeat(of_stretch, stretch)[: len(of_parent)].astype(np.int64)
    contexts = pools.table()[of_number, groups.indices(of_parent, layout)]
    if (contexts < 0).any():
        raise DamagedBlockError("block has a class without pools")
    symbols, data = ans.decode(data, contexts, tables)
    places = np.flatnonzero(symbols >= alphabet)
    numbers = symbols[places].astype(np.int64) - alphabet
    symbols[places] = 0
    extra = bits.unpack(data, tokens.extra_lengths(symbols, layout))
    changes = tokens.join(symbols, extra, layout)
    changes[places] = favourites[numbers]
    return apply(changes, of_parent, layout).tobytes()


def frequent(changes: Words, extra_lengths: NDArray[np.int64]) -> Words:
    """Return the residuals with extra bits that are frequent in a block, the most frequent first, ties by value."""
    if changes.itemsize < LEAST_WIDTH:
        return changes[:0]
    step = -(-len(changes) // MOST_SAMPLES)
    samples = changes[::step][extra_lengths[::step] > 0]
    values, counts = np.unique(samples, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_FREQUENT]
    return values[order[counts[order] >= LEAST_FREQUENT]]
