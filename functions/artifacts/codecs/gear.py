"""The gear hash of chunks.py over all places at once: the NumPy form."""

import numpy as np

# A piece at a time: its hashes take four times its bytes, twice over.
_PIECE = 1 << 20


def candidates(data: memoryview, gear: bytes, cut_bits: int, window: int) -> list[int]:
    """Return the places behind the bytes at which the highest `cut_bits` bits of the hash of the last `window` bytes are zero.

    `window` is a power of two. Bytes before the first count as if there were none.
    """
    table = np.frombuffer(gear, "<u4")
    found: list[int] = []
    for begin in range(0, len(data), _PIECE):
        first = max(0, begin - window + 1)
        hashes = table[np.frombuffer(data[first : begin + _PIECE], np.uint8)]
        reach = 1
        while reach < window:
            # The hash of 2r bytes is that of the last r plus that of the r before them, shifted by r.
            longer = hashes.copy()
            longer[reach:] += hashes[:-reach] << np.uint32(reach)
            hashes = longer
            reach *= 2
        places = np.flatnonzero(hashes >> np.uint32(32 - cut_bits) == 0) + first + 1
        found += places[places > begin].tolist()
    return found
