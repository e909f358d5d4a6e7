"""What one function did, counted for tests, the report and the status page."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from local.clouds.aws.lambda_host.runtime import Invocation, InvocationStatus

# Enough for a stable 99th percentile, and a bound on memory.
DURATIONS_KEPT = 2000


@dataclass
class FunctionCounters:
    """Counts since the cloud process started; they outlive updates of the function."""

    invocations: int = 0
    throttles: int = 0
    cold_starts: int = 0
    concurrency_highest: int = 0
    failures: Counter[InvocationStatus] = field(default_factory=Counter)
    durations_ms: deque[float] = field(default_factory=lambda: deque(maxlen=DURATIONS_KEPT))

    def record(self, invocation: Invocation) -> None:
        """Count one ended invocation."""
        self.invocations += 1
        self.durations_ms.append(invocation.duration_ms)
        if not invocation.succeeded:
            self.failures[invocation.status] += 1

    def report(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        durations = sorted(self.durations_ms)
        return {
            "invocations": self.invocations,
            "errors": self.failures.total(),
            "failures": {status.value: count for status, count in self.failures.items()},
            "throttles": self.throttles,
            "cold_starts": self.cold_starts,
            "concurrency_highest": self.concurrency_highest,
            "duration_ms": {
                name: _rank(durations, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            },
        }


def _rank(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 3)
