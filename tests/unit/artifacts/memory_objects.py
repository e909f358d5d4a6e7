"""An object store in memory that can fail at any call, before or after it took effect."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from functions.stores.checksums import crc32c as crc32c_of
from functions.stores.errors import (
    NotFoundError,
    ObjectTooLargeError,
    PreconditionFailedError,
    StoreRefusedError,
    StoreUnavailableError,
)
from functions.stores.protocols import Message, ObjectInfo

NOW_MS = 1_795_500_000_000


@dataclass
class Fault:
    """Fails the call with this number; `after`: once it took effect, as when an answer is lost."""

    at: int = -1
    after: bool = False
    calls: int = 0

    def before_effect(self) -> None:
        self.calls += 1
        if self.calls - 1 == self.at and not self.after:
            raise StoreUnavailableError("planted, before the effect")

    def after_effect(self) -> None:
        if self.calls - 1 == self.at and self.after:
            raise StoreUnavailableError("planted, after the effect")


@dataclass
class MemoryObjects:
    fault: Fault = field(default_factory=Fault)
    objects: dict[str, tuple[bytes, ObjectInfo]] = field(default_factory=dict)
    generation: int = 0

    def head(self, key: str) -> ObjectInfo:
        self.fault.before_effect()
        self.fault.after_effect()
        return self._found(key)[1]

    def get(self, key: str, limit: int) -> tuple[bytes, ObjectInfo]:
        self.fault.before_effect()
        self.fault.after_effect()
        data, info = self._found(key)
        if info.size > limit:
            raise ObjectTooLargeError(key)
        return data, info

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        self.fault.before_effect()
        self.fault.after_effect()
        data = self._found(key)[0]
        if offset + length > len(data):
            raise StoreRefusedError(key)
        return data[offset : offset + length]

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
        self.fault.before_effect()
        known = self.objects.get(key)
        if (absent and known) or (replace is not None and (known is None or known[1].token != replace)):
            raise PreconditionFailedError(key)
        self.generation += 1
        info = ObjectInfo(key, len(data), str(self.generation), crc32c_of(data), dict(metadata or {}), NOW_MS)
        self.objects[key] = (bytes(data), info)
        self.fault.after_effect()
        return info

    def upload(self, key: str, path: Path, crc32c: int, progress: Callable[[int], None]) -> ObjectInfo:
        info = self.put(key, path.read_bytes(), absent=True)
        progress(info.size)
        return info

    def assemble(self, key: str, parts: Sequence[str], crc32c: int) -> ObjectInfo:
        return self.put(key, b"".join(self._found(part)[0] for part in parts))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.fault.before_effect()
        self.fault.after_effect()
        yield from [info for key, (_, info) in sorted(self.objects.items()) if key.startswith(prefix)]

    def delete(self, key: str) -> None:
        self.fault.before_effect()
        self.objects.pop(key, None)
        self.fault.after_effect()

    def _found(self, key: str) -> tuple[bytes, ObjectInfo]:
        if key not in self.objects:
            raise NotFoundError(key)
        return self.objects[key]


@dataclass
class MemoryQueue:
    messages: list[Message] = field(default_factory=list)

    def publish(self, messages: Sequence[Message]) -> None:
        self.messages += messages
