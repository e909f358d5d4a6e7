"""Recent durations of one kind of work, for quantiles that a person and the gate can read at any moment."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np

# Enough for a stable 99th percentile, few enough to follow a change within a minute of light traffic.
KEPT = 2_000


class Timings:
    """The last durations in milliseconds; safe to use from several threads."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure a block; one that raises is not counted."""
        began = perf_counter()
        yield
        self.add((perf_counter() - began) * 1000)

    def add(self, milliseconds: float) -> None:
        """Add a duration measured elsewhere."""
        with self._lock:
            self._recent.append(milliseconds)

    def quantiles(self) -> dict[str, float] | None:
        """Return {"p50": ms, "p99": ms, "count": durations kept}, or None before the first one."""
        with self._lock:
            recent = list(self._recent)
        if not recent:
            return None
        p50, p99 = np.percentile(recent, (50, 99))
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "count": len(recent)}
