"""The codecs that need no understanding of numbers: raw, zstd, byte planes, and the difference to a parent in byte planes.

Payloads: raw, the bytes; zstd, one frame that says its content size; planes, for each byte of a number in turn 4 bytes length
(little-endian) and a zstd frame of that byte of all numbers; XOR, the planes of child XOR parent (the way of arXiv 2505.06252,
kept for drifts that are sparse). No NumPy: slices and large integers of Python do the same work.
"""

import struct
import threading

import zstandard

from functions.artifacts.codecs.errors import DamagedBlockError

Bytes = bytes | bytearray | memoryview

# zstd's own default. On float weights higher levels take more time than they save.
LEVEL = 3
# Planes of exponents and zeros compress as well at level 1, twice as fast.
PLANE_LEVEL = 1

_LENGTH = struct.Struct("<I")
# A compressor is used by one thread at a time, and making one takes longer than compressing a small sample.
_OF_THREAD = threading.local()


def compress(data: Bytes, level: int = LEVEL) -> bytes:
    """Return one zstd frame."""
    found = getattr(_OF_THREAD, f"level{level}", None)
    if found is None:
        found = zstandard.ZstdCompressor(level=level)
        setattr(_OF_THREAD, f"level{level}", found)
    return bytes(found.compress(data))


def decompress(frame: Bytes, size: int) -> bytes:
    """Return exactly `size` bytes; DamagedBlockError for anything else, before memory is taken for it."""
    try:
        # The frame's own claim first: the library allocates by it.
        if zstandard.frame_content_size(frame) != size:
            raise DamagedBlockError(f"zstd frame does not claim the {size} bytes that its block has")
        content = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedBlockError(f"zstd frame is damaged: {error}") from error
    if len(content) != size:
        raise DamagedBlockError(f"zstd frame holds {len(content)} bytes, its block has {size}")
    return content


def encode_planes(data: Bytes, width: int) -> bytes:
    """Return the planes of numbers of `width` bytes."""
    parts = []
    whole = bytes(data)
    for place in range(width):
        frame = compress(whole[place::width], PLANE_LEVEL)
        parts += [_LENGTH.pack(len(frame)), frame]
    return b"".join(parts)


def decode_planes(payload: Bytes, size: int, width: int) -> bytearray:
    """Return `size` bytes, a multiple of `width`; DamagedBlockError for anything that `encode_planes` did not write."""
    data = memoryview(payload)
    numbers = bytearray(size)
    for place in range(width):
        if len(data) < _LENGTH.size:
            raise DamagedBlockError("block ends before its last plane")
        (length,) = _LENGTH.unpack_from(data)
        if length > len(data) - _LENGTH.size:
            raise DamagedBlockError(f"block claims a plane of {length} bytes in {len(data) - _LENGTH.size}")
        numbers[place::width] = decompress(data[_LENGTH.size : _LENGTH.size + length], size // width)
        data = data[_LENGTH.size + length :]
    if len(data):
        raise DamagedBlockError(f"block has {len(data)} bytes after its last plane")
    return numbers


def exclusive_or(left: Bytes, right: Bytes) -> bytes:
    """Return the XOR of two runs of bytes of one size."""
    difference = int.from_bytes(left, "little") ^ int.from_bytes(right, "little")
    return difference.to_bytes(len(left), "little")
