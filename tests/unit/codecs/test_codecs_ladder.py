"""Tensors as a whole: every dtype comes back, blocks stand alone, nothing costs more than its bytes and a small head."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from codec_samples import DTYPES, KINDS, SIZES, pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.artifacts.codecs import ladder
from functions.artifacts.codecs.blocks import HEADER, Codec
from functions.artifacts.codecs.errors import ChecksumError, CodecError, ParentMissingError
from functions.artifacts.codecs.layouts import LAYOUTS

pytestmark = pytest.mark.unit
HEAD_BYTES = 15


def most_bytes(size: int, block_bytes: int = ladder.BLOCK_BYTES) -> int:
    return HEAD_BYTES + size + -(-size // block_bytes) * (4 + HEADER.size)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([*DTYPES, "C64", "F4", "UNKNOWN"]),
    st.sampled_from(KINDS),
    st.sampled_from(SIZES),
    st.integers(0, 1 << 32),
    st.booleans(),
)
def test_round_trip(form: str, dtype: str, kind: str, count: int, seed: int, has_parent: bool) -> None:
    child, parent = pair(dtype if dtype in DTYPES else "F32", kind, count + count % 2, seed)
    older = parent if has_parent else None
    encoded = ladder.encode_tensor(child, older, dtype, (count,), block_bytes=4096)
    assert len(encoded) <= most_bytes(len(child), 4096)
    assert ladder.decode_tensor(encoded, older, dtype, len(child)) == child


def test_an_empty_tensor(form: str) -> None:
    encoded = ladder.encode_tensor(b"", b"", "BF16", (0, 7))
    assert len(encoded) == HEAD_BYTES
    assert ladder.decode_tensor(encoded, None, "BF16", 0) == b""


def test_both_forms_write_the_same_and_threads_too(library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    child, parent = pair("BF16", "rows", 70_000, 5)
    found = []
    for form in (str(library), "off"):
        monkeypatch.setenv("LIFEBOAT_KERNEL", form)
        found.append(ladder.encode_tensor(child, parent, "BF16", (700, 100), block_bytes=16_384))
        with ThreadPoolExecutor(2) as executor:
            found.append(ladder.encode_tensor(child, parent, "BF16", (700, 100), block_bytes=16_384, executor=executor))
            assert ladder.decode_tensor(found[0], parent, "BF16", len(child), executor=executor) == child
    assert len(set(found)) == 1


def test_blocks_are_independent(form: str) -> None:
    child, parent = pair("F32", "weights", 20_000, 3)
    encoded = ladder.open_tensor(
        ladder.encode_tensor(child, parent, "F32", (20_000,), block_bytes=8192), len(child), "F32"
    )
    # The last block alone, the others gone, of the parent only its range right.
    begin = 9 * 8192
    hollow = bytes(begin) + parent[begin:]
    alone = ladder.EncodedTensor(
        encoded.codec, encoded.layout, 8192, encoded.size, (memoryview(b""),) * 9 + encoded.blocks[9:]
    )
    found = bytearray(len(child))
    alone.decode_block(9, hollow, memoryview(found))
    assert found[begin:] == child[begin:]
    assert not any(found[:begin])


@pytest.mark.parametrize(
    ("dtype", "kind", "has_parent", "expected"),
    [
        ("BF16", "weights", True, Codec.DELTA),
        ("F32", "rows", True, Codec.DELTA),
        ("BF16", "weights", False, Codec.FLOATS),
        ("BF16", "random", False, Codec.RAW),
        ("I64", "weights", False, Codec.ZSTD),
        ("OTHER", "random", True, Codec.RAW),
    ],
)
def test_the_choice(form: str, dtype: str, kind: str, has_parent: bool, expected: Codec) -> None:
    child, parent = pair(dtype if dtype in DTYPES else "F32", kind, 70_000, 1)
    plan = ladder.plan_tensor(child, parent if has_parent else None, dtype, (70_000,))
    assert plan.codec is expected


def test_integers_that_count_go_by_planes(form: str) -> None:
    child = (np.arange(70_000, dtype="<i8") * 3).tobytes()
    assert ladder.plan_tensor(child, None, "I64", (70_000,)).codec is Codec.PLANES


def test_a_block_that_did_not_change_is_a_reference(form: str) -> None:
    _, parent = pair("BF16", "weights", 70_000, 2)
    child = parent[:-2] + bytes(2)
    encoded = ladder.encode_tensor(child, parent, "BF16", (70_000,), block_bytes=4096)
    assert len(encoded) < 35 * 9 + 500
    assert ladder.decode_tensor(encoded, parent, "BF16", len(child)) == child
    with pytest.raises(ParentMissingError, match="parent"):
        ladder.decode_tensor(encoded, None, "BF16", len(child))


def test_a_wrong_parent_costs_bytes_only(form: str) -> None:
    child, _ = pair("BF16", "weights", 70_000, 1)
    _, stranger = pair("BF16", "weights", 70_000, 99)
    plain = ladder.encode_tensor(child, None, "BF16", (70_000,))
    encoded = ladder.encode_tensor(child, stranger, "BF16", (70_000,))
    assert len(encoded) <= len(plain)
    assert ladder.decode_tensor(encoded, stranger, "BF16", len(child)) == child


def test_reading_with_another_parent_is_found(form: str) -> None:
    child, parent = pair("BF16", "weights", 5000, 1)
    encoded = ladder.encode_tensor(child, parent, "BF16", (5000,))
    other = bytearray(parent)
    other[100] ^= 1
    with pytest.raises(ChecksumError, match="another parent"):
        ladder.decode_tensor(encoded, other, "BF16", len(child))


def test_delta_nears_its_entropy(form: str) -> None:
    """A drift of known width in every row: the ratio stays within three percent of what arithmetic allows."""
    source = np.random.default_rng(4)
    rows, row = 600, 384
    exponents = np.full((rows, row), 120, np.uint16) << 7
    parent = exponents | source.integers(0, 128, (rows, row)).astype(np.uint16)
    widths = source.choice([1.5, 6.0], (rows, 1))
    steps = np.rint(source.normal(0, 1, (rows, row)) * widths).astype(np.int16)
    child = (parent.astype(np.int16) + steps).astype(np.uint16)
    encoded = ladder.encode_tensor(child.tobytes(), parent.tobytes(), "BF16", (rows, row), codec=Codec.DELTA)
    bits = 0.0
    for width in (1.5, 6.0):
        members = steps[widths[:, 0] == width].ravel()
        shares = np.unique(members, return_counts=True)[1] / members.size
        bits -= members.size * float((shares * np.log2(shares)).sum())
    assert len(encoded) * 8 < 1.03 * bits


@pytest.mark.parametrize(
    ("child", "parent", "dtype", "block_bytes"),
    [
        (b"123", None, "BF16", 4096),
        (b"1234", b"12", "BF16", 4096),
        (b"12", None, "BF16", 100),
        (b"12", None, "U8", 4097),
    ],
)
def test_parts_that_do_not_belong_together(child: bytes, parent: bytes | None, dtype: str, block_bytes: int) -> None:
    with pytest.raises(CodecError):
        ladder.plan_tensor(child, parent, dtype, (1,), block_bytes=block_bytes)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((10,), 128), ((5, 384), 384), ((5, 100), 100), ((5, 1000), 500), ((4, 513), 128), ((4, 3), 128)],
)
def test_stretches(shape: tuple[int, ...], expected: int) -> None:
    assert ladder.stretch_of(shape) == expected


def test_codes_of_dtypes_are_frozen() -> None:
    assert {name: layout.code for name, layout in LAYOUTS.items()} == {
        "BOOL": 1, "U8": 2, "U16": 3, "U32": 4, "U64": 5, "I8": 6, "I16": 7, "I32": 8, "I64": 9, "F8_E4M3": 10,
        "F8_E5M2": 11, "F16": 12, "BF16": 13, "F32": 14, "F64": 15, "C64": 14,
    }  # fmt: skip
