"""Parts, pieces, codecs and packs: every byte covered once, and nothing believed that a pack claims."""

import random
import struct
from dataclasses import replace
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.artifacts import plan
from functions.artifacts.codec import COPY, LADDER, LADDER_ON_BASE, RAW, Form, decode, encode
from functions.artifacts.errors import ManifestError, PackError
from functions.artifacts.manifest import FileEntry, Manifest, TensorEntry
from functions.artifacts.pack import MAGIC, Base, PackedPiece, pack, unpack
from functions.artifacts.plan import EncodeJob, Part, Piece, ProveJob, RebuildJob
from functions.artifacts.root import root
from functions.settings import DEFAULT_CHUNK_BYTES, Site

VERSION, DIGEST, PARENT = "3f" * 32, "00" * 32, "5a" * 32
JOB = EncodeJob("m", VERSION, DEFAULT_CHUNK_BYTES, 2, (PARENT,))


def file_of(size: int, borders: list[int], path: str = "f") -> FileEntry:
    tensors, start = [], 0
    for border in sorted(set(borders)):
        if start < border <= size:
            tensors.append(
                TensorEntry(
                    name=str(border), dtype="U8", shape=[border - start], start=start, end=border, blake3=DIGEST
                )
            )
            start = border
    return FileEntry(path=path, size=size, sha256=DIGEST, blake3=DIGEST, crc32c=0, crc64nvme="0" * 16, tensors=tensors)


files = st.builds(file_of, st.integers(0, 5_000), st.lists(st.integers(1, 5_000), max_size=30))


@given(files, st.integers(2, 700))
def test_parts_cover_the_file_once_in_bounded_runs(file: FileEntry, chunk_bytes: int) -> None:
    found = plan.parts(file, 0, chunk_bytes)
    assert [part.index for part in found] == list(range(len(found)))
    assert found[0].start == 0
    assert all(one.end == other.start for one, other in pairwise(found))
    assert found[-1].end == file.size
    assert all(part.length <= chunk_bytes for part in found)
    assert all(part.length >= chunk_bytes // 2 for part in found[:-1])


@given(files, st.integers(2, 700))
def test_pieces_cover_every_part_once_and_stay_within_a_tensor(file: FileEntry, chunk_bytes: int) -> None:
    for part in plan.parts(file, 0, chunk_bytes):
        found = plan.pieces(file, part)
        assert b"".join(bytes(piece.length) for piece in found) == bytes(part.length)
        assert not found or (found[0].start, found[-1].end) == (part.start, part.end)
        assert all(one.end == other.start for one, other in pairwise(found))
        for piece in found:
            if piece.tensor is not None:
                tensor = file.tensors[piece.tensor]
                assert tensor.start <= piece.start < piece.end <= tensor.end


@given(st.lists(st.integers(0, 900), min_size=1, max_size=12), st.integers(2, 300))
def test_batches_hold_every_part_once_and_at_most_a_chunk(sizes: list[int], chunk_bytes: int) -> None:
    entries = [file_of(size, [], f"{number:03d}") for number, size in enumerate(sizes)]
    manifest = Manifest(model="m", version=root(entries), origin=Site.AWS, created_ms=0, files=entries)
    found = plan.batches(manifest, chunk_bytes)
    assert all(sum(part.length for part in batch) <= chunk_bytes for batch in found)
    expected = [part for number, file in enumerate(entries) for part in plan.parts(file, number, chunk_bytes)]
    assert [part for batch in found for part in batch] == expected


def test_parts_end_at_tensor_borders_where_one_is_near_else_between_rows() -> None:
    assert plan.parts(file_of(250, [80, 130, 250]), 0, 100) == [
        Part(0, 0, 0, 80),
        Part(0, 1, 80, 130),
        Part(0, 2, 130, 230),
        Part(0, 3, 230, 250),
    ]
    assert plan.parts(file_of(0, []), 0, 100) == [Part(0, 0, 0, 0)]
    rows = TensorEntry(name="t", dtype="F32", shape=[10, 7], start=8, end=288, blake3=DIGEST)
    file = FileEntry(path="f", size=288, sha256=DIGEST, blake3=DIGEST, crc32c=0, crc64nvme="0" * 16, tensors=[rows])
    assert [part.end for part in plan.parts(file, 0, 100)] == [92, 176, 260, 288]
    assert plan.pieces(file, Part(0, 0, 0, 92)) == [Piece(0, 8), Piece(8, 92, 0)]


def test_jobs_come_back_from_their_messages() -> None:
    assert plan.decode_sending_job(plan.encode(JOB)) == JOB
    for job in (RebuildJob("m", VERSION, DEFAULT_CHUNK_BYTES, 2, "packs/x"), ProveJob("m", VERSION)):
        assert plan.decode_receiving_job(plan.encode(job)) == job


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        plan.encode(replace(JOB, batch=-1)),
        plan.encode(replace(JOB, chunk_bytes=1)),
        plan.encode(replace(JOB, chunk_bytes=1 << 40)),
        plan.encode(replace(JOB, model="a/b")),
        plan.encode(replace(JOB, version="latest")),
        plan.encode(replace(JOB, bases=("latest",))),
        plan.encode(replace(JOB, bases=(PARENT,) * 9)),
    ],
)
def test_messages_that_can_not_be_are_refused(body: str) -> None:
    with pytest.raises(ManifestError):
        plan.decode_sending_job(body)


