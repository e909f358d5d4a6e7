"""A model too large for this machine's memory and time, made where it is read: every byte follows from a small ring of numbers.

A ring holds numbers like weights, rows of varying scale; a tensor goes round it from a row of its own, so no two are alike and a
range costs a copy. A version trained further is a second ring beside the first. The far side need not keep what
it is given either: bytes that are those of the model are remembered as such, after they were compared; any others are kept.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from functions.artifacts.safetensors import TensorSpan, tensors
from functions.stores.checksums import crc32c as crc32c_of
from functions.stores.errors import NotFoundError, PreconditionFailedError, StoreRefusedError
from functions.stores.protocols import ObjectInfo

ROW = 4_096
ROW_BYTES = 2 * ROW
RING_ROWS = 1_024
# Of a weight: what a learning rate of 1e-5 leaves after a few hundred steps, as bf16 rounds it.
DRIFT = 0.004
# Rows of the large table and of the others: 256 MiB, cut into several jobs, and 32 MiB.
TABLE_ROWS = 32_768
LAYER_ROWS = 4_096
# Rows between the beginnings of two tensors in the ring; odd, so that all rows come before one comes again.
STRIDE_ROWS = 389
SEED = 5

_PART = "part"


@dataclass(frozen=True)
class LargeModel:
    """The safetensors files of a parent and its child, about `bytes_raw` each, in `files` files."""

    bytes_raw: int
    files: int = 2

    @cached_property
    def _layout(self) -> list[tuple[bytes, list[TensorSpan], list[int]]]:
        """For each file its head, its tensors, and the row of the ring at which each begins."""
        found, begin = [], 0
        for number in range(self.files):
            rows = [TABLE_ROWS] if self.bytes_raw // self.files > 2 * TABLE_ROWS * ROW_BYTES else []
            left = self.bytes_raw // self.files - sum(rows) * ROW_BYTES
            rows += [LAYER_ROWS] * max(1, left // (LAYER_ROWS * ROW_BYTES))
            ends = list(accumulate(count * ROW_BYTES for count in rows))
            header = {
                f"file{number}.layer{place:04d}": {
                    "dtype": "BF16",
                    "shape": [count, ROW],
                    "data_offsets": [end - count * ROW_BYTES, end],
                }
                for place, (count, end) in enumerate(zip(rows, ends, strict=True))
            }
            text = json.dumps(header).encode()
            head = len(text).to_bytes(8, "little") + text
            size = len(head) + ends[-1]
            spans = tensors(partial(_slice, head), size, self.path(number))
            found.append((head, spans, [(begin + place * STRIDE_ROWS) % RING_ROWS for place in range(len(spans))]))
            begin += len(spans) * STRIDE_ROWS
        return found

    def path(self, number: int) -> str:
        """Return the name of a file."""
        return f"model-{number + 1:05d}-of-{self.files:05d}.safetensors"

    def paths(self) -> list[str]:
        """Return the names of all files."""
        return [self.path(number) for number in range(self.files)]

    def spans(self, path: str) -> list[TensorSpan]:
        """Return a file's tensors."""
        return self._layout[self.paths().index(path)][1]

    def size(self, path: str) -> int:
        """Return a file's size in bytes."""
        return self.spans(path)[-1].end

    def read(self, which: str, path: str, offset: int, length: int) -> bytes:
        """Return bytes of a file of the `parent` or the `child`."""
        head, spans, begins = self._layout[self.paths().index(path)]
        parts: list[bytes | memoryview] = [head[offset : offset + length]]
        end = offset + length
        for span, begin in zip(spans, begins, strict=True):
            first, last = max(offset, span.start), min(end, span.end)
            if first < last:
                parts += _around(_rings()[which], begin * ROW_BYTES + first - span.start, last - first)
        return b"".join(parts)


