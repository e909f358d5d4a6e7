"""Drain the outbox of one database into the other: in order for each row, parents before children, each entry till it is settled.

An entry leaves the outbox only when the other side has what it says, or newer. A drain that dies repeats: applying again changes
nothing. Entries that wait are passed by, so one of them never holds up the rest.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from functions.telemetry import LOGGER
from functions.userdata.change import newest
from functions.userdata.protocols import Entry, OutboxDatabase, UserDatabase
from functions.userdata.schema import Table
from functions.userdata.settle import Outcome, settle


@dataclass
class Drained:
    """What a drain came to; `lags_ms` are the ages of rows when they landed."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    lags_ms: list[int] = field(default_factory=list)

    def counts(self) -> Mapping[str, int]:
        """Return every outcome with its count."""
        return {outcome.value: self.outcomes[outcome] for outcome in Outcome}


@dataclass(frozen=True)
class OutboxDrain:
    """From the outbox of `home` into `far`."""

    home: OutboxDatabase
    far: UserDatabase
    tables: Sequence[Table]
    clock_ms: Callable[[], int]

    def run(self, until_ms: int) -> Drained:
        """Drain until nothing is left that can pass, or until a time; what waits stays in the outbox and is counted."""
        total = Drained()
        after, moved, waiting = 0, False, 0
        while self.clock_ms() < until_ms:
            entries = self.home.pending(after)
            if entries:
                after = entries[-1].id
                settled, waits = self._step(entries, total)
                moved |= settled > 0
                waiting += waits
            elif waiting and moved:
                # What has been settled since may be what these waited for.
                after, moved, waiting = 0, False, 0
            else:
                break
        total.outcomes[Outcome.WAITING] = waiting
        return total

    def _step(self, entries: Sequence[Entry], total: Drained) -> tuple[int, int]:
        """Settle some entries; returns how many left the outbox and how many wait."""
        sound: dict[tuple[str, str, int], Entry] = {}
        done: list[int] = []
        parked = 0
        for entry in entries:
            if entry.problem:
                self._park(entry, entry.problem, total)
                parked += 1
            else:
                sound[entry.change.table, entry.change.key, entry.change.version] = entry
        latest = newest(entry.change for entry in sound.values())
        waits = 0
        for item in settle(self.far, list(latest.values()), self.tables, self.clock_ms):
            entry = sound.pop((item.change.table, item.change.key, item.change.version))
            if item.outcome is Outcome.WAITING:
                waits += 1
                continue
            if item.outcome is Outcome.PARKED:
                self._park(entry, item.reason, total)
                parked += 1
                continue
            done.append(entry.id)
            total.outcomes[item.outcome] += 1
            if item.outcome is Outcome.APPLIED:
                total.lags_ms.append(item.lag_ms)
        # What is left was overtaken by a newer write to its row.
        total.outcomes[Outcome.STALE] += len(sound)
        done += [entry.id for entry in sound.values()]
        self.home.done(done)
        return len(done) + parked, waits

    def _park(self, entry: Entry, reason: str, total: Drained) -> None:
        LOGGER.error("change parked", extra={"key": entry.change.key, "reason": reason})
        self.home.park(entry.id, reason)
        total.outcomes[Outcome.PARKED] += 1