TENSOR = TensorEntry(name="t", dtype="BF16", shape=[8, 16], start=0, end=256, blake3=DIGEST)


@settings(deadline=None)
@given(st.binary(max_size=5_000), st.none() | st.binary(max_size=5_000))
def test_opaque_bytes_come_back_with_a_base_and_without(data: bytes, base: bytes | None) -> None:
    codec, written = encode(data, base, Form())
    assert decode(codec, written, len(data), base, Form()) == data
    assert len(written) <= len(data)


@settings(deadline=None)
@given(st.binary(min_size=256, max_size=256), st.none() | st.binary(min_size=256, max_size=256))
def test_numbers_come_back_with_a_base_and_without(data: bytes, base: bytes | None) -> None:
    form = Form.of(TENSOR, 256)
    codec, written = encode(data, base, form)
    assert decode(codec, written, 256, base, form) == data


def test_a_share_that_is_no_whole_numbers_is_opaque() -> None:
    assert Form.of(TENSOR, 255) == Form()
    assert Form.of(TENSOR, 254) == Form("BF16", (8, 16))
    assert Form.of(None, 256) == Form()
    assert Form.of(TensorEntry(name="t", dtype="NEW", shape=[1], start=0, end=8, blake3=DIGEST), 8) == Form()


def test_the_codec_is_chosen_by_what_pays() -> None:
    noise = random.Random(1).randbytes(1_000_000)
    assert encode(b"\x00" * 10_000, None, Form())[0] == LADDER
    assert encode(noise, None, Form()) == (RAW, noise)
    assert encode(b"", None, Form()) == (RAW, b"")
    assert encode(noise, noise, Form()) == (COPY, b"")
    codec, written = encode(noise[:300_000] + b"changed" + noise[300_000:], noise, Form())
    assert codec == LADDER_ON_BASE
    assert len(written) < 300_000


def test_a_base_of_another_size_is_no_base_for_numbers() -> None:
    assert encode(b"\x00" * 256, b"\x00" * 254, Form.of(TENSOR, 256))[0] == LADDER


PIECES = [
    PackedPiece(RAW, 3, None, DIGEST),
    PackedPiece(COPY, 0, Base(0, "a/b", 8, 100), None),
    PackedPiece(LADDER_ON_BASE, 2, Base(0, "a", 0, 5), None),
]


def test_a_pack_says_what_it_holds() -> None:
    found = unpack(
        pack(
            replace(JOB, bases=(DIGEST, PARENT)),
            [*PIECES[:2], replace(PIECES[2], base=Base(1, "a", 0, 5))],
            [b"abc", b"", b"de"],
        )
    )
    assert (found.model, found.version, found.chunk_bytes, found.batch) == ("m", VERSION, DEFAULT_CHUNK_BYTES, 2)
    assert found.bases == (DIGEST, PARENT)
    assert [found.payload(number) for number in range(3)] == [b"abc", b"", b"de"]
    assert found.pieces[2].base == Base(1, "a", 0, 5)


