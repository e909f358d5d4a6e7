"""The time that the demo's programs stamp their rows with."""

import time


def now_ms() -> int:
    """Return the time in epoch milliseconds, as versions of rows and documents count it."""
    return time.time_ns() // 1_000_000
