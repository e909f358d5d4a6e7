"""The compiled kernel and NumPy write the same bytes and read each other's, for every dtype and bit pattern."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from codec_samples import DTYPES, KINDS, SIZES, pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.artifacts import kernel
from functions.artifacts.codecs import delta, planes
from functions.artifacts.codecs.layouts import LAYOUTS, Kind, Layout

pytestmark = pytest.mark.unit
FLOATS = tuple(dtype for dtype in DTYPES if LAYOUTS[dtype].kind is Kind.FLOAT)
STRETCHES = st.sampled_from([1, 2, 31, 128, 256])
SEEDS = st.integers(0, 1 << 32)


def numbers(layout: Layout) -> kernel.Numbers:
    return int(layout.kind), layout.width, layout.exponent_bits, layout.mantissa_bits


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(DTYPES), st.sampled_from(KINDS), st.sampled_from(SIZES), STRETCHES, SEEDS)
def test_delta(library: Path, dtype: str, kind: str, count: int, stretch: int, seed: int) -> None:
    layout = LAYOUTS[dtype]
    child, parent = pair(dtype, kind, count, seed)
    compiled = kernel.Kernel(library)
    expected = delta.encode(child, parent, layout, stretch)
    found = compiled.delta_encode(child, parent, numbers(layout), stretch)
    assert found == (expected if len(expected) <= len(child) else None)
    assert delta.decode(expected, parent, layout) == child
    out = bytearray(len(child))
    compiled.delta_decode(expected, parent, numbers(layout), memoryview(out))
    assert out == child


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FLOATS), st.sampled_from(KINDS), st.sampled_from(SIZES), STRETCHES, SEEDS)
def test_floats(library: Path, dtype: str, kind: str, count: int, stretch: int, seed: int) -> None:
    layout = LAYOUTS[dtype]
    child, _ = pair(dtype, kind, count, seed)
    compiled = kernel.Kernel(library)
    expected = planes.encode(child, layout, stretch)
    found = compiled.floats_encode(child, numbers(layout), stretch)
    assert found == (expected if expected is not None and len(expected) <= len(child) else None)
    if expected is None:
        return
    assert planes.decode(expected, len(child), layout) == child
    out = bytearray(len(child))
    compiled.floats_decode(expected, numbers(layout), memoryview(out))
    assert out == child


@pytest.mark.parametrize("dtype", ["U8", "I8", "F8_E4M3", "F8_E5M2", "F16", "BF16"])
def test_every_bit_pattern_against_every_sort_of_parent(library: Path, dtype: str) -> None:
    layout = LAYOUTS[dtype]
    child = b"".join(value.to_bytes(layout.width, "little") for value in range(1 << layout.bits))
    compiled = kernel.Kernel(library)
    top = 1 << (layout.bits - 1)
    for value in (0, 1, top - 1, top, top + 1, 2 * top - 1):
        parent = value.to_bytes(layout.width, "little") * (1 << layout.bits)
        payload = delta.encode(child, parent, layout, 128)
        assert delta.decode(payload, parent, layout) == child
        out = bytearray(len(child))
        compiled.delta_decode(payload, parent, numbers(layout), memoryview(out))
        assert out == child


@pytest.mark.parametrize("flags", [("-march=x86-64-v3", "-DLIFEBOAT_WITHOUT_AVX512"), ()], ids=["AVX2", "portable C"])
def test_every_way_to_compile_writes_the_same(library: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """What runs depends on the machine and its processor; the bytes do not."""
    compiler = shutil.which("cc")
    if compiler is None or (flags and platform.machine() != "x86_64"):
        pytest.skip("no C compiler on PATH, or another kind of processor")
    source = next(path for path in kernel.SOURCES if path.suffix == ".c")
    other = tmp_path / "other.so"
    command = [compiler, "-std=c11", "-O1", "-fPIC", "-shared", *flags, "-o", str(other), str(source)]
    subprocess.run(command, check=True, timeout=120)
    ways = kernel.Kernel(library), kernel.Kernel(other)
    for dtype in ("BF16", "F32"):
        child, parent = pair(dtype, "rows", 300_000, 3)
        found = {way.delta_encode(child, parent, numbers(LAYOUTS[dtype]), 128) for way in ways}
        found_floats = {way.floats_encode(child, numbers(LAYOUTS[dtype]), 128) for way in ways}
        assert len(found) == len(found_floats) == 1
        payload, floats = found.pop(), found_floats.pop()
        assert payload is not None
        assert floats is not None
        for way in ways:
            out = bytearray(len(child))
            way.delta_decode(payload, parent, numbers(LAYOUTS[dtype]), memoryview(out))
            assert out == child
            way.floats_decode(floats, numbers(LAYOUTS[dtype]), memoryview(out))
            assert out == child
