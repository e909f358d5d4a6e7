"""Chunks, codecs and packs: every byte covered once, and nothing believed that a pack claims."""

import struct
from dataclasses import replace
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from functions.artifacts import plan
from functions.artifacts.codec import CODECS, RAW, ZSTD, choose
from functions.artifacts.errors import ManifestError, PackError
from functions.artifacts.manifest import FileEntry, TensorEntry
from functions.artifacts.pack import MAGIC, pack, unpack
from functions.artifacts.plan import Chunk, ChunkJob, RebuildJob, chunks
from functions.settings import DEFAULT_CHUNK_BYTES

VERSION, DIGEST = "3f" * 32, "00" * 32
JOB = ChunkJob("m", VERSION, DEFAULT_CHUNK_BYTES, 0, "model.safetensors", 2, 100, 9)


def file_of(size: int, borders: list[int]) -> FileEntry:
    tensors, start = [], 0
    for border in sorted(set(borders)):
        if start < border <= size:
            tensors.append(
                TensorEntry(
                    name=str(border), dtype="U8", shape=[border - start], start=start, end=border, blake3=DIGEST
                )
            )
            start = border
    return FileEntry(path="f", size=size, sha256=DIGEST, blake3=DIGEST, crc32c=0, tensors=tensors)


@given(st.integers(0, 5_000), st.lists(st.integers(1, 5_000), max_size=30), st.integers(2, 700))
def test_chunks_cover_the_file_once_in_bounded_pieces(size: int, borders: list[int], chunk_bytes: int) -> None:
    found = chunks(file_of(size, borders), chunk_bytes)
    assert [chunk.index for chunk in found] == list(range(len(found)))
    assert found[0].offset == 0
    assert all(one.offset + one.length == other.offset for one, other in pairwise(found))
    assert found[-1].offset + found[-1].length == size
    assert all(chunk.length <= chunk_bytes for chunk in found)
    assert all(chunk.length >= chunk_bytes // 2 for chunk in found[:-1])


def test_chunks_end_at_tensor_borders_where_one_is_near() -> None:
    assert chunks(file_of(250, [80, 130, 250]), 100) == [
        Chunk(0, 0, 80),
        Chunk(1, 80, 50),
        Chunk(2, 130, 100),
        Chunk(3, 230, 20),
    ]
    assert chunks(file_of(0, []), 100) == [Chunk(0, 0, 0)]


def test_jobs_come_back_from_their_messages() -> None:
    assert plan.decode_chunk_job(plan.encode(JOB)) == JOB
    rebuild = RebuildJob("m", VERSION, DEFAULT_CHUNK_BYTES, 0, 2, "packs/x")
    assert plan.decode_rebuild_job(plan.encode(rebuild)) == rebuild


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        plan.encode(replace(JOB, length=DEFAULT_CHUNK_BYTES + 1)),
        plan.encode(replace(JOB, offset=-1)),
        plan.encode(replace(JOB, chunk_bytes=1)),
        plan.encode(replace(JOB, chunk_bytes=1 << 40)),
        plan.encode(replace(JOB, model="a/b")),
        plan.encode(replace(JOB, version="latest")),
    ],
)
def test_messages_that_can_not_be_are_refused(body: str) -> None:
    with pytest.raises(ManifestError):
        plan.decode_chunk_job(body)


@given(st.binary(max_size=5_000), st.sampled_from(sorted(CODECS)))
def test_every_codec_gives_back_the_bytes(data: bytes, codec: int) -> None:
    assert CODECS[codec].decode(CODECS[codec].encode(data), len(data)) == data


def test_the_codec_is_chosen_by_what_pays() -> None:
    noise = zstandard.ZstdCompressor().compress(bytes(range(256)) * 64) + b"".join(
        struct.pack("<Q", hash((n, "seed")) & 2**64 - 1) for n in range(5_000)
    )
    assert choose(b"\x00" * 10_000) == ZSTD
    assert choose(noise) == RAW
    assert choose(b"") == RAW


@given(st.binary(max_size=3_000))
def test_a_pack_says_what_it_holds(raw: bytes) -> None:
    header, back = unpack(pack(JOB, raw))
    assert back == raw
    assert (header.model, header.version, header.file, header.index, header.offset) == ("m", VERSION, 0, 2, 100)
    assert header.length == len(raw)


@given(st.binary(min_size=30, max_size=300), st.data())
def test_a_changed_pack_is_refused_or_gives_the_same_bytes(raw: bytes, data) -> None:  # type: ignore[no-untyped-def]
    whole = bytearray(pack(JOB, raw))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert unpack(bytes(whole))[1] == raw
    except PackError:
        return


def forged(codec: int, length: int, payload: bytes, version: int = 1, header: bytes | None = None) -> bytes:
    text = (
        header
        if header is not None
        else (
            b'{"blake3":"%s","chunk_bytes":67108864,"file":0,"index":0,"length":%d,"model":"m","offset":0,"version":"%s"}'
            % (DIGEST.encode(), length, VERSION.encode())
        )
    )
    return MAGIC + struct.pack(">HHI", version, codec, len(text)) + text + payload


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MAGIC,
        b"NOTAPACK" + b"\x00" * 20,
        forged(RAW, 3, b"abc", version=2),
        forged(9, 3, b"abc"),
        forged(RAW, 4, b"abc"),
        forged(RAW, 3, b"abc"),
        forged(ZSTD, 10, zstandard.ZstdCompressor().compress(b"\x00" * (1 << 24))),
        forged(ZSTD, 1 << 60, zstandard.ZstdCompressor().compress(b"a")),
        forged(ZSTD, 3, b"not zstd"),
        forged(RAW, 0, b"", header=b"{}"),
        forged(RAW, 0, b"", header=b"[" * 9_000),
        forged(RAW, 0, b"", header=b'{"x":1}'),
        MAGIC + struct.pack(">HHI", 1, 0, 1 << 31),
    ],
)
def test_a_pack_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(PackError):
        unpack(data)