def test_a_pack_names_only_the_versions_that_it_builds_on() -> None:
    found = unpack(pack(replace(JOB, bases=(DIGEST, PARENT)), [replace(PIECES[1], base=Base(1, "a", 0, 5))], [b""]))
    assert found.bases == (PARENT,)
    assert found.pieces[0].base == Base(0, "a", 0, 5)


def test_the_form_of_a_pack_is_frozen() -> None:
    written = pack(JOB, PIECES, [b"abc", b"", b"de"])
    magic, version, reserved, claimed, length = struct.unpack_from(">8sHHII", written)
    assert (magic, version, reserved) == (MAGIC, 3, 0)
    text = zstandard.ZstdDecompressor().decompress(written[20 : 20 + length])
    assert len(text) == claimed
    assert text.decode() == (
        f'{{"bases":["{PARENT}"],"batch":2,"chunk_bytes":67108864,"model":"m","pieces":[[0,3,null,"{DIGEST}"],'
        f'[2,0,[0,"a/b",8,100],null],[5,2,[0,"a",0,5],null]],"version":"{VERSION}"}}'
    )
    assert written[20 + length :] == b"abcde"


@given(st.data())
def test_a_changed_pack_is_refused_or_says_the_same(data) -> None:  # type: ignore[no-untyped-def]
    good = pack(JOB, PIECES, [b"abc", b"", b"de"])
    whole = bytearray(good)
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = unpack(bytes(whole))
    except PackError:
        return
    # Bytes of the payload are checked by their digest, once they are decoded.
    assert len(found.payload(0)) == 3


def forged(pieces: str, payload: bytes = b"", version: int = 3, text: bytes | None = None, claim: int = 0) -> bytes:
    if text is None:
        text = (
            f'{{"bases":["{PARENT}"],"batch":0,"chunk_bytes":67108864,"model":"m","pieces":{pieces},'
            f'"version":"{VERSION}"}}'
        ).encode()
    written = zstandard.ZstdCompressor().compress(text)
    return MAGIC + struct.pack(">HHII", version, 0, claim or len(text), len(written)) + written + payload


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MAGIC,
        b"NOTAPACK" + b"\x00" * 20,
        forged("[]", version=2),
        forged("[[9,3,null,null]]", b"abc"),
        forged("[[0,4,null,null]]", b"abc"),
        forged("[[0,2,null,null]]", b"abc"),
        forged("[[0,-3,null,null]]", b"abc"),
        forged("[[0,99999999999,null,null]]", b"abc"),
        forged("[[0,true,null,null]]", b"a"),
        forged("[[2,0,null,null]]"),
        forged('[[0,0,[0,"a",0,1],null]]'),
        forged('[[2,0,[1,"a",0,1],null]]'),
        forged('[[2,0,[0,"../a",0,1],null]]'),
        forged('[[2,0,[0,"a",-1,1],null]]'),
        forged('[[2,0,[0,"a",0,99999999999],null]]'),
        forged('[[0,0,null,"short"]]'),
        forged("null"),
        forged("", text=b"{}"),
        forged("", text=b"[" * 9_000),
        forged("", text=b'{"x":1}'),
        forged("", text=b"\x00" * (1 << 26)),
        forged("[]", claim=5),
        MAGIC + struct.pack(">HHII", 3, 0, 10, 1 << 31),
    ],
)
def test_a_pack_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(PackError):
        unpack(data)


@pytest.mark.parametrize(
    ("codec", "payload", "length", "base"),
    [
        (RAW, b"abc", 4, None),
        (COPY, b"", 3, None),
        (COPY, b"", 3, b"ab"),
        (COPY, b"a", 2, b"ab"),
        (LADDER, b"not a tensor", 3, None),
        (LADDER, encode(b"\x00" * 10_000, None, Form())[1], 10, None),
        (LADDER, encode(b"\x00" * 10_000, None, Form())[1], 1 << 60, None),
        (LADDER_ON_BASE, b"", 3, b"abc"),
        (9, b"abc", 3, None),
    ],
)
def test_a_piece_that_lies_is_refused(codec: int, payload: bytes, length: int, base: bytes | None) -> None:
    with pytest.raises(PackError):
        decode(codec, payload, length, base, Form())
