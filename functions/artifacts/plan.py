"""From a manifest to the jobs that carry it over: pure, so both sites cut the same file at the same places."""

import json
from bisect import bisect_right
from dataclasses import asdict, dataclass
from typing import Any

from functions.artifacts.errors import ManifestError
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.paths import check_name, check_version
from functions.settings import CHUNK_BYTES_RANGE


@dataclass(frozen=True)
class Chunk:
    """A run of bytes of one file; `index` is its place among the file's chunks."""

    index: int
    offset: int
    length: int


@dataclass(frozen=True)
class ChunkJob:
    """One unit of work: read this chunk here, write its pack there. `file` counts in the order of the manifest."""

    model: str
    version: str
    chunk_bytes: int
    file: int
    path: str
    index: int
    offset: int
    length: int


@dataclass(frozen=True)
class RebuildJob:
    """What the far side is told: this pack is there, and this is the place of what it holds."""

    model: str
    version: str
    chunk_bytes: int
    file: int
    index: int
    pack: str


def chunks(file: FileEntry, chunk_bytes: int) -> list[Chunk]:
    """Cut a file into chunks of at most `chunk_bytes`, at tensor borders where one lies in the second half of a chunk.

    Every chunk but the last is at least half as long as `chunk_bytes`, which keeps them above the least part size of S3. An
    empty file has one empty chunk.
    """
    borders = [tensor.end for tensor in file.tensors]
    found: list[Chunk] = []
    position = 0
    while file.size - position > chunk_bytes:
        place = bisect_right(borders, position + chunk_bytes) - 1
        at_border = place >= 0 and borders[place] >= position + chunk_bytes // 2
        end = borders[place] if at_border else position + chunk_bytes
        found.append(Chunk(len(found), position, end - position))
        position = end
    found.append(Chunk(len(found), position, file.size - position))
    return found


def jobs(manifest: Manifest, chunk_bytes: int) -> list[ChunkJob]:
    """Return one job for every chunk of every file."""
    return [
        ChunkJob(
            manifest.model, manifest.version, chunk_bytes, number, file.path, chunk.index, chunk.offset, chunk.length
        )
        for number, file in enumerate(manifest.files)
        for chunk in chunks(file, chunk_bytes)
    ]


def encode(job: ChunkJob | RebuildJob) -> str:
    """Return the job as a message body."""
    return json.dumps(asdict(job), separators=(",", ":"), sort_keys=True)


def decode_chunk_job(body: str) -> ChunkJob:
    """Return the job in a message body; ManifestError for anything else."""
    value = _fields(body, {"path": str, "offset": int, "length": int})
    job = ChunkJob(**value)
    if job.length > job.chunk_bytes:
        raise ManifestError(f"job for {job.model} {job.version} asks for {job.length} bytes at once")
    return job


def decode_rebuild_job(body: str) -> RebuildJob:
    """Return the job in a message body; ManifestError for anything else."""
    return RebuildJob(**_fields(body, {"pack": str}))


def _fields(body: str, more: dict[str, type]) -> dict[str, Any]:
    kinds: dict[str, type] = {"model": str, "version": str, "chunk_bytes": int, "file": int, "index": int, **more}
    try:
        value = json.loads(body)
    except ValueError as error:
        raise ManifestError("message is no JSON") from error
    if not isinstance(value, dict) or set(value) != set(kinds):
        raise ManifestError(f"message does not have the fields {', '.join(kinds)}")
    for name, kind in kinds.items():
        if type(value[name]) is not kind or (kind is int and value[name] < 0):
            raise ManifestError(f"field {name!r} of the message is no {kind.__name__} of zero or more")
    check_name(value["model"], "model")
    check_version(value["version"])
    if not CHUNK_BYTES_RANGE[0] <= value["chunk_bytes"] <= CHUNK_BYTES_RANGE[1]:
        raise ManifestError(f"message names chunks of {value['chunk_bytes']} bytes, out of range")
    return value
