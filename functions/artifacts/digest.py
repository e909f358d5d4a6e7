"""All digests of a file in one pass over its bytes."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from blake3 import blake3

from functions.settings import MEBIBYTE
from functions.stores.checksums import crc32c, crc64nvme
from functions.stores.protocols import ObjectStore

# Large enough that a ranged read is not all latency, small enough that a reader holds little.
BLOCK_BYTES = 8 * MEBIBYTE
# Reads under way while the block before them is hashed.
_AHEAD = 3


class Span(Protocol):
    """A range of the file; `end` is exclusive."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


@dataclass(frozen=True)
class Digests:
    """What a file's bytes come to; digests in hexadecimal, `tensors` in the order that was asked for."""

    size: int
    sha256: str
    blake3: str
    crc32c: int
    crc64nvme: int
    tensors: Sequence[str]


def digest(blocks: Iterable[bytes], tensors: Sequence[Span] = ()) -> Digests:
    """Return the digests of the joined blocks, and of each tensor in them; tensors in the order of their bytes."""
    sha256, whole, crc, crc64, size = hashlib.sha256(), blake3(), 0, 0, 0
    done: list[str] = []
    current = blake3()
    for block in blocks:
        sha256.update(block)
        whole.update(block)
        crc, crc64 = crc32c(block, crc), crc64nvme(block, crc64)
        view, end = memoryview(block), size + len(block)
        while len(done) < len(tensors) and tensors[len(done)].start <= end:
            tensor = tensors[len(done)]
            current.update(view[max(0, tensor.start - size) : max(0, tensor.end - size)])
            if tensor.end > end:
                break
            done.append(current.hexdigest())
            current = blake3()
        size = end
    # Empty tensors at the very end of an empty file.
    done += [blake3().hexdigest()] * (len(tensors) - len(done))
    return Digests(size, sha256.hexdigest(), whole.hexdigest(), crc, crc64, done)


def object_blocks(store: ObjectStore, key: str, size: int) -> Iterator[bytes]:
    """Yield an object's bytes in order, the next ranges read while the caller works on one."""
    with ThreadPoolExecutor(_AHEAD) as pool:
        waiting: list[Future[bytes]] = []
        for offset in range(0, size, BLOCK_BYTES):
            waiting.append(pool.submit(store.get_range, key, offset, min(BLOCK_BYTES, size - offset)))
            if len(waiting) > _AHEAD:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
