"""A site's turn in reconciliations, as its clock calls it: begin or join a run, survey the own table, compare when both are done.

Each site scans its own table and leaves its documents in its own bucket; whoever finds both surveys done compares and repairs.
No message passes between the sites: the newest run that either bucket names is the one, so two that begin at once become one at
the next turn. A turn that runs out of time ends, and the next goes on with the shares that are left.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from functions.errors import TransientError
from functions.features.apply import ParkingLot
from functions.features.errors import DigestError
from functions.features.reconcile.reconciler import Reconciler, Report
from functions.features.reconcile.rule import FINISHED, PERIOD_MS, REQUEST, due, ms_document, read_ms
from functions.features.reconcile.survey import RUNS, BucketShelf, FreePace, Pace, Run, Survey
from functions.settings import Site
from functions.stores.protocols import FeatureTable, RowStore
from functions.telemetry import LOGGER

_CURRENT = "current.json"


class Phase(StrEnum):
    """Where a site's turn left the run."""

    IDLE = "idle"
    SCANNING = "scanning"
    WAITING = "waiting"
    DONE = "done"


@dataclass(frozen=True)
class Turn:
    """Everything a site needs for its turns. `alone`: this site scans both tables, for a bootstrap run from one place."""

    site: Site
    tables: Mapping[Site, FeatureTable]
    shelves: Mapping[Site, BucketShelf]
    parking: ParkingLot
    clock_ms: Callable[[], int]
    plain_writers: frozenset[Site]
    targets: Mapping[Site, RowStore] = field(default_factory=dict)
    pace: Pace = field(default_factory=FreePace)
    period_ms: int = PERIOD_MS
    alone: bool = False

    def run(self, enough: Callable[[], bool]) -> tuple[Phase, Report | None]:
        """Take a turn until it is done or `enough` says stop. Raises the stores' errors; the next turn goes on."""
        run = self._current()
        if run is None:
            return Phase.IDLE, None
        surveys = {site: Survey(site, self.tables[site], self.shelves[site], run) for site in Site}
        for site in Site if self.alone else (self.site,):
            own = replace(surveys[site], discards=True)
            if own.scan(self.pace, enough) is None:
                return Phase.SCANNING, None
        if surveys[self.site.peer].summary() is None:
            return Phase.WAITING, None
        reconciler = Reconciler(
            surveys, self.parking, self.clock_ms, lambda: None, self.plain_writers, self.targets, pace=self.pace
        )
        report = reconciler.run()
        self._finish(run, report)
        return Phase.DONE, report

    def _current(self) -> Run | None:
        """Return the run to work on: the newest that is not finished, else a new one if one is due."""
        now_ms = self.clock_ms()
        known = [run for shelf in self.shelves.values() if (run := _read_run(shelf)) is not None]
        newest = max(known, key=lambda run: int(run.name), default=None)
        if newest is not None and not self._is_over(newest):
            self._take(newest)
            return newest
        cause = due(
            now_ms,
            tried_ms=None if newest is None else int(newest.name),
            finished_ms=self._newest(FINISHED),
            requested_ms=self._newest(REQUEST),
            period_ms=self.period_ms,
        )
        if cause is None:
            return None
        LOGGER.info("a reconciliation begins", extra={"reason": cause.value})
        run = Run(str(now_ms), now_ms // 1000)
        self._take(run)
        return run

    def _newest(self, name: str) -> int | None:
        times = [ms for shelf in self.shelves.values() if (ms := read_ms(shelf, name)) is not None]
        return max(times, default=None)

    def _take(self, run: Run) -> None:
        shelf = self.shelves[self.site]
        if _read_run(shelf) != run:
            shelf.put(_CURRENT, json.dumps(asdict(run)).encode())

    def _is_over(self, run: Run) -> bool:
        return any(shelf.get(_report_name(run)) is not None for shelf in self.shelves.values())

    def _finish(self, run: Run, report: Report) -> None:
        shelf = self.shelves[self.site]
        if report.equal:
            # Whatever went missing before the run began has been found by it.
            shelf.put(FINISHED, ms_document(int(run.name)))
        # Last: from here on the run is over. One that did not end equal is followed by another as soon as one is due.
        shelf.put(_report_name(run), json.dumps(asdict(report)).encode())


def latest_report(shelves: Mapping[Site, BucketShelf]) -> Mapping[str, object] | None:
    """Return the report of the newest run that is over, as plain JSON; None if there is none."""
    for run in sorted((run for shelf in shelves.values() if (run := _read_run(shelf))), key=_age, reverse=True):
        for shelf in shelves.values():
            data = shelf.get(_report_name(run))
            if data is not None:
                found: Mapping[str, object] = json.loads(data)
                return found
    return None


def _age(run: Run) -> int:
    return int(run.name)


def _report_name(run: Run) -> str:
    return f"{RUNS}/{run.name}/report.json"


def _read_run(shelf: BucketShelf) -> Run | None:
    try:
        data = shelf.get(_CURRENT)
    except TransientError:
        # A site that is away has no say; its table is needed all the same, and that failure is told.
        return None
    if data is None:
        return None
    try:
        run = Run(**json.loads(data))
        int(run.name)
    except (ValueError, TypeError) as error:
        raise DigestError(f"{_CURRENT} names no run; delete it to begin anew") from error
    return run
