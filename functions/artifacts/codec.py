"""How the bytes of a chunk are written into a pack: a table from codec id to codec, chosen on a sample.

A pack names its codec by id, so a codec can be added without touching what is stored. Ids are never used twice.
"""

from collections.abc import Mapping
from typing import Protocol

import zstandard

from functions.artifacts.errors import PackError
from functions.settings import MEBIBYTE

RAW = 0
ZSTD = 1

SAMPLE_BYTES = MEBIBYTE
# Level 3 is zstd's own default: on float weights level 1 to 3 come to the same size, higher ones cost more time than they save.
ZSTD_LEVEL = 3
# Below this saving the time to decode outweighs the bytes.
WORTHWHILE = 0.97


class Codec(Protocol):
    """One way to write bytes down."""

    def encode(self, data: bytes) -> bytes:
        """Return the bytes as they go over the wire."""

    def decode(self, data: bytes, length: int) -> bytes:
        """Return exactly `length` bytes; PackError for anything else, without allocating more than `length`."""


class RawCodec:
    """The bytes as they are."""

    def encode(self, data: bytes) -> bytes:
        return data

    def decode(self, data: bytes, length: int) -> bytes:
        if len(data) != length:
            raise PackError(f"pack holds {len(data)} raw bytes and claims {length}")
        return data


class ZstdCodec:
    """One zstd frame with its content size."""

    def encode(self, data: bytes) -> bytes:
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)

    def decode(self, data: bytes, length: int) -> bytes:
        try:
            # The frame's own claim is checked before the library allocates by it.
            if zstandard.frame_content_size(data) != length:
                raise PackError(f"zstd frame does not claim the {length} bytes that its pack does")
            decoded = zstandard.ZstdDecompressor().decompress(data, max_output_size=length)
        except zstandard.ZstdError as error:
            raise PackError(f"zstd frame is damaged: {error}") from error
        if len(decoded) != length:
            raise PackError(f"zstd frame holds {len(decoded)} bytes and claims {length}")
        return decoded


CODECS: Mapping[int, Codec] = {RAW: RawCodec(), ZSTD: ZstdCodec()}


def choose(data: bytes) -> int:
    """Return the id of the codec that pays for these bytes, judged on a sample from their middle."""
    start = max(0, (len(data) - SAMPLE_BYTES) // 2)
    sample = data[start : start + SAMPLE_BYTES]
    if not sample:
        return RAW
    return ZSTD if len(CODECS[ZSTD].encode(sample)) < WORTHWHILE * len(sample) else RAW
