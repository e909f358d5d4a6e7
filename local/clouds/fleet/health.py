"""Health of one checked endpoint as a state machine: what a run of passed and failed checks means.

Pure: results and times come in as arguments. Site balancers and the front door's monitors share it; they differ only in
the rules.
"""

from dataclasses import dataclass
from enum import StrEnum


class HealthState(StrEnum):
    """What is known about an endpoint."""

    UNKNOWN = "unknown"  # no result yet: gets no traffic
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class HealthRules:
    """How many results in a row turn an endpoint up or down; `first_up` is the number for one not judged yet."""

    consecutive_up: int
    consecutive_down: int
    first_up: int


@dataclass(frozen=True)
class Health:
    """State, since when (seconds on the caller's clock), and the present run of equal results."""

    state: HealthState = HealthState.UNKNOWN
    since_seconds: float = 0.0
    passes: int = 0
    failures: int = 0
    reason: str = "not checked yet"
    been_up: bool = False

    @property
    def up(self) -> bool:
        """Whether the endpoint may get traffic."""
        return self.state is HealthState.UP


def observe(health: Health, failure: str | None, now_seconds: float, rules: HealthRules) -> Health:
    """Return the health after one more result; `failure` is None for a passed check, else what went wrong.

    An endpoint without a verdict is DOWN from its first failure on: it had no traffic to lose. Until it was up for the
    first time, `first_up` passes in a row bring it up.
    """
    passes = health.passes + 1 if failure is None else 0
    failures = 0 if failure is None else health.failures + 1
    state = health.state
    if failure is None:
        if passes >= (rules.consecutive_up if health.been_up else rules.first_up):
            state = HealthState.UP
    elif state is HealthState.UNKNOWN or failures >= rules.consecutive_down:
        state = HealthState.DOWN
    return Health(
        state=state,
        since_seconds=now_seconds if state is not health.state else health.since_seconds,
        passes=passes,
        failures=failures,
        reason=failure or "check passed",
        been_up=health.been_up or state is HealthState.UP,
    )
