"""Turns of two sites that only share their buckets: they agree on a run, divide the work, go on after breaks, and rest."""

from dataclasses import replace
from typing import Any

import pytest

from functions.features.envelope import Envelope, encode
from functions.features.reconcile.rule import (
    DYNAMODB_KEEPS_MS,
    PERIOD_MS,
    RETRY_MS,
    Cause,
    Watermark,
    due,
    ms_document,
    outran,
)
from functions.features.reconcile.survey import BucketShelf
from functions.features.reconcile.turn import Phase, Turn, latest_report
from functions.features.tombstone import GRACE_SECONDS
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import Row
from tests.unit.features.memory_tables import MemoryBucket, MemoryParking, MemoryTable

NOW_MS = 1_795_500_000_000


class Pair:
    """Two sites, their tables and buckets, and a clock."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        rows = [row(f"k{number}") for number in range(400)]
        self.tables = {site: MemoryTable(rows) for site in Site}
        self.buckets = {site: MemoryBucket() for site in Site}
        self.shelves = {site: BucketShelf(self.buckets[site]) for site in Site}  # type: ignore[arg-type]
        self.parking = MemoryParking()

    def turn(self, site: Site, **changes: object) -> Turn:
        made = Turn(
            site,
            self.tables,
            self.shelves,
            self.parking,
            lambda: self.now_ms,
            frozenset({Site.AWS}),  # type: ignore[arg-type]
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def phase(self, site: Site, enough: bool = False) -> Phase:
        return self.turn(site).run(lambda: enough)[0]


def row(key: str, steps: int = 0, site: Site = Site.AWS) -> Row:
    return Row(key, stamp(NOW_MS - 10_000 + 4 * steps, 0, site), encode(Envelope({"n": steps})))


def test_each_site_scans_its_own_table_and_the_last_one_compares() -> None:
    pair = Pair()
    pair.tables[Site.GCP].rows["k7"] = row("k7", 9, Site.GCP)
    assert pair.phase(Site.AWS) is Phase.WAITING
    assert pair.tables[Site.GCP].scanned_shares == 0
    phase, report = pair.turn(Site.GCP).run(lambda: False)
    assert phase is Phase.DONE
    assert report is not None
    assert (report.equal, report.differing, report.sent) == (True, 1, {Site.AWS: 1})
    assert pair.tables[Site.AWS].rows == pair.tables[Site.GCP].rows
    assert pair.phase(Site.AWS) is Phase.IDLE
    assert pair.phase(Site.GCP) is Phase.IDLE
    told = latest_report(pair.shelves)
    assert told is not None
    assert told["equal"] is True
    pair.now_ms += PERIOD_MS
    assert pair.phase(Site.GCP) is Phase.WAITING
    assert pair.phase(Site.AWS) is Phase.DONE


def test_two_that_begin_at_once_become_one_run() -> None:
    pair = Pair()
    other = Pair()
    other.buckets = pair.buckets
    # Neither sees the other's beginning.
    assert (
        pair.turn(Site.AWS, shelves={Site.AWS: pair.shelves[Site.AWS], Site.GCP: other.shelves[Site.GCP]}).run(
            lambda: True
        )[0]
        is Phase.SCANNING
    )
    pair.now_ms += 5
    assert (
        pair.turn(Site.GCP, shelves={Site.AWS: other.shelves[Site.AWS], Site.GCP: pair.shelves[Site.GCP]}).run(
            lambda: True
        )[0]
        is Phase.SCANNING
    )
    assert pair.phase(Site.AWS) is Phase.WAITING
    assert pair.phase(Site.GCP) is Phase.DONE
    assert pair.phase(Site.AWS) is Phase.IDLE


def test_a_turn_out_of_time_leaves_the_rest_to_the_next() -> None:
    pair = Pair()
    assert pair.phase(Site.AWS, enough=True) is Phase.SCANNING
    assert pair.phase(Site.AWS) is Phase.WAITING
    assert pair.turn(Site.AWS, alone=True).run(lambda: False)[0] is Phase.DONE


def test_rows_that_ended_long_ago_are_taken_away_by_their_own_site_alone() -> None:
    pair = Pair()
    now_s = NOW_MS // 1000

    def ending(key: str, expires: int, deleted: bool = False) -> Row:
        return Row(key, stamp(NOW_MS - 90 * 86_400_000, 0, Site.AWS), encode(Envelope({}, deleted, expires=expires)))

    rows = [
        ending("tombstone", now_s - 1, deleted=True),
        ending("late tombstone", now_s + 1, deleted=True),
        ending("session", now_s - GRACE_SECONDS - 1),
        ending("late session", now_s - GRACE_SECONDS + 1),
    ]
    for table in pair.tables.values():
        table.apply(rows)
    assert pair.phase(Site.AWS) is Phase.WAITING
    kept = {"late tombstone", "late session"}
    assert {row.key for row in rows} & pair.tables[Site.AWS].rows.keys() == kept
    assert {row.key for row in rows} <= pair.tables[Site.GCP].rows.keys()
    assert pair.phase(Site.GCP) is Phase.DONE
    assert {row.key for row in rows} & pair.tables[Site.GCP].rows.keys() == kept


def test_a_run_that_can_not_end_equal_is_not_tried_without_a_pause() -> None:
    pair = Pair()
    ahead = row("ahead")
    pair.tables[Site.AWS].rows["ahead"] = Row("ahead", ahead.version + 3_600_000, ahead.envelope)
    phase, report = pair.turn(Site.AWS, alone=True).run(lambda: False)
    assert phase is Phase.DONE
    assert report is not None
    assert not report.equal
    assert pair.phase(Site.AWS) is Phase.IDLE
    pair.now_ms += RETRY_MS
    assert pair.phase(Site.AWS) is Phase.WAITING


def test_a_path_that_was_away_too_long_asks_for_a_run_before_it_goes_on() -> None:
    pair = Pair()
    assert pair.turn(Site.AWS, alone=True).run(lambda: False)[0] is Phase.DONE
    shelf = pair.shelves[Site.AWS]

    def watermark() -> Watermark:
        return Watermark(shelf, "features-aws", DYNAMODB_KEEPS_MS, lambda: pair.now_ms)

    assert not watermark().check()
    watermark().advance()
    pair.now_ms += DYNAMODB_KEEPS_MS
    assert not watermark().check()
    assert pair.phase(Site.AWS) is Phase.IDLE
    pair.now_ms += 1
    mark = watermark()
    assert mark.check()
    # Once a minute it looks again: until a batch is applied in full, the gap grows.
    assert not mark.check()
    mark.advance()
    pair.now_ms += 60_000
    assert not mark.check()
    assert pair.phase(Site.GCP) is Phase.WAITING
    assert pair.phase(Site.AWS) is Phase.DONE
    assert pair.phase(Site.AWS) is Phase.IDLE


def test_batches_that_fail_leave_no_watermark_so_an_outage_of_the_other_side_shows() -> None:
    pair = Pair()
    mark = Watermark(pair.shelves[Site.AWS], "features-aws", DYNAMODB_KEEPS_MS, lambda: pair.now_ms)
    mark.advance()
    gaps = 0
    for _ in range(30):
        # Every hour the stream sends the same batch again, and again it fails.
        pair.now_ms += 3_600_000
        gaps += mark.check()
    assert gaps == 9
    mark.advance()
    pair.now_ms += 60_000
    assert not mark.check()


def test_a_gap_that_can_not_be_recorded_stops_the_path() -> None:
    class Away(MemoryBucket):
        def get(self, key: str, limit: int) -> tuple[bytes, Any]:
            return ms_document(0), None

        def put(self, key: str, data: bytes, **_: object) -> None:  # type: ignore[override]
            raise StoreUnavailableError("away")

    mark = Watermark(BucketShelf(Away()), "features-aws", DYNAMODB_KEEPS_MS, lambda: NOW_MS)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            mark.check()
    mark.advance()


def test_the_rule() -> None:
    assert due(100, tried_ms=None, finished_ms=None, requested_ms=None) is Cause.BOOTSTRAP
    assert due(PERIOD_MS + 50, tried_ms=50, finished_ms=50, requested_ms=None) is Cause.PERIOD
    assert due(PERIOD_MS + 49, tried_ms=50, finished_ms=50, requested_ms=49) is None
    assert due(60, tried_ms=50, finished_ms=50, requested_ms=55) is Cause.GAP
    assert due(60, tried_ms=58, finished_ms=50, requested_ms=55) is None
    assert due(58 + RETRY_MS, tried_ms=58, finished_ms=50, requested_ms=55) is Cause.GAP
    assert not outran(None, 10, 5)
    assert outran(0, DYNAMODB_KEEPS_MS + 1, DYNAMODB_KEEPS_MS)
