"""Residuals as symbols of one byte and extra bits.

The magnitude m of a signed residual of n bits gets a number: itself below 2^(K+1); above, with e the position of its highest
bit and s = e - K, the number (s << K) + (m >> s), and the s bits below go out as they are. So the K bits after the highest
take part in the entropy coding, and the rest, which is as good as uniform, costs its own size. Symbol = 2 * number - 1 for a
negative residual, 2 * number else. K is 7, 3, 2 and 0 for 1, 2, 4 and 8 bytes: more would
make tables dearer than the fit is worth, or need more than 256 symbols. Eight symbols at least are left for other uses where
there are extra bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs.integers import UNSIGNED, Words
from functions.artifacts.codecs.layouts import Layout

MANTISSA_BITS = {1: 7, 2: 3, 4: 2, 8: 0}
# One more than the symbol of the largest magnitude.
ALPHABET = {width: 2 * (((8 * width - 1 - k) << k) + (2 << k)) - 1 for width, k in MANTISSA_BITS.items()}
# A byte has no magnitude above 128.
ALPHABET[1] = 256


def split(residuals: Words, layout: Layout) -> tuple[NDArray[np.uint8], NDArray[np.uint64], NDArray[np.int64]]:
    """Return symbol, extra bits and number of extra bits of each residual."""
    top = np.uint64(1 << (layout.bits - 1))
    wide = residuals.astype(np.uint64)
    negative = wide >= top
    magnitude = np.where(negative, np.uint64((1 << layout.bits) % (1 << 64)) - wide, wide)
    shift = np.maximum(highest_bit(magnitude) - MANTISSA_BITS[layout.width], 0)
    number = (shift << MANTISSA_BITS[layout.width]) + (magnitude >> shift.astype(np.uint64)).astype(np.int64)
    extra = magnitude & ((np.uint64(1) << shift.astype(np.uint64)) - np.uint64(1))
    return (2 * number - negative).astype(np.uint8), extra, shift


def extra_lengths(symbols: NDArray[np.uint8], layout: Layout) -> NDArray[np.int64]:
    """Return how many extra bits each symbol has."""
    number = (symbols.astype(np.int64) + 1) // 2
    lengths: NDArray[np.int64] = np.maximum((number >> MANTISSA_BITS[layout.width]) - 1, 0)
    return lengths


def join(symbols: NDArray[np.uint8], extra: NDArray[np.uint64], layout: Layout) -> Words:
    """Return the residuals, modulo 2^bits."""
    magnitude = magnitudes(symbols, extra, extra_lengths(symbols, layout), layout)
    negative = symbols.astype(np.uint64) & np.uint64(1)
    residuals: Words = ((magnitude ^ (np.uint64(0) - negative)) + negative).astype(UNSIGNED[layout.width])
    return residuals


def magnitudes(
    symbols: NDArray[np.uint8], extra: NDArray[np.uint64], lengths: NDArray[np.int64], layout: Layout
) -> NDArray[np.uint64]:
    """Return the magnitudes of residuals."""
    number = (symbols.astype(np.int64) + 1) // 2
    top = (number - (lengths << MANTISSA_BITS[layout.width])).astype(np.uint64)
    return (top << lengths.astype(np.uint64)) | extra


def highest_bit(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position of the highest bit that is set, 0 for zero."""
    found = np.zeros(values.shape, np.int64)
    rest = values.astype(np.uint64)
    for step in (32, 16, 8, 4, 2, 1):
        above = rest >> np.uint64(step)
        bigger = above > 0
        found += np.where(bigger, step, 0)
        rest = np.where(bigger, above, rest)
    return found
