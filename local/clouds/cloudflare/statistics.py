"""What became of every request through the front door: a bounded log, and totals that always add up.

Outcomes: `ok`, an endpoint answered below 500 at the first attempt; `rescued`, it did so at the one retry; `failed`,
anything else, a client that hung up (499) included. Each request has exactly one, so sent = ok + rescued + failed.
"""

from collections import Counter, deque
from dataclasses import asdict, dataclass
from enum import StrEnum

# Some minutes of the heaviest traffic that one machine makes; older requests are only in the totals.
LOG_LIMIT = 200_000
NO_POOL = "none"


class Outcome(StrEnum):
    """How a request ended for its client."""

    OK = "ok"
    RESCUED = "rescued"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request: when it came (milliseconds since the epoch), where it went in the end, and how it ended."""

    sequence: int
    time_ms: int
    balancer: str
    pool: str
    origin: str
    status: int
    outcome: Outcome
    duration_ms: float


def outcome_of(status: int, retried: bool) -> Outcome:
    """Return the outcome of a whole answer with this status."""
    if status >= 500:
        return Outcome.FAILED
    return Outcome.RESCUED if retried else Outcome.OK


class Statistics:
    """Totals since the start and the newest records."""

    def __init__(self, limit: int = LOG_LIMIT) -> None:
        self._log: deque[RequestRecord] = deque(maxlen=limit)
        self._sent = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._statuses: Counter[int] = Counter()
        self._pools: dict[str, Counter[Outcome]] = {}

    def record(
        self,
        *,
        time_ms: int,
        balancer: str,
        pool: str | None,
        origin: str | None,
        status: int,
        outcome: Outcome,
        duration_ms: float,
    ) -> None:
        """Add one finished request."""
        self._sent += 1
        where = pool or NO_POOL
        self._log.append(
            RequestRecord(self._sent, time_ms, balancer, where, origin or "", status, outcome, round(duration_ms, 3))
        )
        self._outcomes[outcome] += 1
        self._statuses[status] += 1
        self._pools.setdefault(where, Counter())[outcome] += 1

    def totals(self) -> dict[str, object]:
        """Return the totals, by pool and by status too."""
        return {
            "sent": self._sent,
            **{outcome.value: self._outcomes[outcome] for outcome in Outcome},
            "pools": {
                pool: {
                    "sent": sum(counts.values()),
                    **{outcome.value: counts[outcome] for outcome in Outcome},
                }
                for pool, counts in sorted(self._pools.items())
            },
            "statuses": {str(status): count for status, count in sorted(self._statuses.items())},
        }

    def since(self, sequence: int, limit: int) -> dict[str, object]:
        """Return the records after a sequence number, oldest first, and where to go on.

        `lost` counts records after it that the bounded log no longer holds.
        """
        oldest = self._log[0].sequence if self._log else self._sent + 1
        start = max(sequence + 1, oldest)
        # The log has no gaps, so a record's place follows from its number.
        first = start - oldest
        count = max(0, min(limit, len(self._log) - first))
        records = [self._log[first + index] for index in range(count)]
        return {
            "requests": [asdict(record) for record in records],
            "next": records[-1].sequence if records else max(sequence, start - 1),
            "lost": max(0, start - sequence - 1),
        }
