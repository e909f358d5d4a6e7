"""How bytes are moved: calls that a store throttles are made again after a random pause, and a sender keeps to its rate.

Only throttling is waited out here, for seconds. Any other fault goes up to the handler, whose queue is the retry.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TypeVar

from functions.stores.errors import ThrottledError
from functions.stores.protocols import ObjectInfo, ObjectStore

# Full jitter: the pause before try n is anything up to FIRST * 2^n seconds, so that throttled functions spread out
# (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
FIRST_SECONDS = 0.25
LONGEST_SECONDS = 4.0
TRIES = 5

T = TypeVar("T")


@dataclass
class Pace:
    """Lets bytes go at a rate; 0 bytes a second is no limit. `clock` and `pause` are in seconds."""

    bytes_per_second: int = 0
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    _free_at: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def spend(self, count: int) -> None:
        """Wait until the bytes spent before these have had their time."""
        if self.bytes_per_second <= 0:
            return
        with self._lock:
            now = self.clock()
            begin = max(now, self._free_at)
            self._free_at = begin + count / self.bytes_per_second
        if begin > now:
            self.pause(begin - now)


@dataclass(frozen=True)
class PatientObjects:
    """A store whose throttling is waited out, and whose writes keep to a pace."""

    store: ObjectStore
    pace: Pace = field(default_factory=Pace)
    pause: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def head(self, key: str) -> ObjectInfo:
        return self._again(lambda: self.store.head(key))

    def get(self, key: str, limit: int) -> tuple[bytes, ObjectInfo]:
        return self._again(lambda: self.store.get(key, limit))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self._again(lambda: self.store.get_range(key, offset, length))

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
        self.pace.spend(len(data))
        return self._again(
            lambda: self.store.put(
                key, data, absent=absent, replace=replace, metadata=metadata, content_type=content_type
            )
        )

    def upload(self, key: str, path: Path, crc32c: int, progress: Callable[[int], None]) -> ObjectInfo:
        return self._again(lambda: self.store.upload(key, path, crc32c, progress))

    def assemble(self, key: str, parts: Sequence[str], crc32c: int) -> ObjectInfo:
        return self._again(lambda: self.store.assemble(key, parts, crc32c))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(self._again(lambda: [*self.store.list(prefix)]))

    def delete(self, key: str) -> None:
        self._again(lambda: self.store.delete(key))

    def _again(self, call: Callable[[], T]) -> T:
        for number in range(TRIES):
            try:
                return call()
            except ThrottledError:
                if number == TRIES - 1:
                    raise
                self.pause(self.chance() * min(LONGEST_SECONDS, FIRST_SECONDS * 2**number))
        raise AssertionError("the last try returns or raises")
