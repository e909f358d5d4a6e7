"""Repeats that this process has carried already: known by the first provider's id for as long as a window lasts.

It spares receivers most repeats (a delete that failed after its publish, a late acknowledgement). It is no promise: another
process has another window, so every message also carries its id, and a FIFO queue has a window of its own.
"""

import threading
from collections import OrderedDict

from functions.bridge.parcel import Parcel

# As long as a FIFO queue's own (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-exactly-once-processing.html).
WINDOW_MS = 300_000
# 64 bytes of id each: some megabytes of a function's memory at most.
MOST_IDENTITIES = 50_000


class Window:
    """The ids carried lately; time is an argument."""

    def __init__(self, window_ms: int = WINDOW_MS, most: int = MOST_IDENTITIES) -> None:
        self._window_ms = window_ms
        self._most = most
        self._carried: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def holds(self, parcel: Parcel, now_ms: int) -> bool:
        """Say whether the parcel was carried within the window."""
        with self._lock:
            carried = self._carried.get((parcel.origin.value, parcel.identity))
        return carried is not None and now_ms - carried < self._window_ms

    def add(self, parcel: Parcel, now_ms: int) -> None:
        """Note that the parcel has been carried: only after the other side has acknowledged it."""
        key = (parcel.origin.value, parcel.identity)
        with self._lock:
            self._carried[key] = now_ms
            self._carried.move_to_end(key)
            while len(self._carried) > self._most or self._oldest() <= now_ms - self._window_ms:
                self._carried.popitem(last=False)

    def _oldest(self) -> int:
        # The newest entry is never past the window, so there always is one.
        return next(iter(self._carried.values()))
