"""Packs that somebody made up: each is refused with a message that names version, file and check, and leaves nothing behind."""

import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from artifact_way import Way
from blake3 import blake3
from safetensors.numpy import save_file

from functions.artifacts import plan
from functions.artifacts.codec import COPY, LADDER, LADDER_ON_BASE, RAW
from functions.artifacts.codecs import ladder
from functions.artifacts.errors import PackError, VerificationError
from functions.artifacts.manifest import decode
from functions.artifacts.pack import Base, Pack, PackedPiece, pack, unpack
from functions.artifacts.paths import file_key, manifest_key, pack_key
from functions.artifacts.plan import EncodeJob, RebuildJob
from functions.errors import PermanentError, TransientError

ROWS = 300
FILE = "model.safetensors"


class Arrived:
    """A child whose one pack lies on the far side, beside its parent, and may be made anew."""

    def __init__(self, folder: Path) -> None:
        source = np.random.default_rng(3)
        tensors = {name: source.standard_normal((ROWS, 100), np.float32) for name in ("a", "b")}
        self.way = Way()
        versions = []
        for number in range(2):
            made = folder / str(number)
            made.mkdir()
            save_file(tensors, made / FILE)
            (made / "config.json").write_text("{}")
            versions.append(self.way.publish(made, parent=versions[0] if versions else None).version)
            if not number:
                self.way.travel(versions[0])
            tensors = {name: values * np.float32(1.001) for name, values in tensors.items()}
        self.parent, self.version = versions
        self.way.announce(manifest_key("m", self.version))
        self.way.encode_all()
        job = plan.decode_receiving_job(self.way.topic.messages[0].body)
        assert isinstance(job, RebuildJob)
        self.job = job
        self.pack: Pack = unpack(self.way.there.objects[job.pack][0])
        self.manifest = decode(self.way.here.objects[manifest_key("m", self.version)][0], "m", self.version)

    def piece(self, path: str = FILE, tensor: int | None = 0) -> int:
        """Return the number of a piece in the pack."""
        number = 0
        for part in plan.batches(self.manifest, self.job.chunk_bytes)[0]:
            file = self.manifest.files[part.file]
            for each in plan.pieces(file, part):
                if (file.path, each.tensor) == (path, tensor):
                    return number
                number += 1
        raise AssertionError("no such piece")

    def forge(self, number: int, piece: PackedPiece, payload: bytes) -> RebuildJob:
        """Store a pack in which one piece is another, under the digest of its bytes, and return its job."""
        pieces, bodies = list(self.pack.pieces), [bytes(self.pack.payload(at)) for at in range(len(self.pack.pieces))]
        pieces[number], bodies[number] = replace(piece, length=len(payload)), payload
        job = EncodeJob("m", self.version, self.job.chunk_bytes, 0, self.pack.bases)
        return self.stored(pack(job, pieces, bodies))

    def stored(self, data: bytes) -> RebuildJob:
        """Store bytes as a pack and return its job."""
        key = pack_key(blake3(data).hexdigest())
        self.way.there.put(key, data)
        return replace(self.job, pack=key)

    def refuse(self, job: RebuildJob, *words: str) -> None:
        """Let a job run and see it refused with these words and the version; nothing of it shows."""
        with pytest.raises(PermanentError) as refused:
            self.way.rebuilder.run(job)
        assert isinstance(refused.value, (PackError, VerificationError))
        for word in (self.version, *words):
            assert word in str(refused.value)
        assert manifest_key("m", self.version) not in self.way.there.objects
        assert file_key("m", self.version, FILE) not in self.way.there.objects


@pytest.fixture
def arrived(tmp_path: Path) -> Arrived:
    return Arrived(tmp_path)


def test_the_pack_as_it_came_is_read(arrived: Arrived) -> None:
    assert {piece.codec for piece in arrived.pack.pieces} >= {LADDER_ON_BASE}
    assert arrived.way.rebuilder.run(arrived.job).complete


def test_lying_lengths(arrived: Arrived) -> None:
    number = arrived.piece()
    piece = replace(arrived.pack.pieces[number], base=None)
    arrived.refuse(arrived.forge(number, replace(piece, codec=RAW), b"short"), FILE, "5 raw bytes and claims 120000")
    whole = ladder.encode_tensor(bytes(ROWS * 400), None, "F32", (ROWS, 100))
    longer = bytearray(whole)
    longer[7:15] = (1 << 60).to_bytes(8, "little")
    arrived.refuse(arrived.forge(number, replace(piece, codec=LADDER), bytes(longer)), FILE, f"{1 << 60} bytes")
    blocks = bytearray(whole)
    blocks[15:19] = (1 << 31).to_bytes(4, "little")
    arrived.refuse(arrived.forge(number, replace(piece, codec=LADDER), bytes(blocks)), FILE, f"claims {1 << 31} bytes")
    arrived.refuse(arrived.stored(arrived.way.there.objects[arrived.job.pack][0] + b"x"), "pieces of the pack end at")


