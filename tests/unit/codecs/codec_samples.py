"""Numbers for the tests of the codecs: random bit patterns, numbers like weights, and the patterns that break codecs."""

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.codecs.layouts import LAYOUTS, Kind, Layout

DTYPES = tuple(dtype for dtype in LAYOUTS if dtype != "C64")
KINDS = ("random", "weights", "constant", "special", "rows", "spikes")
SIZES = (1, 2, 7, 127, 128, 129, 255, 1000, 4095, 4096, 4097, 9001, 70_000)


def pair(dtype: str, kind: str, count: int, seed: int) -> tuple[bytes, bytes]:
    """Return child and parent of `count` numbers."""
    layout = LAYOUTS[dtype]
    source = np.random.default_rng(seed)
    parent = _numbers(layout, kind, count, source)
    width = np.dtype(f"<u{layout.width}")
    if kind == "random":
        child = _numbers(layout, kind, count, source)
    elif kind == "spikes":
        child = parent + source.choice(np.array([0, 200, 400, 1 << (layout.bits - 2)], np.uint64), count)
    else:
        scale = np.exp2(source.uniform(-3, 6, -(-count // 100))).repeat(100)[:count]
        child = parent + np.rint(source.normal(0, 1, count) * scale).astype(np.int64).astype(np.uint64)
    return child.astype(width).tobytes(), parent.astype(width).tobytes()


def _numbers(layout: Layout, kind: str, count: int, source: np.random.Generator) -> NDArray[np.uint64]:
    if kind == "random":
        return np.frombuffer(source.bytes(8 * count), np.uint64)
    if kind == "constant":
        return np.full(count, source.integers(0, 1 << 63), np.uint64)
    if kind == "special" and layout.kind is Kind.FLOAT:
        exponents = source.choice(np.array([0, 1, layout.exponent_mask - 1, layout.exponent_mask], np.uint64), count)
        mantissas = source.choice(np.array([0, 1, (1 << layout.mantissa_bits) - 1], np.uint64), count)
        signs = source.integers(0, 2, count).astype(np.uint64) << np.uint64(layout.bits - 1)
        return signs | (exponents << np.uint64(layout.mantissa_bits)) | mantissas
    if layout.kind is not Kind.FLOAT:
        return np.rint(source.normal(0, 20, count)).astype(np.int64).astype(np.uint64)
    bias = layout.exponent_mask // 2
    scale = source.uniform(-4, 0, -(-count // 50)).repeat(50)[:count] if kind == "rows" else np.zeros(count)
    mantissas, powers = np.frexp(np.abs(source.normal(0, 1, count)) * np.exp2(scale))
    exponents = np.clip(powers + bias, 0, layout.exponent_mask).astype(np.uint64)
    low = ((mantissas * 2 - 1) * (1 << layout.mantissa_bits)).astype(np.uint64) & np.uint64(
        (1 << layout.mantissa_bits) - 1
    )
    signs = source.integers(0, 2, count).astype(np.uint64) << np.uint64(layout.bits - 1)
    return signs | (exponents << np.uint64(layout.mantissa_bits)) | low
