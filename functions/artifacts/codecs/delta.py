"""Float delta: what changed against the parent, coded close to its conditional entropy. The NumPy form.

Payload of a block of numbers that all have a parent, integers little-endian:

    stretch   2 bytes, numbers in a stretch (1 to 512; the last may be shorter)
    reference 2 bytes, an exponent (groups.py)
    frequent  1 byte, their number (0 to 8), then that many residuals, each as wide as a number
    kinds     one table over the kinds and a run of one symbol a stretch, its kind, both as ans.py writes them
    cells     their distributions, as groups.py writes them
    tables    one a distribution, as ans.py writes them
    symbols   one a number, the context being the distribution of its cell
    extra     the extra bits of all numbers (tokens.py) as fields (bits.py), to the end of the payload

A number is apply(residual, parent) of integers.py, the mask being that of its stretch's direction. A symbol from the end of the
alphabet of tokens.py on stands for a frequent residual in turn, without extra bits. AdamW takes the same share from every weight
in every step (arXiv 1711.05101); where no sample touches a weight of 32 bits, that is the same few units in the last place each
time, and whole tables change by just two or three values. The encoder looks at 4,096 residuals at equal distances, of numbers of
4 and 8 bytes only.

The compiled kernel writes and reads the same bytes.
"""

import struct

import numpy as np

from functions.artifacts.codecs import ans, bits, groups, integers, tokens
from functions.artifacts.codecs.ans import take
from functions.artifacts.codecs.errors import DamagedBlockError
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.codecs.integers import Words, apply, parent_mask, turned, words
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
    reference = groups.reference(of_parent, layout, stretch)
    differences = integers.differences(of_child, of_parent, layout)
    kinds = groups.kinds(differences, of_parent, layout, stretch, reference)
    changes = turned(differences, groups.masks(kinds, of_parent, layout, stretch))
    symbols, extra, lengths = tokens.split(changes, layout)
    favourites = frequent(turned(differences, parent_mask(of_parent, layout)), layout)
    for number, favourite in enumerate(favourites):
        hits = changes == favourite
        symbols[hits], extra[hits], lengths[hits] = tokens.ALPHABET[layout.width] + number, 0, 0
    of_number = groups.spread(groups.groups_of(kinds), stretch, len(of_child))
    cells = of_number * groups.INDICES + groups.indices(of_parent, layout, reference)
    found = groups.contexts(symbols, cells, layout)
    contexts = found.table.reshape(-1)[cells]
    codes, tables = ans.rounded(ans.counted(symbols, contexts, found.number))
    head = struct.pack("<HHB", stretch, reference, len(favourites)) + favourites.tobytes()
    parts = [head, ans.write_run(kinds), groups.write_contexts(found), ans.write_tables(codes)]
    return b"".join((*parts, ans.encode(symbols, contexts, tables), bits.pack(extra, lengths)))


def decode(payload: Bytes, parent: Bytes, layout: Layout) -> bytes:
    """Return the child's bytes, as many as the parent's; DamagedBlockError for what no encoder writes."""
    of_parent = words(parent, layout)
    data = memoryview(payload)
    stretch, reference, count = struct.unpack("<HHB", take(data, 5))
    if not 1 <= stretch <= groups.MOST_STRETCH:
        raise DamagedBlockError(f"block has stretches of {stretch} numbers, 1 to {groups.MOST_STRETCH} are possible")
    if reference > layout.exponent_mask:
        raise DamagedBlockError(f"block has the exponent {reference}, at most {layout.exponent_mask} is possible")
    if count > MOST_FREQUENT:
        raise DamagedBlockError(f"block has {count} frequent residuals, at most {MOST_FREQUENT} are possible")
    favourites = words(take(data[5:], count * layout.width), layout)
    kinds, data = ans.read_run(data[5 + count * layout.width :], -(-len(of_parent) // stretch), groups.KINDS)
    of_stretch = groups.groups_of(kinds)
    found, data = groups.read_contexts(data, of_stretch)
    alphabet = tokens.ALPHABET[layout.width]
    tables, data = ans.read_tables(data, found.number, alphabet + count)
    of_number = groups.spread(of_stretch, stretch, len(of_parent))
    contexts = found.table[of_number, groups.indices(of_parent, layout, reference)]
    symbols, data = ans.decode(data, contexts, tables)
    places = np.flatnonzero(symbols >= alphabet)
    numbers = symbols[places].astype(np.int64) - alphabet
    symbols[places] = 0
    extra = bits.unpack(data, tokens.extra_lengths(symbols, layout))
    changes = tokens.join(symbols, extra, layout)
    changes[places] = favourites[numbers]
    return apply(changes, of_parent, layout, groups.masks(kinds, of_parent, layout, stretch)).tobytes()


def frequent(changes: Words, layout: Layout) -> Words:
    """Return the residuals with extra bits that are frequent in a block, the most frequent first, ties by value.

    They are turned with the parent's sign here, whatever the direction of their stretch.
    """
    if changes.itemsize < LEAST_WIDTH:
        return changes[:0]
    samples = changes[:: -(-len(changes) // MOST_SAMPLES)]
    samples = samples[tokens.split(samples, layout)[2] > 0]
    values, counts = np.unique(samples, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_FREQUENT]
    return values[order[counts[order] >= LEAST_FREQUENT]]
