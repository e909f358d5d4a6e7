"""Writers of live features: rows written at one site while the other site is read, so that lag is measured and not computed.

Every acknowledged write is kept, with when it was acknowledged; at the end each must be on the other side, as it was written or
overtaken by a newer version of the same row.
"""

import random
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from functions.errors import FunctionError
from functions.features.client import FeatureStore
from functions.features.envelope import Vector
from functions.settings import Site
from functions.stores.protocols import Row, RowStore
from operate.report.result import LagSample
from service.server import TASTE

# Users that the traffic asks for: their rows change while they are asked for.
USERS = 500
TASTE_SCALE = 0.02
# The far side is asked for the rows on their way this often; it bounds how exact the lag is.
WATCH_SECONDS = 0.01
READ_KEYS = 200


@dataclass(frozen=True)
class Acknowledged:
    """A write that a site's store took: its row's key and version, and when (monotonic seconds)."""

    key: str
    version: int
    at: float
    site: Site


class Writer:
    """Writes users' live taste at a fixed rate from a thread of its own; it may move to another site while it runs."""

    def __init__(self, site: Site, store: FeatureStore, size: int, rows_per_second: float, seed: int) -> None:
        self._home = (site, store)
        self._size = size
        self._interval = 1.0 / rows_per_second
        self._random = random.Random(seed)  # noqa: S311 - a load, not a secret
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feature-writer", daemon=True)
        self.acknowledged: list[Acknowledged] = []
        self.refused = 0

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def move(self, site: Site, store: FeatureStore) -> None:
        """Write to another site's store from the next row on."""
        self._home = (site, store)

    def stop(self) -> None:
        """Stop writing and wait for the write under way, which ends by the store's own time limits."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            # A store that was away must not be followed by a burst: a slot that was missed is missed.
            due = max(due + self._interval, time.monotonic() - self._interval)
            key = f"user#user_{self._random.randrange(USERS)}"
            taste = [self._random.gauss(0.0, TASTE_SCALE) for _ in range(self._size)]
            site, store = self._home
            try:
                version = store.set(key, {TASTE: Vector.of(taste)})
            except FunctionError:
                self.refused += 1
                continue
            self.acknowledged.append(Acknowledged(key, version, time.monotonic(), site))


class LagWatch:
    """Reads one site for the writes that the other site took, until each is seen there; keeps how long that took."""

    def __init__(self, writer: Writer, site: Site, rows: RowStore, began: float) -> None:
        self._writer = writer
        self._site = site
        self._far = rows
        self._began = began
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag-watch", daemon=True)
        self.samples: list[LagSample] = []

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        taken = 0
        waiting: dict[str, Acknowledged] = {}
        while not self._stop.wait(WATCH_SECONDS):
            known = len(self._writer.acknowledged)
            # A newer write of a key takes the place of the one waited for, as it does on the far side.
            fresh = self._writer.acknowledged[taken:known]
            waiting |= {write.key: write for write in fresh if write.site is not self._site}
            taken = known
            if not waiting:
                continue
            found = self._far.read(list(waiting)[:READ_KEYS])
            now = time.monotonic()
            for key, row in found.items():
                if row.version >= waiting[key].version:
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


def missing(writes: Iterable[Acknowledged], rows: Mapping[str, Row]) -> list[Acknowledged]:
    """Return the newest writes whose key is absent from `rows` or stands there with an older version."""
    return [
        write for write in newest(writes).values() if write.key not in rows or rows[write.key].version < write.version
    ]


def divergent(here: Mapping[str, Row], there: Mapping[str, Row]) -> list[str]:
    """Return keys that the two do not hold with the same version and the same bytes."""
    return sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))


def read_all(store: RowStore, keys: Iterable[str]) -> dict[str, Row]:
    """Return the rows of the keys that exist, read in bounded calls."""
    wanted = list(keys)
    found: dict[str, Row] = {}
    for begin in range(0, len(wanted), READ_KEYS):
        found |= store.read(wanted[begin : begin + READ_KEYS])
    return found
