"""Apply one batch of change records to the other side: plan, adopt, apply, park, record.

Nothing here can block the stream: a record that can never be applied is parked durably and counted, a record that may pass later
is reported by the lowest failed sequence number, from which the stream sends everything again; the merge rule makes that free.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from functions.errors import PermanentError, TransientError
from functions.features.merge import newer
from functions.features.plan import Adoption, Change, Outcome, Parked, Plan, lowest, plan, unforeseen
from functions.features.tombstone import tombstone
from functions.features.version import stamp, written_ms
from functions.settings import Site
from functions.stores.protocols import AdoptingRowStore, Applied, Row, RowStore
from functions.telemetry import LOGGER

# Adoptions are one conditional write each, and rare: enough threads to hide their latency, few enough for one small function.
_ADOPTERS = 8


class ParkingLot(Protocol):
    """Where records that can never be applied are kept for people."""

    def park(self, identity: str, reason: str, content: Mapping[str, Any]) -> None:
        """Keep the record durably; parking it again changes nothing."""


@dataclass(frozen=True)
class Result:
    """What a batch came to. `failed`: the sequence number to send again from; `lags_ms`: age of each row when it was applied."""

    failed: str | None
    outcomes: Mapping[Outcome, int]
    lags_ms: Sequence[int]


@dataclass(frozen=True)
class Done:
    """What a plan came to; `failed` are the sequence numbers or identities of what must come again."""

    failed: Sequence[str]
    outcomes: Mapping[Outcome, int]
    lags_ms: Sequence[int]

    def result(self, failed: str | None) -> Result:
        """Return it as a batch's result."""
        return Result(failed, self.outcomes, self.lags_ms)


@dataclass(frozen=True)
class FeatureApplier:
    """The apply path of one direction: from the change records of `site`'s store `home` into `far`."""

    site: Site
    home: AdoptingRowStore
    far: RowStore
    parking: ParkingLot
    clock_ms: Callable[[], int]

    def run(self, records: Sequence[Mapping[str, Any]]) -> Result:
        """Apply the batch. Raises for a record that no rule foresaw, unless it comes alone: then it is parked like any poison.

        So an event source mapping that splits failing batches finds that record, and the rest of its shard goes on.
        """
        try:
            todo = plan(records, self.clock_ms(), self.site)
        except Exception as error:
            if len(records) != 1:
                raise
            todo = unforeseen(records[0], error)
        done = self.execute(todo)
        return done.result(lowest(done.failed))

    def execute(self, todo: Plan) -> Done:
        """Do what a plan asks for."""
        outcomes = Counter(todo.outcomes)
        changes = dict(todo.changes)
        failed = self._adopt(todo, changes, outcomes)
        parked = list(todo.parked)
        lags = self._send(changes, parked, failed, outcomes)
        self._park(parked, failed, outcomes)
        return Done(failed, {outcome: outcomes[outcome] for outcome in Outcome}, lags)

    def _adopt(self, todo: Plan, changes: dict[str, Change], outcomes: Counter[Outcome]) -> list[str]:
        """Give versions to rows that unaware programs wrote, and add them to `changes`."""
        failed: list[str] = []
        if not todo.adoptions:
            return failed
        with ThreadPoolExecutor(_ADOPTERS) as pool:
            rows = pool.map(self._adopt_one, todo.adoptions.values())
            for adoption, row in zip(todo.adoptions.values(), rows, strict=True):
                if isinstance(row, TransientError):
                    failed.append(adoption.sequence)
                    outcomes[Outcome.FAILED] += 1
                    LOGGER.warning("row could not be adopted: %s", row)
                elif row is None:
                    outcomes[Outcome.STALE] += 1
                elif (known := changes.get(row.key)) is None or newer(known.row, row) is row:
                    outcomes[Outcome.STALE] += known is not None
                    changes[row.key] = Change(row, adoption.sequence)
                else:
                    outcomes[Outcome.STALE] += 1
        return failed

    def _adopt_one(self, adoption: Adoption) -> Row | TransientError | None:
        version = stamp(self.clock_ms(), adoption.last, self.site)
        try:
            if not adoption.removed:
                return self.home.adopt(adoption.key, adoption.seen, version)
            row = tombstone(adoption.key, version)
            return row if self.home.bury(row) else None
        except TransientError as error:
            return error

    def _send(
        self, changes: Mapping[str, Change], parked: list[Parked], failed: list[str], outcomes: Counter[Outcome]
    ) -> list[int]:
        """Write the rows to the far side; returns the lag of those that landed."""
        waiting = list(changes.values())
        if not waiting:
            return []
        try:
            answers = self.far.apply([change.row for change in waiting])
        except TransientError as error:
            LOGGER.warning("batch of %d rows could not be applied: %s", len(waiting), error)
            answers = [Applied.FAILED] * len(waiting)
        now_ms = self.clock_ms()
        lags: list[int] = []
        for change, answer in zip(waiting, answers, strict=True):
            if answer is Applied.APPLIED:
                outcomes[Outcome.APPLIED] += 1
                lags.append(max(0, now_ms - written_ms(change.row.version)))
            elif answer is Applied.STALE:
                outcomes[Outcome.STALE] += 1
            elif answer is Applied.FAILED:
                outcomes[Outcome.FAILED] += 1
                failed.append(change.sequence)
            else:
                reason = f"row {change.row.key!r}, version {change.row.version}: refused by the other side's store"
                parked.append(Parked(change.sequence, reason, {}))
        return lags

    def _park(self, parked: Sequence[Parked], failed: list[str], outcomes: Counter[Outcome]) -> None:
        for item in parked:
            LOGGER.error("record parked", extra={"key": item.sequence, "reason": item.reason})
            try:
                self.parking.park(item.sequence, item.reason, item.record)
                outcomes[Outcome.PARKED] += 1
            except (TransientError, PermanentError) as error:
                # Nowhere to keep it: the stream's own failure destination is the last place that takes it.
                LOGGER.error("record %s could not be parked: %s", item.sequence, error)
                outcomes[Outcome.FAILED] += 1
                failed.append(item.sequence)


def percentile(values: Sequence[int], share: float) -> int:
    """Return the value that `share` of all values do not exceed (nearest rank); 0 for no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0
