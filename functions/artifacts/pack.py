"""The pack: one chunk on its way to the other site, describing itself.

    magic    8 bytes, "LIFEBOAT"
    version  2 bytes, 1
    codec    2 bytes, id (artifacts/codec.py)
    header   4 bytes length, then JSON: model, version, chunk_bytes, file, index, offset, length, blake3 of the raw bytes
    payload  the rest, as the codec wrote it

Integers big-endian. A pack is stored under the BLAKE3 of all its bytes, so one that was swapped or damaged shows at once.
"""

import json
import struct
from dataclasses import asdict, dataclass

from blake3 import blake3

from functions.artifacts.codec import CODECS, choose
from functions.artifacts.errors import PackError
from functions.artifacts.plan import ChunkJob
from functions.settings import CHUNK_BYTES_RANGE

MAGIC = b"LIFEBOAT"
VERSION = 1
MOST_HEADER_BYTES = 16 * 1024
# A codec that can't shrink the bytes is not used, so a pack is never much larger than a chunk.
MOST_PACK_BYTES = CHUNK_BYTES_RANGE[1] + MOST_HEADER_BYTES + 64

_PREFIX = struct.Struct(">8sHHI")


@dataclass(frozen=True)
class PackHeader:
    """What a pack says about its content; `blake3` over the raw bytes, in hexadecimal."""

    model: str
    version: str
    chunk_bytes: int
    file: int
    index: int
    offset: int
    length: int
    blake3: str


def pack(job: ChunkJob, raw: bytes) -> bytes:
    """Return the pack of a chunk."""
    header = PackHeader(
        job.model, job.version, job.chunk_bytes, job.file, job.index, job.offset, len(raw), blake3(raw).hexdigest()
    )
    codec = choose(raw)
    payload = CODECS[codec].encode(raw)
    text = json.dumps(asdict(header), separators=(",", ":"), sort_keys=True).encode()
    return b"".join((_PREFIX.pack(MAGIC, VERSION, codec, len(text)), text, payload))


def unpack(data: bytes) -> tuple[PackHeader, bytes]:
    """Return a pack's header and raw bytes; PackError for anything that `pack` did not write, before it costs memory."""
    if len(data) < _PREFIX.size or not data.startswith(MAGIC):
        raise PackError("object is no pack")
    _, version, codec_id, length = _PREFIX.unpack_from(data)
    codec = CODECS.get(codec_id)
    if version != VERSION or codec is None:
        raise PackError(f"pack of version {version} with codec {codec_id} is unknown to this release; upgrade it first")
    end = _PREFIX.size + length
    if length > MOST_HEADER_BYTES or end > len(data):
        raise PackError(f"pack claims a header of {length} bytes in {len(data)}")
    header = _header(data[_PREFIX.size : end])
    raw = codec.decode(data[end:], header.length)
    if blake3(raw).hexdigest() != header.blake3:
        raise PackError(f"pack of {header.model} {header.version} file {header.file} holds other bytes than it says")
    return header, raw


def _header(text: bytes) -> PackHeader:
    try:
        value = json.loads(text)
        header = PackHeader(**value)
    except (ValueError, TypeError, RecursionError) as error:
        raise PackError("pack header is not readable") from error
    texts = (header.model, header.version, header.blake3)
    numbers = (header.chunk_bytes, header.file, header.index, header.offset, header.length)
    if not all(type(text) is str for text in texts) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise PackError("pack header has fields of a wrong kind")
    if header.length > CHUNK_BYTES_RANGE[1]:
        raise PackError(f"pack claims {header.length} raw bytes, at most {CHUNK_BYTES_RANGE[1]} are allowed")
    return header