@dataclass
class LargeObjects:
    """A bucket in a folder that several processes share; the model's files are `versions`: parent or child by version."""

    folder: Path
    model: LargeModel
    name: str
    versions: Mapping[str, str]
    # Digests of the files by (parent or child, path): what a store attests without reading them again.
    attested: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    # What stands for a part: which of the child's bytes it is.
    chunk_bytes: int = 0
    parts_of: Callable[[str], tuple[str, int] | None] = lambda _: None

    def head(self, key: str) -> ObjectInfo:
        if found := self._file(key):
            crc32c, crc64nvme = self.attested[found]
            return ObjectInfo(key, self.model.size(found[1]), "1", crc32c, crc64nvme=crc64nvme)
        return self._info(key, self._read(key))

    def get(self, key: str, limit: int) -> tuple[bytes, ObjectInfo]:
        data = self._read(key)
        return data, self._info(key, data)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        if found := self._file(key):
            if offset + length > self.model.size(found[1]):
                raise StoreRefusedError(f"{key} ends before byte {offset + length}")
            return self.model.read(*found, offset, length)
        return self._read(key)[offset : offset + length]

    def put(
        self,
        key: str,
        data: bytes,
        *,
        absent: bool = False,
        replace: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        path = self._path(key)
        if absent and path.exists():
            raise PreconditionFailedError(key)
        place = self.parts_of(key)
        if place and self.model.read("child", *place, len(data)) == data:
            path.write_text(_PART)
        else:
            path.write_bytes(data)
        return self._info(key, data)

    def upload(self, key: str, path: Path, crc32c: int, progress: Callable[[int], None]) -> ObjectInfo:
        raise NotImplementedError("the bench publishes nothing")

    def assemble(self, key: str, parts: Sequence[str], crc32c: int) -> ObjectInfo:
        if any(self._read(part) != _PART.encode() for part in parts):
            raise StoreRefusedError(f"{key}: a part does not hold the model's bytes")
        self._path(key).write_text(_PART)
        return self.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for path in sorted((self.folder / self.name).iterdir()):
            if (key := unquote(path.name)).startswith(prefix):
                yield ObjectInfo(key, 0, "1", modified_ms=1)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _file(self, key: str) -> tuple[str, str] | None:
        """Return which file of the model a key is, if it stands here."""
        steps = key.split("/")
        if len(steps) != 4 or steps[0] != "models" or steps[3] not in self.model.paths():
            return None
        which = self.versions.get(steps[2])
        if which is None and not self._path(key).exists():
            raise NotFoundError(key)
        return which or "child", steps[3]

    def _path(self, key: str) -> Path:
        return self.folder / self.name / quote(key, safe="")

    def _read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(key) from error

    def _info(self, key: str, data: bytes) -> ObjectInfo:
        return ObjectInfo(key, len(data), blake2b(data, digest_size=8).hexdigest(), crc32c_of(data), modified_ms=1)


def _slice(data: bytes, offset: int, length: int) -> bytes:
    return data[offset : offset + length]


@cache
def _rings() -> dict[str, memoryview]:
    source = np.random.default_rng(SEED)
    scale = np.exp2(source.uniform(-7, -5, (RING_ROWS, 1))).astype(np.float32)
    weights = source.standard_normal((RING_ROWS, ROW), np.float32) * scale
    change = source.standard_normal((RING_ROWS, ROW), np.float32) * scale * np.float32(DRIFT)
    return {"parent": _bf16(weights), "child": _bf16(_floats(_bf16(weights)) + change)}


def _bf16(numbers: NDArray[np.float32]) -> memoryview:
    """Return numbers rounded to bf16, to even."""
    bits = numbers.view(np.uint32)
    bits += (bits >> 16 & 1) + 0x7FFF
    return memoryview((bits >> 16).astype(np.uint16).tobytes())


def _floats(data: memoryview) -> NDArray[np.float32]:
    wide = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
    return wide.view(np.float32).reshape(RING_ROWS, ROW)


def _around(ring: memoryview, begin: int, length: int) -> Iterator[memoryview]:
    """Yield so many bytes from a place on, going round."""
    while length > 0:
        begin %= len(ring)
        part = ring[begin : begin + length]
        yield part
        begin, length = begin + len(part), length - len(part)
