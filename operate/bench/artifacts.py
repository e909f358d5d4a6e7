"""What the codecs of model artifacts save, and how fast they are: one child, with or without its parent, against plain ways.

Beside Lifeboat's ladder two other ways run over the same bytes in the same run: zstd -3 with one thread over the whole file, and
XOR with the parent in byte planes. Speeds are medians of the runs in 10^6 bytes of the child a second, reading and writing of
files not included; those of a core count processor time, which other work on the machine hardly touches. A tensor that equals the
parent's of its name costs nothing, as on the way between the sites.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import zstandard

from functions.artifacts import kernel, safetensors
from functions.artifacts.codecs import blocks, ladder
from functions.artifacts.codecs.blocks import Codec
from local.toolchain import kernel as making
from operate.errors import LifeboatError
from operate.host import host
from operate.report.result import Host

RUNS = 5
MEGABYTE = 1_000_000
ZSTD_LEVEL = 3


class BenchFileError(LifeboatError):
    """A file to measure is missing or not what the bench can read."""


@dataclass(frozen=True)
class ZstdFigures:
    """zstd -3, one thread, the whole file."""

    ratio: float
    mb_s: float


@dataclass(frozen=True)
class XorFigures:
    """XOR with the parent in byte planes; 1.0 without a parent."""

    ratio: float


@dataclass(frozen=True)
class CoreFigures:
    """What one core does of each, by processor time."""

    encode_mb_s: float
    decode_mb_s: float
    zstd3_mb_s: float


@dataclass(frozen=True)
class ArtifactBench:
    """What `bench artifacts` found. `ratio` is bytes_wire / bytes_raw; `form` says whether compiled code did the work."""

    bytes_raw: int
    bytes_wire: int
    ratio: float
    encode_mb_s: float
    decode_mb_s: float
    zstd3: ZstdFigures
    xor: XorFigures
    identical: bool
    core: CoreFigures
    codecs: dict[str, int]
    form: str
    workers: int
    runs: int
    host: Host


@dataclass(frozen=True)
class _Piece:
    """A tensor, or the file's header as opaque bytes."""

    dtype: str
    shape: tuple[int, ...]
    child: memoryview
    parent: memoryview | None


