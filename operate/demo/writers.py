"""Writers of live data: rows written at one site while the other site is read, so that lag is measured and not computed.

Every acknowledged write is kept, with when it was acknowledged; at the end each must be on the other side, as it was written or
overtaken by a newer version of the same row.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from functions.errors import FunctionError
from functions.settings import Site
from operate.report.result import LagSample

# How much of a lot of keys is asked for at once.
READ_KEYS = 200
# A program whose store is away waits this long before it tries again, as any client does.
BACK_OFF_SECONDS = 0.25


@dataclass(frozen=True)
class Acknowledged:
    """A write that a site's store took: its row's key and version, and when (monotonic seconds)."""

    key: str
    version: int
    at: float
    site: Site


class Load(Protocol):
    """A kind of data that programs write on either site."""

    name: str

    def write(self, site: Site, chooser: int) -> tuple[str, int]:
        """Write one row at a site and return its key and version; `chooser` tells programs apart that write at once.

        Raises FunctionError for what the store does not take.
        """

    def versions(self, site: Site, keys: Sequence[str]) -> Mapping[str, int]:
        """Return the versions of the rows and tombstones that a site has, by key."""


class Writer:
    """Writes at a fixed rate from a thread of its own; it may move to another site while it runs."""

    def __init__(self, load: Load, site: Site, chooser: int, rows_per_second: float) -> None:
        self._load = load
        self._site = site
        self._chooser = chooser
        self._interval = 1.0 / rows_per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{load.name}-writer", daemon=True)
        self.acknowledged: list[Acknowledged] = []
        self.refused = 0

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def move(self, site: Site) -> None:
        """Write to another site from the next row on."""
        self._site = site

    def stop(self) -> None:
        """Stop writing and wait for the write under way, which ends by the store's own time limits."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            # A store that was away must not be followed by a burst: a slot that was missed is missed.
            due = max(due + self._interval, time.monotonic() - self._interval)
            site = self._site
            try:
                key, version = self._load.write(site, self._chooser)
            except FunctionError:
                self.refused += 1
                due = max(due, time.monotonic() + BACK_OFF_SECONDS)
                continue
            self.acknowledged.append(Acknowledged(key, version, time.monotonic(), site))


class LagWatch:
    """Reads one site for the writes that the other site took, until each is seen there; keeps how long that took."""

    def __init__(self, load: Load, site: Site, writers: Sequence[Writer], began: float, look_seconds: float) -> None:
        self._load = load
        self._site = site
        self._writers = writers
        self._began = began
        self._look_seconds = look_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{load.name}-lag-watch", daemon=True)
        self.samples: list[LagSample] = []

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        taken = [0] * len(self._writers)
        waiting: dict[str, Acknowledged] = {}
        pause = self._look_seconds
        while not self._stop.wait(pause):
            for number, writer in enumerate(self._writers):
                known = len(writer.acknowledged)
                # A newer write of a key takes the place of the one waited for, as it does on the far side.
                fresh = writer.acknowledged[taken[number] : known]
                waiting |= newest(write for write in (*waiting.values(), *fresh) if write.site is not self._site)
                taken[number] = known
            if not waiting:
                continue
            try:
                found = self._load.versions(self._site, list(waiting)[:READ_KEYS])
            except FunctionError:
                pause = BACK_OFF_SECONDS
                continue
            pause = self._look_seconds
            now = time.monotonic()
            for key, version in found.items():
                if version >= waiting[key].version:
                    write = waiting.pop(key)
                    lag_ms = max(0.0, (now - write.at) * 1000)
                    self.samples.append(LagSample(second=write.at - self._began, lag_ms=round(lag_ms, 2)))


def newest(writes: Iterable[Acknowledged]) -> dict[str, Acknowledged]:
    """Return the newest acknowledged write of each key."""
    found: dict[str, Acknowledged] = {}
    for write in writes:
        if write.key not in found or found[write.key].version < write.version:
            found[write.key] = write
    return found


def missing(writes: Iterable[Acknowledged], versions: Mapping[str, int]) -> list[Acknowledged]:
    """Return the newest writes whose key has no version, or an older one."""
    return [write for write in newest(writes).values() if versions.get(write.key, -1) < write.version]


def read_all(read: Callable[[Sequence[str]], Mapping[str, int]], keys: Iterable[str]) -> dict[str, int]:
    """Return the versions of the keys that exist, read in bounded calls."""
    wanted = list(keys)
    found: dict[str, int] = {}
    for begin in range(0, len(wanted), READ_KEYS):
        found |= read(wanted[begin : begin + READ_KEYS])
    return found
