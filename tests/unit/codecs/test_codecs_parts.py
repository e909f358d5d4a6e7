"""The parts on their own: ordered integers, symbols, bit fields, distributions, chunks, and the loading of the kernel."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from codec_samples import DTYPES, pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.artifacts import kernel
from functions.artifacts.codecs import ans, bits, chunks, delta, integers, planes, tokens
from functions.artifacts.codecs.errors import DamagedBlockError, KernelError, ParentMissingError
from functions.artifacts.codecs.layouts import LAYOUTS

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("dtype", DTYPES)
def test_ordered_integers_are_a_bijection(dtype: str) -> None:
    layout = LAYOUTS[dtype]
    child, parent = (integers.words(data, layout) for data in pair(dtype, "random", 3000, 1))
    assert (integers.restored(integers.ordered(child, layout), layout) == child).all()
    mask = integers.parent_mask(parent, layout)
    changes = integers.turned(integers.differences(child, parent, layout), mask)
    assert (integers.apply(changes, parent, layout, mask) == child).all()
    symbols, extra, lengths = tokens.split(child, layout)
    assert (tokens.extra_lengths(symbols, layout) == lengths).all()
    assert int(symbols.max()) < tokens.ALPHABET[layout.width]
    assert (tokens.join(symbols, extra, layout) == child).all()


@pytest.mark.parametrize(
    ("dtype", "numpy_type"), [("F16", "<f2"), ("F32", "<f4"), ("F64", "<f8"), ("I8", "<i1"), ("I32", "<i4")]
)
def test_ordered_integers_sort_like_the_numbers(dtype: str, numpy_type: str) -> None:
    numbers = np.sort(np.random.default_rng(2).normal(0, 100, 2000).astype(numpy_type))
    ordered = integers.ordered(integers.words(numbers.tobytes(), LAYOUTS[dtype]), LAYOUTS[dtype])
    assert (np.diff(ordered.astype(object)) >= 0).all()


def test_residuals_count_away_from_zero() -> None:
    layout = LAYOUTS["F32"]
    parent, child = (
        integers.words(np.array(numbers, "<f4").tobytes(), layout) for numbers in ([2.0, -2.0], [1.5, -1.5])
    )
    differences = integers.differences(child, parent, layout)
    assert (integers.turned(differences, integers.parent_mask(parent, layout)).view("<i4") < 0).all()


@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, (1 << 64) - 1)), max_size=60))
def test_bit_fields(fields: list[tuple[int, int]]) -> None:
    lengths = np.array([length for length, _ in fields], np.int64)
    values = np.array([value & ((1 << length) - 1) for length, value in fields], np.uint64)
    packed = bits.pack(values, lengths)
    assert (bits.unpack(packed, lengths) == values).all()
    with pytest.raises(DamagedBlockError):
        bits.unpack(packed + b"\0", lengths)


@settings(deadline=None)
@given(st.lists(st.one_of(st.just(0), st.integers(0, 9), st.integers(0, 1 << 22)), min_size=256, max_size=256))
def test_distributions(counts: list[int]) -> None:
    table = np.array([counts])
    frequencies = ans.normalise(table)
    assert int(frequencies.sum()) == ans.TOTAL
    assert ((frequencies > 0) == (table > 0)).all() or not table.any()
    codes, tables = ans.rounded(table)
    read, rest = ans.read_tables(memoryview(ans.write_tables(codes) + b"more"), 1, 256)
    assert (read == tables).all()
    assert bytes(rest) == b"more"


def test_golden_vectors(library: Path) -> None:
    """What is stored must be readable for years: these digests change only with a new codec id."""
    found = {}
    for dtype in ("BF16", "F32", "I8", "F8_E5M2"):
        child, parent = golden(dtype)
        found[dtype] = hashlib.sha256(delta.encode(child, parent, LAYOUTS[dtype], 128)).hexdigest()[:16]
    child, _ = golden("BF16")
    found["floats"] = hashlib.sha256(planes.encode(child, LAYOUTS["BF16"], 128) or b"").hexdigest()[:16]
    assert found == GOLDEN


def golden(dtype: str) -> tuple[bytes, bytes]:
    """Return child and parent made by integer arithmetic that no library changes: a shift register's bits."""
    layout = LAYOUTS[dtype]
    state, numbers = 1, []
    for place in range(6000):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        high = state >> 40
        exponent = (layout.exponent_mask // 2 - (high & 7) - place // 1000) & layout.exponent_mask
        parent = (exponent << layout.mantissa_bits | high >> 3) & (1 << layout.bits) - 1
        step = (high >> 8 & 7) - (high >> 11 & 7) << place // 2000
        numbers.append((((parent + step) & (1 << layout.bits) - 1), parent))
    return tuple(b"".join(pair[at].to_bytes(layout.width, "little") for pair in numbers) for at in (0, 1))  # type: ignore[return-value]


GOLDEN = {
    "BF16": "5370045ab9c77084",
    "F32": "9a11ef6af9320cac",
    "I8": "d08449e15175ed9b",
    "F8_E5M2": "90a3b2c847ef900c",
    "floats": "4bc1b62b9eed82d3",
}


def test_chunks_of_moved_bytes_are_found_again(form: str) -> None:
    parent = np.random.default_rng(1).bytes(1_500_000)
    child = parent[700_000:] + b"something new" + parent[:700_000]
    payload = chunks.encode(child, chunks.index_of(parent))
    assert len(payload) < 0.25 * len(child)
    assert chunks.decode(payload, len(child), parent) == child
    with pytest.raises(ParentMissingError):
        chunks.decode(payload, len(child), parent[:1000])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([0, 1, 8191, 8192, 131_072, 131_073, 1_048_575, 1_048_607, 2_300_000]),
    st.integers(0, 99),
    st.booleans(),
)
def test_both_forms_cut_alike(library: Path, size: int, seed: int, constant: bool) -> None:
    data = memoryview(bytes(size) if constant else np.random.default_rng(seed).bytes(size))
    found = []
    before = os.environ.get(kernel.ENVIRONMENT)
    try:
        for form in (str(library), kernel.OFF):
            os.environ[kernel.ENVIRONMENT] = form
            found.append(list(chunks.cut(data)))
    finally:
        os.environ.pop(kernel.ENVIRONMENT)
        if before is not None:
            os.environ[kernel.ENVIRONMENT] = before
    assert found[0] == found[1]
    assert all(end - begin <= chunks.MOST_BYTES for begin, end in found[0])
    assert sum(end - begin for begin, end in found[0]) == size


def test_a_kernel_that_is_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernel.ENVIRONMENT, str(tmp_path / "none.so"))
    with pytest.raises(KernelError, match="is no file"):
        kernel.load()
    (tmp_path / "none.so").write_bytes(b"\x7fELF and nothing else")
    with pytest.raises(KernelError, match="cannot be loaded"):
        kernel.load()


def test_the_kernel_needs_an_old_c_library_only(library: Path) -> None:
    """Symbol versions in the library's string table: functions run on glibc 2.26 and newer."""
    names = {part.decode() for part in library.read_bytes().split(b"\0") if part.startswith(b"GLIBC_2.")}
    assert all(tuple(map(int, name.removeprefix("GLIBC_").split("."))) <= (2, 26) for name in names), names