class _Times:
    """Seconds of each time through, by the clock and of the processor."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.core: list[float] = []
        self._began = (0.0, 0.0)

    def __enter__(self) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def __exit__(self, *_: object) -> None:
        self.wall.append(time.perf_counter() - self._began[0])
        self.core.append(time.process_time() - self._began[1])


def bench(
    parent: Path | None,
    child: Path,
    runs: int = RUNS,
    workers: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> ArtifactBench:
    """Measure a child, `runs` times each way with `workers` threads (as many as cores). Raises BenchFileError."""
    if kernel.ENVIRONMENT not in os.environ and (built := making.locate()):
        os.environ[kernel.ENVIRONMENT] = str(built)
    count = workers or os.cpu_count() or 1
    older = _pieces(parent, {}) if parent else {}
    pieces = list(_pieces(child, older).values())
    raw = sum(len(piece.child) for piece in pieces)
    whole = b"".join(piece.child for piece in pieces)
    encode, decode, zstd = _Times(), _Times(), _Times()
    packed: list[bytes | None] = []
    compressed, identical = b"", True
    with ThreadPoolExecutor(count) as executor:
        for run in range(1, runs + 1):
            tell(f"run {run} of {runs}: zstd -{ZSTD_LEVEL}, then encode and decode with {count} threads")
            with zstd:
                compressed = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(whole)
            with encode:
                packed = _encode(pieces, executor)
            with decode:
                decoded = _decode(pieces, packed, executor)
            identical = identical and b"".join(decoded) == whole
    wire = sum(len(each) for each in packed if each is not None)
    return ArtifactBench(
        bytes_raw=raw,
        bytes_wire=wire,
        ratio=round(wire / raw, 5),
        encode_mb_s=_speed(raw, encode.wall),
        decode_mb_s=_speed(raw, decode.wall),
        zstd3=ZstdFigures(round(len(compressed) / raw, 5), _speed(raw, zstd.wall)),
        xor=XorFigures(round(_xor_bytes(pieces) / raw, 5)),
        identical=identical,
        core=CoreFigures(*(_speed(raw, each.core) for each in (encode, decode, zstd))),
        codecs=_codecs(pieces, packed),
        form="kernel" if kernel.load() else "numpy",
        workers=count,
        runs=runs,
        host=host(),
    )


def _encode(pieces: list[_Piece], executor: ThreadPoolExecutor) -> list[bytes | None]:
    """Return every piece as it goes over the wire, None for a reference; threads share out blocks, not tensors."""
    plans = list(executor.map(_plan, pieces))
    work = [(plan, number) for plan in plans if plan for number in range(plan.count)]
    encoded = iter(list(executor.map(lambda each: each[0].encode_block(each[1]), work)))
    return [ladder.assemble(plan, [next(encoded) for _ in range(plan.count)]) if plan else None for plan in plans]


def _plan(piece: _Piece) -> ladder.TensorPlan | None:
    if _is_reference(piece):
        return None
    return ladder.plan_tensor(piece.child, piece.parent, piece.dtype, piece.shape)


def _is_reference(piece: _Piece) -> bool:
    return piece.parent is not None and blocks.are_equal(piece.child, piece.parent)


def _decode(pieces: list[_Piece], packed: list[bytes | None], executor: ThreadPoolExecutor) -> list[bytes | bytearray]:
    found: list[bytes | bytearray] = []
    waiting = []
    for piece, data in zip(pieces, packed, strict=True):
        if data is None:
            found.append(bytes(piece.parent or b""))
            continue
        tensor = ladder.open_tensor(data, len(piece.child), piece.dtype)
        target = bytearray(tensor.size)
        found.append(target)
        waiting += [
            executor.submit(tensor.decode_block, number, piece.parent, memoryview(target))
            for number in range(len(tensor.blocks))
        ]
    for each in waiting:
        each.result()
    return found


def _xor_bytes(pieces: list[_Piece]) -> int:
    """Return the bytes of the other way that uses the parent; a tensor without a parent counts whole."""
    total = 0
    for piece in pieces:
        if piece.parent is None:
            total += len(piece.child)
        elif not _is_reference(piece):
            total += len(ladder.encode_tensor(piece.child, piece.parent, piece.dtype, piece.shape, codec=Codec.XOR))
    return total


def _codecs(pieces: list[_Piece], packed: Iterable[bytes | None]) -> dict[str, int]:
    """Return the bytes of the child that each codec took care of."""
    found: dict[str, int] = {}
    for piece, data in zip(pieces, packed, strict=True):
        codec = (
            Codec.REFERENCE if data is None else Codec(ladder.open_tensor(data, len(piece.child), piece.dtype).codec)
        )
        found[codec.name.lower()] = found.get(codec.name.lower(), 0) + len(piece.child)
    return dict(sorted(found.items()))


def _pieces(path: Path, older: dict[str, _Piece]) -> dict[str, _Piece]:
    """Return a safetensors file's header and tensors by name, each with the older piece that can be its parent."""
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise BenchFileError(f"{path} cannot be read: {error.strerror}. Name a safetensors file") from error

    def read(offset: int, length: int) -> bytes:
        return bytes(data[offset : offset + length])

    spans = safetensors.tensors(read, len(data), str(path))
    start = spans[0].start if spans else len(data)
    found = {"": _Piece("", (start,), data[:start], None)}
    for span in spans:
        content = data[span.start : span.end]
        before = older.get(span.name)
        same = before is not None and (before.dtype, before.shape) == (span.dtype, span.shape)
        found[span.name] = _Piece(span.dtype, span.shape, content, before.child if before and same else None)
    return found


def _speed(size: int, seconds: list[float]) -> float:
    return round(size / MEGABYTE / statistics.median(seconds), 1)
