"""A large model through the path's own functions: time and peak memory of every kind of job, and how both grow.

Planner, encoders and rebuilders are the code that functions run, in processes of their own as functions are; between them stand a
folder and a model that is made where it is read (large_objects.py). Stores answer at once, so what is measured is the work of a
job, and what a network adds is arithmetic (docs/artifacts.md).
"""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from functions.artifacts import kernel, plan
from functions.artifacts import manifest as manifests
from functions.artifacts.digest import BLOCK_BYTES, digest
from functions.artifacts.encode import Encoder, plan_version
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.paths import manifest_key, part_key
from functions.artifacts.plan import EncodeJob, RebuildJob
from functions.artifacts.publish import file_entry
from functions.artifacts.rebuild import Rebuilder
from functions.artifacts.root import root
from functions.artifacts.sign import Trust
from functions.settings import DEFAULT_CHUNK_BYTES, Site
from functions.stores.protocols import Message
from local.toolchain import kernel as making
from operate.bench.large_objects import LargeModel, LargeObjects
from operate.host import host
from operate.report.result import Host

MODEL = "large"
GIBIBYTE = 1 << 30
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Steps:
    """Seconds by the clock of one step with all workers, processor seconds of all its jobs, and the largest job's memory."""

    jobs: int
    seconds: float
    core_seconds: float
    peak_mib: int


@dataclass(frozen=True)
class LargePoint:
    """One size and number of workers. `identical`: the far side proved every file and shows the version."""

    bytes_raw: int
    bytes_wire: int
    workers: int
    encode: Steps
    rebuild: Steps
    identical: bool


@dataclass(frozen=True)
class LargeBench:
    """What `bench artifacts-large` found."""

    points: Sequence[LargePoint]
    chunk_bytes: int
    form: str
    host: Host


class _Signer:
    """A key in memory."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_key_pem(self) -> str:
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, content_digest: bytes) -> bytes:
        return self._key.sign(content_digest, ec.ECDSA(Prehashed(hashes.SHA256())))


class _Queue:
    """Keeps the bodies of messages."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def publish(self, messages: Sequence[Message]) -> None:
        self.bodies += [message.body for message in messages]


@dataclass(frozen=True)
class _World:
    """All that a worker needs to know, small enough to be sent to it."""

    folder: Path
    model: LargeModel
    entries: tuple[tuple[str, tuple[FileEntry, ...]], ...]
    versions: tuple[str, str]
    public_key: str
    began: float

    def store(self, name: str) -> LargeObjects:
        both = dict(zip(self.versions, ("parent", "child"), strict=True))
        here = both if name == "here" else {self.versions[0]: "parent"}
        attested = {
            (which, file.path): (file.crc32c, int(file.crc64nvme or "0", 16))
            for which, files in self.entries
            for file in files
        }
        places = {
            part_key(self.versions[1], DEFAULT_CHUNK_BYTES, number, part.index): (file.path, part.start)
            for number, file in enumerate(dict(self.entries)["child"])
            for part in plan.parts(file, number, DEFAULT_CHUNK_BYTES)
        }
        return LargeObjects(self.folder, self.model, name, here, attested, DEFAULT_CHUNK_BYTES, places.get)

    @property
    def trust(self) -> Trust:
        return Trust.of({Site.AWS: [self.public_key]})


@dataclass(frozen=True)
class _Done:
    bodies: tuple[str, ...]
    complete: bool
    bytes_wire: int
    core_seconds: float
    peak_kib: int


def run(sizes: Sequence[int], workers: Sequence[int], tell: Tell) -> LargeBench:
    """Take models of these sizes in bytes through the path with these numbers of processes."""
    if kernel.ENVIRONMENT not in os.environ and (built := making.locate()):
        os.environ[kernel.ENVIRONMENT] = str(built)
    points: list[LargePoint] = []
    for size in sizes:
        model = LargeModel(size)
        tell(f"{size / GIBIBYTE:.1f} GiB: digests of parent and child")
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            asked = [(model, which, path) for which in ("parent", "child") for path in model.paths()]
            found = list(pool.map(_describe, asked))
        half = len(found) // 2
        points += [_point(model, found[:half], found[half:], count, tell) for count in workers]
    return LargeBench(points, DEFAULT_CHUNK_BYTES, "kernel" if kernel.load() else "numpy", host())