def test_a_pack_of_another_version_or_batch(arrived: Arrived) -> None:
    other = EncodeJob("m", arrived.parent, arrived.job.chunk_bytes, 0, arrived.pack.bases)
    bodies = [bytes(arrived.pack.payload(at)) for at in range(len(arrived.pack.pieces))]
    arrived.refuse(arrived.stored(pack(other, arrived.pack.pieces, bodies)), "is another batch than 0")
    fewer = EncodeJob("m", arrived.version, arrived.job.chunk_bytes, 0, arrived.pack.bases)
    arrived.refuse(arrived.stored(pack(fewer, arrived.pack.pieces[1:], bodies[1:])), "is another batch than 0")


def test_other_bytes_under_the_name_of_a_pack(arrived: Arrived) -> None:
    data = bytearray(arrived.way.there.objects[arrived.job.pack][0])
    data[-1] ^= 1
    arrived.way.there.put(arrived.job.pack, bytes(data))
    arrived.refuse(arrived.job, arrived.job.pack, "does not hold the bytes of its name")


def test_bytes_that_are_not_those_of_the_manifest(arrived: Arrived) -> None:
    number = arrived.piece()
    piece = replace(arrived.pack.pieces[number], base=None, codec=RAW)
    arrived.refuse(arrived.forge(number, piece, bytes(ROWS * 400)), FILE, "have BLAKE3")
    # The head of a file is named by no manifest, so the pack names it. The file as a whole is then another, for which a base may
    # be to blame that its other pieces build on.
    head = arrived.piece(tensor=None)
    size = arrived.manifest.files[-1].tensors[0].start
    forged = PackedPiece(RAW, size, None, blake3(bytes(size)).hexdigest())
    arrived.way.jobs.messages.clear()
    assert not arrived.way.rebuilder.run(arrived.forge(head, forged, bytes(size))).complete
    assert len(arrived.way.jobs.messages) == 1
    assert file_key("m", arrived.version, FILE) not in arrived.way.there.objects


@pytest.mark.parametrize("bomb", ["zstd block", "zstd header"])
def test_bombs_are_refused_before_memory_is_taken(arrived: Arrived, bomb: str) -> None:
    swollen = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    number = arrived.piece("config.json", None)
    if bomb == "zstd block":
        size = next(file.size for file in arrived.manifest.files if file.path == "config.json")
        block = b"\x01" + bytes(4) + swollen
        head = bytes([2, 1, 0]) + (4096).to_bytes(4, "little") + size.to_bytes(8, "little")
        job = arrived.forge(number, PackedPiece(LADDER, 0, None, None), head + len(block).to_bytes(4, "little") + block)
        words = ("config.json", "zstd frame does not claim")
    else:
        sizes = (1 << 28).to_bytes(4, "big") + len(swollen).to_bytes(4, "big")
        job = arrived.stored(b"LIFEBOAT\x00\x03\x00\x00" + sizes + swollen)
        words = ("claims a header of",)
    tracemalloc.start()
    arrived.refuse(job, *words)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: replace(a.pack.pieces[a.piece()], codec=COPY),
        lambda a: replace(a.pack.pieces[a.piece()], codec=COPY, base=Base(0, "none", 0, ROWS * 400)),
        lambda a: replace(a.pack.pieces[a.piece()], codec=COPY, base=Base(0, FILE, 1 << 40, ROWS * 400)),
        lambda a: replace(a.pack.pieces[a.piece()], codec=COPY, base=Base(0, FILE, 0, 8)),
        lambda a: replace(a.pack.pieces[a.piece()], base=Base(0, FILE, 0, 8)),
    ],
)
def test_a_base_that_is_not_there_or_another_is_asked_for_again(
    arrived: Arrived, spoil: Callable[[Arrived], PackedPiece]
) -> None:
    """The sender may be right and this side have lost something: it costs bytes, and the pack is gone."""
    number = arrived.piece()
    piece = spoil(arrived)
    job = arrived.forge(number, piece, b"" if piece.codec == COPY else bytes(arrived.pack.payload(number)))
    arrived.way.jobs.messages.clear()
    assert not arrived.way.rebuilder.run(job).complete
    (again,) = arrived.way.jobs.messages
    assert plan.decode_sending_job(again.body) == EncodeJob("m", arrived.version, job.chunk_bytes, 0)
    assert job.pack not in arrived.way.there.objects
    arrived.way.topic.messages.clear()
    arrived.way.encode_all()
    assert arrived.way.rebuild(arrived.way.topic.messages[0].body)
    assert arrived.way.whole(arrived.version)


def test_five_hundred_mutations(arrived: Arrived) -> None:
    """Flipped, cut and lengthened packs under the digests of their bytes: refused or asked for again, never shown wrong."""
    chance = random.Random(1)
    there = arrived.way.there.objects
    good = there[arrived.job.pack][0]
    before = dict(there)
    for _ in range(500):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data) if chance.random() < 0.5 else 200)] ^= 1 << chance.randrange(8)
        if chance.random() < 0.2:
            data = data[: chance.randrange(len(data))]
        job = arrived.stored(bytes(data))
        arrived.way.jobs.messages.clear()
        try:
            complete = arrived.way.rebuilder.run(job).complete
        except (PackError, VerificationError) as error:
            assert arrived.version in str(error)
            continue
        except TransientError:
            continue
        if complete:
            # Two flips may undo each other, and the codec in a tensor's head is for people only.
            assert arrived.way.whole(arrived.version)
            there.clear()
            there.update(before)
        else:
            assert arrived.way.jobs.messages
