"""Numbers as ordered integers: the bit patterns of a dtype mapped so that near numbers are near integers.

For a float with the sign bit set all bits are flipped, else only the sign bit: the integers then sort like the numbers
(Knuth's trick, used by every radix sort of floats). It is a bijection on bit patterns, so NaN payloads, infinities,
denormals and negative zero come back as they were; nothing here does floating-point arithmetic.

The residual of a child is `ordered(child) - ordered(parent)` modulo 2^bits, as a rule negated where the parent's sign bit is set:
positive means away from zero. Weight decay, which pulls towards zero, is then one-sided and costs less.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs.general import Bytes
from functions.artifacts.codecs.layouts import Kind, Layout

Words = NDArray[np.unsignedinteger[Any]]


UNSIGNED: dict[int, np.dtype[Any]] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}


def words(data: Bytes, layout: Layout) -> Words:
    """Return the bytes as unsigned integers of the layout's width, without a copy."""
    found: Words = np.frombuffer(data, UNSIGNED[layout.width])
    return found


def ordered(bits: Words, layout: Layout) -> Words:
    """Return the integers that sort like the numbers."""
    top = bits.dtype.type(1 << (layout.bits - 1))
    if layout.kind is Kind.UNSIGNED:
        return bits
    if layout.kind is Kind.SIGNED:
        return bits ^ top
    return bits ^ (_sign_mask(bits, layout) | top)


def restored(integers: Words, layout: Layout) -> Words:
    """Return the bit patterns of ordered integers: the inverse of `ordered`."""
    top = integers.dtype.type(1 << (layout.bits - 1))
    if layout.kind is Kind.UNSIGNED:
        return integers
    if layout.kind is Kind.SIGNED:
        return integers ^ top
    # A set top bit now means a positive number.
    return integers ^ (~_sign_mask(integers, layout) | top)


def differences(child: Words, parent: Words, layout: Layout) -> Words:
    """Return child - parent as ordered integers modulo 2^bits."""
    return ordered(child, layout) - ordered(parent, layout)


def turned(numbers: Words, mask: Words) -> Words:
    """Return the numbers, negated modulo 2^bits where the mask is all ones and not where it is zero; its own inverse."""
    return (numbers ^ mask) - mask


def parent_mask(parent: Words, layout: Layout) -> Words:
    """Return which differences turn with their parent's sign: all ones where it is set, else zero; zero if there are none."""
    return np.zeros_like(parent) if layout.kind is Kind.UNSIGNED else _sign_mask(parent, layout)


def apply(residual: Words, parent: Words, layout: Layout, mask: Words) -> Words:
    """Return the child's bit patterns from differences that were turned by the mask."""
    return restored(ordered(parent, layout) + turned(residual, mask), layout)


def exponents(bits: Words, layout: Layout) -> NDArray[np.int64]:
    """Return the exponent fields; zeros for integers, which have one scale."""
    return ((bits >> bits.dtype.type(layout.mantissa_bits)) & bits.dtype.type(layout.exponent_mask)).astype(np.int64)


def _sign_mask(bits: Words, layout: Layout) -> Words:
    """Return all ones where the top bit is set, else zero."""
    return ~((bits >> bits.dtype.type(layout.bits - 1)) - bits.dtype.type(1))
