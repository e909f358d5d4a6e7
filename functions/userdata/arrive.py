"""Apply what a Spanner change stream brings: adopt unaware writes where they happened, settle the rest, park what never can be.

A record that waits for another makes its message come again; everything else of the message is done by then, and again costs
nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from functions.settings import Site
from functions.telemetry import LOGGER
from functions.userdata.change import Change, newest
from functions.userdata.errors import ValueRefusedError, WaitingError
from functions.userdata.protocols import OutboxDatabase, SealedDatabase
from functions.userdata.records import Arrival, Meaning, arrivals
from functions.userdata.schema import Table
from functions.userdata.settle import Outcome, settle


@dataclass
class Arrived:
    """What a message came to; `lags_ms` are the ages of rows when they landed."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    lags_ms: list[int] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def counts(self) -> Mapping[str, int]:
        """Return every outcome with its count."""
        return {outcome.value: self.outcomes[outcome] for outcome in Outcome}


@dataclass(frozen=True)
class ArrivalApplier:
    """From the change stream of `source` into `home`, the database of site `site`."""

    site: Site
    home: OutboxDatabase
    source: SealedDatabase
    tables: Sequence[Table]
    clock_ms: Callable[[], int]

    def run(self, body: str) -> Arrived:
        """Apply one message and return what came of it; raises PoisonChangeError for a message that is none."""
        total = Arrived()
        changes = []
        for arrival in arrivals(body, self.tables, self.site):
            if arrival.problem:
                self._park(arrival, arrival.problem, total)
            elif arrival.meaning is Meaning.ECHO:
                total.outcomes[Outcome.ECHO] += 1
            elif arrival.meaning is Meaning.APPLY:
                changes.append(arrival.change)
            else:
                changes += self._looked_up(arrival, total)
        latest = newest(changes)
        total.outcomes[Outcome.STALE] += len(changes) - len(latest)
        for item in settle(self.home, list(latest.values()), self.tables, self.clock_ms):
            if item.outcome is Outcome.PARKED:
                self._park(Arrival(Meaning.APPLY, item.change), item.reason, total)
                continue
            total.outcomes[item.outcome] += 1
            if item.outcome is Outcome.APPLIED:
                total.lags_ms.append(item.lag_ms)
            elif item.outcome is Outcome.WAITING:
                total.waiting.append(f"{item.change.table} {item.change.key}")
        return total

    def _looked_up(self, arrival: Arrival, total: Arrived) -> list[Change]:
        """Return what a record that does not speak for itself stands for: the row is read where it is, and adopted if need be."""
        change = arrival.change
        last = change.version
        if arrival.meaning is Meaning.REMOVED:
            # A record of a delete carries no version: the newest that the row is known to have had is at home.
            known = self.home.read(change.table, [change.key]).get(change.key)
            last = known.version if known else 0
        try:
            found = self.source.adopt(change.table, change.key, last)
        except ValueRefusedError as error:
            self._park(arrival, str(error), total)
            return []
        if found.change.origin is self.site:
            total.outcomes[Outcome.ECHO] += 1
            return []
        if not found.adopted:
            return [found.change]
        # It comes as a record of its own as well; this one is there sooner.
        total.outcomes[Outcome.ADOPTED] += 1
        return [found.change]

    def _park(self, arrival: Arrival, reason: str, total: Arrived) -> None:
        LOGGER.error("change parked", extra={"key": arrival.change.key, "reason": reason})
        self.home.park_arrival(arrival.change, reason)
        total.outcomes[Outcome.PARKED] += 1


def demand_settled(arrived: Arrived) -> None:
    """Raise WaitingError if a row of the message waits for another, so that the message comes again."""
    if arrived.waiting:
        raise WaitingError(
            f"{len(arrived.waiting)} rows wait for their parents or children, such as {arrived.waiting[0]}; they come again"
        )