def _describe(asked: tuple[LargeModel, str, str]) -> FileEntry:
    model, which, path = asked
    size = model.size(path)
    blocks = (
        model.read(which, path, offset, min(BLOCK_BYTES, size - offset)) for offset in range(0, size, BLOCK_BYTES)
    )
    return file_entry(path, digest(blocks, model.spans(path)), model.spans(path))


def _point(
    model: LargeModel, parent: Sequence[FileEntry], child: Sequence[FileEntry], workers: int, tell: Tell
) -> LargePoint:
    with TemporaryDirectory() as name:
        versions = (root(parent), root(child))
        signer = _Signer()
        entries = (("parent", tuple(parent)), ("child", tuple(child)))
        world = _World(Path(name), model, entries, versions, signer.public_key_pem, time.time())
        for side in ("here", "there"):
            (world.folder / side).mkdir()
        here, there, jobs = world.store("here"), world.store("there"), _Queue()
        for version, files, before in ((versions[0], parent, None), (versions[1], child, versions[0])):
            manifest = Manifest(
                model=MODEL, version=version, parent=before, origin=Site.AWS, created_ms=1, files=list(files)
            )
            data = manifests.encode(manifest, signer)
            here.put(manifest_key(MODEL, version), data)
            if before is None:
                there.put(manifest_key(MODEL, version), data)
        plan_version(
            here, there, jobs, MODEL, versions[1], site=Site.AWS, chunk_bytes=DEFAULT_CHUNK_BYTES, trust=world.trust
        )
        what = f"{model.bytes_raw / GIBIBYTE:.1f} GiB, {workers} workers"
        tell(f"{what}: encoding {len(jobs.bodies)} batches")
        encoded, packs = _step(world, _encode, jobs.bodies, workers)
        tell(f"{what}: rebuilding")
        rebuilt, done = _step(world, _rebuild, [body for each in packs for body in each.bodies], workers)
        complete = any(each.complete for each in done)
        wire = sum(each.bytes_wire for each in packs)
        return LargePoint(sum(file.size for file in child), wire, workers, encoded, rebuilt, complete)


def _step(
    world: _World, work: Callable[[_World, str], _Done], bodies: Sequence[str], workers: int
) -> tuple[Steps, list[_Done]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _pin, (context.Value("i", 0),)) as pool:
        # Processes start before the clock does, as warm functions have.
        list(pool.map(_warm, [world] * workers * 2))
        began = time.perf_counter()
        done = list(pool.map(work, [world] * len(bodies), bodies))
        seconds = time.perf_counter() - began
    core = sum(each.core_seconds for each in done)
    return Steps(len(done), round(seconds, 2), round(core, 2), max(each.peak_kib for each in done) // 1024), done


def _pin(count: Any) -> None:
    """Give a worker one core, which is about what a function has; the codecs then make no threads."""
    with count.get_lock():
        number, count.value = count.value, count.value + 1
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def _warm(world: _World) -> None:
    world.store("here").get_range(f"models/{MODEL}/{world.versions[0]}/{world.model.path(0)}", 0, 1)


def _encode(world: _World, body: str) -> _Done:
    job, queue, began = plan.decode_sending_job(body), _Queue(), time.process_time()
    assert isinstance(job, EncodeJob)
    sent = Encoder(world.store("here"), world.store("there"), queue).run(job)
    return _Done(tuple(queue.bodies), False, sent.bytes_wire, time.process_time() - began, _peak_kib())


def _rebuild(world: _World, body: str) -> _Done:
    job, began = plan.decode_receiving_job(body), time.process_time()
    assert isinstance(job, RebuildJob)
    here, there = world.store("here"), world.store("there")
    found = Rebuilder(Site.GCP, there, here, _Queue(), lambda: time.time_ns() // 1_000_000, world.trust).run(job)
    return _Done((), found.complete, 0, time.process_time() - began, _peak_kib())


def _peak_kib() -> int:
    """Return the largest resident memory of this process so far; the interpreter and its libraries are part of it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
