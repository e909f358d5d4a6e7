"""What one event source mapping did, and the pause that it makes after an error."""

import random
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class SourceCounters:
    """Counts since the mapping's poller started. Every record ends as done, filtered, parked or discarded."""

    polls: int = 0
    records: int = 0
    batches: int = 0
    done: int = 0
    filtered: int = 0
    failed_batches: int = 0
    splits: int = 0
    parked: int = 0
    discarded: int = 0
    throttled: int = 0
    source_errors: int = 0
    trimmed: int = 0
    """Times that the checkpoint was older than the stream: records may be lost."""
    last_error: str = ""

    def report(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return asdict(self)


@dataclass
class Backoff:
    """Pauses that double up to a limit, each cut by a random share so that pollers do not come back all at once."""

    first_seconds: float
    limit_seconds: float
    _next: float = 0.0

    def next_seconds(self) -> float:
        """Return the next pause."""
        self._next = min(max(self._next * 2, self.first_seconds), self.limit_seconds)
        return self._next * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing

    def reset(self) -> None:
        """Begin again at the first pause."""
        self._next = 0.0
