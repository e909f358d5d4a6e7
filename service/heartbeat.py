"""How far this site is behind its peer, measured with live rows: every host writes one a second and watches the peer's.

A row of each site travels the very path that features travel, so its age at arrival is their lag, and its absence is silence.
No clock of another machine is trusted for more than the lag it shows.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from functions.errors import FunctionError
from functions.features.client import FeatureStore
from functions.features.version import written_ms
from functions.settings import Site

LOGGER = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
# The peer's row is read this often; it bounds how much later than its arrival a heartbeat is seen, and is most of what an
# idle host costs.
WATCH_SECONDS = 0.2
# The lag told is the worst of this long: a single quick row must not hide a slow minute.
WINDOW_MS = 60_000


@dataclass(frozen=True)
class PeerState:
    """What is known of the peer's rows: worst lag of the last minute of arrivals, and time since the newest was written.

    Both in milliseconds; None before the first row was seen.
    """

    lag_ms: int | None
    silence_ms: int | None


class PeerLag:
    """Turns sightings of the peer's heartbeat into lag and silence; time comes in as an argument."""

    def __init__(self) -> None:
        self._newest = 0
        self._arrivals: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    def see(self, version: int, now_ms: int) -> None:
        """Take note of the version that the peer's row has now; one seen before changes nothing."""
        with self._lock:
            if version <= self._newest:
                return
            first = not self._newest
            self._newest = version
            # The first row seen may be as old as the store: it says nothing about the way it came.
            if not first:
                self._arrivals.append((now_ms, max(0, now_ms - written_ms(version))))

    def state(self, now_ms: int) -> PeerState:
        """Return lag and silence as of now.

        When the peer falls silent the last window before the silence keeps counting: that is the lag it was lost with.
        """
        with self._lock:
            if not self._newest:
                return PeerState(None, None)
            if self._arrivals:
                horizon = self._arrivals[-1][0] - WINDOW_MS
                while self._arrivals[0][0] < horizon:
                    self._arrivals.popleft()
            lag_ms = max((lag for _, lag in self._arrivals), default=None)
            return PeerState(lag_ms, max(0, now_ms - written_ms(self._newest)))


class Heartbeat:
    """Writes this site's row and watches the peer's, each in a thread of its own, until stopped."""

    def __init__(self, store: FeatureStore, site: Site, instance: str, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._site = site
        self.peer_site = site.peer
        self._instance = instance
        self._clock_ms = clock_ms
        self._stop = threading.Event()
        self._peer = PeerLag()
        self.store_answers = False

    def start(self) -> None:
        """Start both threads."""
        for target in (self._write, self._watch):
            threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True).start()

    def stop(self) -> None:
        """Ask both threads to end; they do at their next turn."""
        self._stop.set()

    def peer(self) -> PeerState:
        """Return what is known of the peer's rows."""
        return self._peer.state(self._clock_ms())

    def _write(self) -> None:
        while not self._stop.wait(WRITE_SECONDS):
            try:
                self._store.set(key(self._site), {"instance": self._instance})
                self.store_answers = True
            except FunctionError as error:
                # The site's own store is away: /ready says so, and the next turn tries again.
                self.store_answers = False
                LOGGER.warning("heartbeat of %s not written: %s", self._site, error)

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            try:
                row = self._store.get(key(self.peer_site))
            except FunctionError as error:
                LOGGER.warning("heartbeat of %s not read: %s", self.peer_site, error)
                continue
            if row is not None:
                self._peer.see(row.version, self._clock_ms())


def key(site: Site) -> str:
    """Return the key of a site's heartbeat row."""
    return f"heartbeat#{site}"
