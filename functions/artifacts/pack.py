"""The pack: one batch of a version on its way to the other site, describing itself.

    magic    8 bytes, "LIFEBOAT"
    version  2 bytes, 3
    reserved 2 bytes, 0
    claimed  4 bytes, the header's length once inflated
    length   4 bytes, the header's length as it stands here
    header   a zstd frame of JSON: model, version, chunk_bytes, batch, bases, pieces
    payload  the pieces, one after the other, each as its codec wrote it

Integers big-endian. `pieces` lists [codec, bytes in the payload, base, BLAKE3] in the order of `plan.batches` and `plan.pieces`;
a base is [place in `bases`, file, first byte, length] or null; the BLAKE3 is null where the manifest names it. A pack is stored
under the BLAKE3 of all its bytes, so one that was swapped or damaged shows at once.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zstandard

from functions.artifacts.codec import CODECS, ON_A_BASE
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.errors import ManifestError, PackError
from functions.artifacts.manifest import MOST_FILE_BYTES
from functions.artifacts.paths import check_name, check_path, check_version
from functions.artifacts.plan import MOST_BASES, EncodeJob
from functions.settings import CHUNK_BYTES_RANGE, MEBIBYTE

MAGIC = b"LIFEBOAT"
VERSION = 3
# A batch of a hundred thousand tensors, each on a base with a long name.
MOST_HEADER_BYTES = 16 * MEBIBYTE
# No codec is chosen that makes a piece larger, so a pack is never much larger than its batch.
MOST_PACK_BYTES = CHUNK_BYTES_RANGE[1] + MOST_HEADER_BYTES + 64

_PREFIX = struct.Struct(">8sHHII")


@dataclass(frozen=True)
class Base:
    """Bytes that the receiver has: `length` bytes from `start` of a file of the version at place `number` of the bases."""

    number: int
    path: str
    start: int
    length: int


@dataclass(frozen=True)
class PackedPiece:
    """One piece as its codec wrote it; `blake3` of the raw bytes in hexadecimal, None where the manifest names it."""

    codec: int
    length: int
    base: Base | None
    blake3: str | None


@dataclass(frozen=True)
class Pack:
    """A pack's header, and where each piece's bytes begin in `data`."""

    model: str
    version: str
    chunk_bytes: int
    batch: int
    bases: tuple[str, ...]
    pieces: tuple[PackedPiece, ...]
    offsets: tuple[int, ...]
    data: bytes

    def payload(self, number: int) -> memoryview:
        """Return a piece's bytes as its codec wrote them."""
        start = self.offsets[number]
        return memoryview(self.data)[start : start + self.pieces[number].length]


def pack(job: EncodeJob, packed: Sequence[PackedPiece], payload: Sequence[Bytes]) -> bytes:
    """Return the pack of a batch."""
    used = sorted({piece.base.number for piece in packed if piece.base is not None})
    places = {number: place for place, number in enumerate(used)}
    header = {
        "model": job.model,
        "version": job.version,
        "chunk_bytes": job.chunk_bytes,
        "batch": job.batch,
        "bases": [job.bases[number] for number in used],
        "pieces": [[piece.codec, piece.length, _base_fields(piece.base, places), piece.blake3] for piece in packed],
    }
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    written = zstandard.ZstdCompressor().compress(text)
    return b"".join((_PREFIX.pack(MAGIC, VERSION, 0, len(text), len(written)), written, *payload))


def unpack(data: bytes) -> Pack:
    """Return a pack's header, checked; PackError for anything that `pack` did not write, before it costs memory."""
    if len(data) < _PREFIX.size or not data.startswith(MAGIC):
        raise PackError("object is no pack")
    _, version, reserved, claimed, length = _PREFIX.unpack_from(data)
    if (version, reserved) != (VERSION, 0):
        raise PackError(f"pack of version {version} is unknown to this release; upgrade it first")
    end = _PREFIX.size + length
    if claimed > MOST_HEADER_BYTES or end > len(data):
        raise PackError(f"pack claims a header of {claimed} bytes, {length} of them in {len(data)}")
    header = _json(data[_PREFIX.size : end], claimed)
    try:
        found = Pack(
            check_name(header["model"], "model"),
            check_version(header["version"]),
            int(header["chunk_bytes"]),
            int(header["batch"]),
            tuple(check_version(base) for base in header["bases"]),
            tuple(_piece(fields, len(header["bases"])) for fields in header["pieces"]),
            (),
            data,
        )
    except (ManifestError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise PackError(f"pack header is not readable: {error}") from error
    if len(found.bases) > MOST_BASES:
        raise PackError(f"pack builds on {len(found.bases)} versions, at most {MOST_BASES} are allowed")
    offsets: list[int] = []
    for piece in found.pieces:
        offsets.append(end)
        end += piece.length
    if end != len(data):
        raise PackError(f"pieces of the pack end at byte {end}, it has {len(data)}")
    return Pack(
        found.model, found.version, found.chunk_bytes, found.batch, found.bases, found.pieces, tuple(offsets), data
    )


def _base_fields(base: Base | None, places: dict[int, int]) -> list[object] | None:
    return None if base is None else [places[base.number], base.path, base.start, base.length]


def _json(written: bytes, claimed: int) -> dict[str, Any]:
    try:
        if zstandard.frame_content_size(written) != claimed:
            raise PackError("pack header does not have the length that the pack claims")
        value = json.loads(zstandard.ZstdDecompressor().decompress(written, max_output_size=claimed))
    except (zstandard.ZstdError, ValueError, RecursionError) as error:
        raise PackError("pack header is not readable") from error
    if not isinstance(value, dict):
        raise PackError("pack header is no JSON object")
    return value


def _piece(fields: object, bases: int) -> PackedPiece:
    if not isinstance(fields, list) or len(fields) != 4:
        raise ValueError("a piece does not have four fields")
    codec, length, base, digest = fields
    if type(codec) is not int or codec not in CODECS:
        raise ValueError(f"codec {codec!r} is unknown to this release; upgrade it first")
    if type(length) is not int or not 0 <= length <= CHUNK_BYTES_RANGE[1]:
        raise ValueError(f"a piece claims {length!r} bytes")
    if (codec in ON_A_BASE) is not (base is not None):
        raise ValueError(f"codec {codec} and its base do not fit")
    return PackedPiece(
        codec, length, None if base is None else _base(base, bases), None if digest is None else check_version(digest)
    )


def _base(fields: object, bases: int) -> Base:
    if not isinstance(fields, list) or len(fields) != 4:
        raise ValueError("a base does not have four fields")
    number, path, start, length = fields
    if not all(type(value) is int for value in (number, start, length)) or not isinstance(path, str):
        raise ValueError("a base has fields of a wrong kind")
    if not (0 <= number < bases and 0 <= start <= MOST_FILE_BYTES and 0 < length <= CHUNK_BYTES_RANGE[1]):
        raise ValueError("a base lies outside of what a pack may name")
    return Base(number, check_path(path), start, length)
