"""From a manifest to the jobs that carry it over: pure, so both sites cut the same file at the same places.

A file is cut into parts, the unit in which the far side puts it together again. A part is cut into pieces at tensor borders,
the unit in which bytes are encoded. Batches of parts, about one chunk each, are the unit of work: a message names its batch by
number, and everything else follows from the manifest on either side.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from functions.artifacts.errors import ManifestError
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.paths import check_name, check_version
from functions.settings import CHUNK_BYTES_RANGE

# Parts of one batch: each is a few calls to the far side, and a function ends after minutes.
MOST_PARTS = 200
# Versions whose bytes a pack may build on. More would find little and cost a manifest each.
MOST_BASES = 4
# What a function copies whole in half a minute, at the 60 MB/s that it can count on.
GROUP_BYTES = 2 << 30
# No dtype has elements that do not divide this, so a cut at a multiple of it never splits one.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Part:
    """A run of bytes of one file, `end` exclusive; `file` counts in the order of the manifest, `index` within the file."""

    file: int
    index: int
    start: int
    end: int

    @property
    def length(self) -> int:
        """The bytes in it."""
        return self.end - self.start


@dataclass(frozen=True)
class Piece:
    """A run of bytes within a part that is encoded by itself; `tensor` is its place in the file's list, None outside of all."""

    start: int
    end: int
    tensor: int | None = None

    @property
    def length(self) -> int:
        """The bytes in it."""
        return self.end - self.start


@dataclass(frozen=True)
class EncodeJob:
    """For the sending side: write the pack of one batch. `bases` are versions that the far side has, the parent first."""

    model: str
    version: str
    chunk_bytes: int
    batch: int
    bases: tuple[str, ...] = ()


@dataclass(frozen=True)
class RebuildJob:
    """For the receiving side: the pack of this batch is there."""

    model: str
    version: str
    chunk_bytes: int
    batch: int
    pack: str


@dataclass(frozen=True)
class ProveJob:
    """For the receiving side: this version is there, and nothing says yet that it was proven."""

    model: str
    version: str


@dataclass(frozen=True)
class ThirdJob:
    """For the third copy: bring this group of the version's files there."""

    model: str
    version: str
    group: int


def parts(file: FileEntry, number: int, chunk_bytes: int) -> list[Part]:
    """Cut a file into parts of at most `chunk_bytes`, at tensor borders where one lies in the second half, else between rows.

    Every part but the last is at least half as long as `chunk_bytes`, which keeps them above the least part size of S3. An
    empty file has one empty part.
    """
    ends = [tensor.end for tensor in file.tensors]
    found: list[Part] = []
    position = 0
    while file.size - position > chunk_bytes:
        end = _cut(file, ends, position + chunk_bytes // 2, position + chunk_bytes)
        found.append(Part(number, len(found), position, end))
        position = end
    found.append(Part(number, len(found), position, file.size))
    return found


def pieces(file: FileEntry, part: Part) -> list[Piece]:
    """Cut a part into pieces: one for every tensor or share of a tensor in it, and one for every run between tensors."""
    found: list[Piece] = []
    position = part.start
    first = bisect_right([tensor.end for tensor in file.tensors], part.start)
    for number in range(first, len(file.tensors)):
        tensor = file.tensors[number]
        start, end = max(tensor.start, part.start), min(tensor.end, part.end)
        if start >= part.end:
            break
        if start > position:
            found.append(Piece(position, start))
        if end > start:
            found.append(Piece(start, end, number))
        position = max(position, end)
    if position < part.end:
        found.append(Piece(position, part.end))
    return found


def batches(manifest: Manifest, chunk_bytes: int) -> list[list[Part]]:
    """Return every part of every file once, in order, in batches of at most `chunk_bytes`."""
    found: list[list[Part]] = [[]]
    size = 0
    for number, file in enumerate(manifest.files):
        for part in parts(file, number, chunk_bytes):
            if found[-1] and (size + part.length > chunk_bytes or len(found[-1]) >= MOST_PARTS):
                found.append([])
                size = 0
            found[-1].append(part)
            size += part.length
    return found


def groups(manifest: Manifest) -> list[list[int]]:
    """Return every file once, by its number, in groups of about `GROUP_BYTES`: what one function copies whole."""
    found: list[list[int]] = [[]]
    size = 0
    for number, file in enumerate(manifest.files):
        if found[-1] and (size + file.size > GROUP_BYTES or len(found[-1]) >= MOST_PARTS):
            found.append([])
            size = 0
        found[-1].append(number)
        size += file.size
    return found


def whole(manifest: Manifest, number: int, chunk_bytes: int) -> bool:
    """Return whether a file is one part, which is then written as the file itself."""
    return manifest.files[number].size <= chunk_bytes


def encode(job: EncodeJob | RebuildJob | ProveJob | ThirdJob) -> str:
    """Return the job as a message body."""
    return json.dumps(asdict(job), separators=(",", ":"), sort_keys=True)


def decode_sending_job(body: str) -> EncodeJob | ThirdJob:
    """Return the job in a message body; ManifestError for anything else."""
    if '"group"' in body:
        return ThirdJob(**_fields(body, {"group": int}))
    value = _fields(body, {"chunk_bytes": int, "batch": int, "bases": list})
    bases = value.pop("bases")
    if len(bases) > MOST_BASES or not all(isinstance(base, str) for base in bases):
        raise ManifestError(f"message does not name at most {MOST_BASES} versions to build on")
    return EncodeJob(**value, bases=tuple(check_version(base) for base in bases))


def decode_receiving_job(body: str) -> RebuildJob | ProveJob:
    """Return the job in a message body; ManifestError for anything else."""
    if '"pack"' in body:
        return RebuildJob(**_fields(body, {"chunk_bytes": int, "batch": int, "pack": str}))
    return ProveJob(**_fields(body, {}))


def _cut(file: FileEntry, ends: Sequence[int], least: int, most: int) -> int:
    place = bisect_right(ends, most)
    if place and ends[place - 1] >= least:
        return ends[place - 1]
    if place == len(ends) or file.tensors[place].start >= most:
        return most
    tensor = file.tensors[place]
    rows = tensor.shape[0] if tensor.shape else 1
    unit = (tensor.end - tensor.start) // max(1, rows)
    for step in (unit, _ALIGNMENT):
        # A row that is no whole number of bytes, or a long one, is cut between elements.
        if (step and tensor.start + rows * step == tensor.end) or step == _ALIGNMENT:
            cut = tensor.start + (most - tensor.start) // step * step
            if cut >= least:
                return cut
    return most


def _fields(body: str, more: dict[str, type]) -> dict[str, Any]:
    kinds: dict[str, type] = {"model": str, "version": str, **more}
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
    chunk_bytes = value.get("chunk_bytes", CHUNK_BYTES_RANGE[0])
    if not CHUNK_BYTES_RANGE[0] <= chunk_bytes <= CHUNK_BYTES_RANGE[1]:
        raise ManifestError(f"message names chunks of {chunk_bytes} bytes, out of range")
    return value
