"""Bytes that no encoder wrote: always a named error or, where the checksum was hit as well, never more than the asked size."""

import random
import struct

import pytest
from codec_samples import pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.artifacts.codecs import ladder
from functions.artifacts.codecs.blocks import Codec, Shape, checksum, decode_block
from functions.artifacts.codecs.errors import ChecksumError, CodecError, DamagedBlockError, UnknownCodecError
from functions.artifacts.codecs.layouts import LAYOUTS

pytestmark = pytest.mark.unit
CODECS = (Codec.DELTA, Codec.XOR, Codec.FLOATS, Codec.PLANES, Codec.ZSTD, Codec.RAW)
TYPES = ("BF16", "F32", "F8_E4M3", "F64")
# What 4,096 bytes become where a block has to end with a row of 100 numbers, of whatever width.
BLOCK = 4000
DTYPES = st.sampled_from(TYPES)
ENCODED = {
    (codec, dtype): (
        pair(dtype, "rows", 1500, 11),
        ladder.encode_tensor(*pair(dtype, "rows", 1500, 11), dtype, (15, 100), codec=codec, block_bytes=4096),
    )
    for codec in CODECS
    for dtype in TYPES
}


def room(size: int) -> memoryview:
    return memoryview(bytearray(size))


def decode(data: bytes, parent: bytes, dtype: str, size: int) -> bytes | None:
    try:
        return bytes(ladder.decode_tensor(data, parent, dtype, size))
    except CodecError:
        return None


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(CODECS), DTYPES, st.data())
def test_flipped_bits(form: str, codec: Codec, dtype: str, data: st.DataObject) -> None:
    (child, parent), encoded = ENCODED[codec, dtype]
    damaged = bytearray(encoded)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    # Two flips may undo each other, and the codec in the head is for people only.
    assert decode(bytes(damaged), parent, dtype, len(child)) in (None, child)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(CODECS), DTYPES, st.data())
def test_truncated_and_longer(form: str, codec: Codec, dtype: str, data: st.DataObject) -> None:
    (child, parent), encoded = ENCODED[codec, dtype]
    assert decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))], parent, dtype, len(child)) is None
    assert decode(encoded + data.draw(st.binary(min_size=1, max_size=9)), parent, dtype, len(child)) is None


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(Codec)), DTYPES, st.integers(0, 1 << 32), st.integers(0, 400))
def test_made_up_payloads(form: str, codec: Codec, dtype: str, seed: int, length: int) -> None:
    """A true head and a payload that begins like a real one and goes on at random: past the checks of the first bytes."""
    (child, parent), _ = ENCODED[Codec.DELTA, dtype]
    source = random.Random(seed)
    block = ladder.open_tensor(ENCODED[codec if codec in CODECS else Codec.DELTA, dtype][1], len(child), dtype).blocks[
        0
    ]
    real = bytes(block[5:])
    payload = real[: source.randrange(len(real))] + source.randbytes(length)
    head = struct.pack("<BI", codec, checksum(child[:BLOCK]))
    size = min(BLOCK, len(child))
    found = bytearray(size)
    try:
        decode_block(head + payload, memoryview(found), parent[:size], parent, Shape(LAYOUTS[dtype], 128))
    except CodecError:
        return
    assert found == child[:size]


def test_trailing_bytes_in_a_block_are_refused(form: str) -> None:
    for codec in CODECS:
        (child, parent), encoded = ENCODED[codec, "BF16"]
        block = bytes(ladder.open_tensor(encoded, len(child), "BF16").blocks[0])
        size = min(BLOCK, len(child))
        with pytest.raises(DamagedBlockError):
            decode_block(block + b"\0", room(size), parent[:size], parent, Shape(LAYOUTS["BF16"], 128))


def test_a_checksum_that_does_not_hold_is_named(form: str) -> None:
    (child, parent), encoded = ENCODED[Codec.DELTA, "BF16"]
    block = bytearray(ladder.open_tensor(encoded, len(child), "BF16").blocks[0])
    block[2] ^= 1
    with pytest.raises(ChecksumError, match="CRC32C"):
        decode_block(block, room(len(child[:BLOCK])), parent[:BLOCK], parent, Shape(LAYOUTS["BF16"], 128))


def test_a_zstd_bomb_is_refused_before_memory_is_taken(form: str) -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(64 * 1024 * 1024))
    with pytest.raises(DamagedBlockError, match="claim"):
        decode_block(struct.pack("<BI", Codec.ZSTD, 0) + bomb, room(4096), None, None, Shape(None, 128))


@pytest.mark.parametrize("length", [0, 3, 14])
def test_a_head_alone(length: int) -> None:
    with pytest.raises(DamagedBlockError):
        ladder.open_tensor(ENCODED[Codec.RAW, "BF16"][1][:length], 3000, "BF16")


def test_unknown_codecs_and_versions_are_named(form: str) -> None:
    (child, _), encoded = ENCODED[Codec.RAW, "BF16"]
    with pytest.raises(UnknownCodecError, match="format 9"):
        ladder.open_tensor(b"\x09" + encoded[1:], len(child), "BF16")
    with pytest.raises(UnknownCodecError, match="codec 200"):
        decode_block(b"\xc8" + bytes(20), room(15), None, None, Shape(None, 128))


def test_a_claim_of_many_blocks_takes_no_memory() -> None:
    head = struct.pack("<BBBIQ", ladder.VERSION, 0, 13, 4096, 1 << 60)
    with pytest.raises(DamagedBlockError, match="cannot hold"):
        ladder.open_tensor(head + bytes(100), 1 << 60, "BF16")
