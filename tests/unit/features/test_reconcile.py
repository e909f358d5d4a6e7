"""The reconciler on tables in memory: it finds exactly what differs, converges under live writes, goes on after a break."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.errors import TransientError
from functions.features.envelope import Envelope, encode
from functions.features.reconcile.plan import Action, decide
from functions.features.reconcile.reconciler import Reconciler, Report
from functions.features.reconcile.survey import FreePace, MemoryShelf, Run, SteadyPace, Survey
from functions.features.tombstone import tombstone
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import Applied, Row, Unreadable
from tests.unit.features.memory_tables import MemoryParking, MemoryTable

NOW_MS = 1_795_500_000_000
PLAIN = frozenset({Site.AWS})


def row(key: str, steps: int, value: int = 0, site: Site = Site.AWS, expires: int = 0) -> Row:
    return Row(
        key, stamp(NOW_MS - 4_000_000 + 4 * steps, 0, site), encode(Envelope({"n": value or steps}, expires=expires))
    )


def never() -> bool:
    return False


def surveys(tables: dict[Site, MemoryTable], cutoff_seconds: int = NOW_MS // 1000) -> dict[Site, Survey]:
    return {site: Survey(site, tables[site], MemoryShelf(), Run("1", cutoff_seconds)) for site in Site}


def reconcile(
    tables: dict[Site, MemoryTable],
    parking: MemoryParking | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    repair: bool = True,
) -> Report:
    made = surveys(tables)
    for survey in made.values():
        assert survey.scan(FreePace(), never) is not None
        meanwhile()
    return Reconciler(made, parking, lambda: NOW_MS, lambda: None, PLAIN, repair=repair).run()


def random_tables(chance: random.Random, keys: int) -> dict[Site, MemoryTable]:
    tables = {site: MemoryTable() for site in Site}
    for number in range(keys):
        key = f"user#{number}"
        first = row(key, chance.randrange(900_000), site=chance.choice(list(Site)))
        for table in tables.values():
            table.rows[key] = first
        fate = chance.random()
        side = tables[chance.choice(list(Site))]
        if fate < 0.05:
            del side.rows[key]
        elif fate < 0.15:
            version = stamp(NOW_MS - 1000, first.version, chance.choice(list(Site)))
            side.rows[key] = tombstone(key, version) if fate < 0.08 else Row(key, version, first.envelope)
        elif fate < 0.17:
            tables[Site.AWS].rows[key] = Row(key, 0, first.envelope)
        elif fate < 0.19:
            # A program changed the row and left its version.
            tables[Site.AWS].rows[key] = Row(key, first.version, encode(Envelope({"n": -1})))
    return tables


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(0, 120))
def test_whatever_differs_ends_equal(seed: int, keys: int) -> None:
    tables = random_tables(random.Random(seed), keys)
    before = {site: dict(table.rows) for site, table in tables.items()}
    differing = {
        key for key in before[Site.AWS] | before[Site.GCP] if before[Site.AWS].get(key) != before[Site.GCP].get(key)
    }
    report = reconcile(tables)
    assert tables[Site.AWS].rows == tables[Site.GCP].rows
    # A row without a version stands on one side alone, and is among them.
    assert report.differing == len(differing)
    assert (report.equal, report.unsettled, report.parked) == (True, (), 0)
    assert report.digests[Site.AWS] == report.digests[Site.GCP]
    assert report.rows == {site: len(tables[site].rows) for site in Site}
    for key, found in tables[Site.AWS].rows.items():
        assert found.version >= max(each[key].version for each in before.values() if key in each)
    again = reconcile(tables)
    assert (again.differing, again.bytes_again, again.digests) == (0, 0, report.digests)


def test_only_what_differs_is_read_again() -> None:
    data = encode(Envelope({f"feature_{number}": 1.0 / (number + 3) for number in range(12)}))
    rows = [Row(f"user#{number}", row("", number).version, data) for number in range(20_000)]
    tables = {site: MemoryTable(rows) for site in Site}
    for number in range(0, 20_000, 2_000):
        key = f"user#{number}"
        tables[Site.GCP].rows[key] = row(key, 900_000, site=Site.GCP)
    report = reconcile(tables)
    assert (report.differing, report.sent) == (10, {Site.AWS: 10})
    # Each differing row twice on each side: to see it, and to see it equal.
    assert report.bytes_again <= 2 * 2 * 10 * len(data)
    assert report.bytes_exchanged < 20_000 * len(data) * 0.02


def test_live_writes_are_never_undone_and_the_proof_holds() -> None:
    chance = random.Random(5)
    tables = random_tables(chance, 300)
    written: dict[str, int] = {}

    def meanwhile() -> None:
        for _ in range(60):
            key = f"user#{chance.randrange(300)}"
            site = chance.choice(list(Site))
            known = [table.rows[key].version for table in tables.values() if key in table.rows]
            fresh = Row(key, stamp(NOW_MS, max(known, default=0), site), encode(Envelope({"n": chance.randrange(99)})))
            tables[site].apply([fresh])
            if chance.random() < 0.5:
                tables[site.peer].apply([fresh])
            written[key] = fresh.version

    report = reconcile(tables, meanwhile=meanwhile)
    assert report.equal
    for key, version in written.items():
        assert max(table.rows[key].version for table in tables.values() if key in table.rows) >= version
    # What was written behind the second scan is the next run's.
    last = reconcile(tables)
    assert last.equal
    assert tables[Site.AWS].rows == tables[Site.GCP].rows
    for key, version in written.items():
        assert tables[Site.AWS].rows[key].version >= version


def test_expired_rows_and_old_tombstones_take_no_part() -> None:
    over = row("session#1", 1, expires=NOW_MS // 1000)
    old = tombstone("gone", stamp(NOW_MS - 15 * 24 * 3_600_000, 0, Site.AWS))
    kept = row("session#2", 1, expires=NOW_MS // 1000 + 9)
    tables = {Site.AWS: MemoryTable([kept]), Site.GCP: MemoryTable([over, old, kept])}
    report = reconcile(tables)
    assert (report.equal, report.differing) == (True, 0)
    assert report.surveys[Site.GCP].expired == 2
    assert set(tables[Site.AWS].rows) == {"session#2"}


def test_what_nobody_can_decide_is_parked_and_everything_else_goes_on() -> None:
    ahead = row("ahead", 1)
    ahead = Row("ahead", ahead.version + 10 * 3_600_000, ahead.envelope)
    tie = row("tie", 5)
    tables = {
        Site.AWS: MemoryTable([ahead, row("good", 2), tie]),
        Site.GCP: MemoryTable([Row("tie", tie.version, encode(Envelope({"n": 77})))]),
    }
    tables[Site.GCP].unreadable.append(Unreadable("bad", "no envelope"))
    parking = MemoryParking()
    made = surveys(tables)
    for survey in made.values():
        survey.scan(FreePace(), never)
    report = Reconciler(made, parking, lambda: NOW_MS, lambda: None, frozenset()).run()
    assert (report.equal, report.parked) == (False, 2)
    assert set(parking.parked) == {"ahead", "tie"} == set(report.unsettled)
    assert tables[Site.GCP].rows["good"] == tables[Site.AWS].rows["good"]
    assert report.surveys[Site.GCP].unreadable == 1


def test_a_refusing_store_parks_once() -> None:
    class Refusing(MemoryTable):
        def apply(self, rows: object) -> list[Applied]:
            return [Applied.REFUSED]

    parking = MemoryParking()
    report = reconcile({Site.AWS: MemoryTable([row("big", 1)]), Site.GCP: Refusing()}, parking)
    assert (report.parked, report.equal, list(parking.parked)) == (1, False, ["big"])


def test_verifying_changes_nothing_and_tells_what_differs() -> None:
    tables = random_tables(random.Random(9), 100)
    before = {site: dict(table.rows) for site, table in tables.items()}
    report = reconcile(tables, repair=False)
    assert not report.equal
    assert {site: table.rows for site, table in tables.items()} == before
    assert len(report.unsettled) == report.differing > 0


def test_a_row_on_its_way_is_no_divergence() -> None:
    late = row("late", 3)
    tables = {Site.AWS: MemoryTable([late]), Site.GCP: MemoryTable()}
    made = surveys(tables)
    for survey in made.values():
        survey.scan(FreePace(), never)
    arrive = lambda: tables[Site.GCP].apply([late])  # noqa: E731
    report = Reconciler(made, None, lambda: NOW_MS, arrive, PLAIN, repair=False).run()  # type: ignore[arg-type]
    assert (report.equal, report.differing, report.unsettled) == (True, 1, ())


def test_a_survey_goes_on_where_it_broke_off() -> None:
    table = MemoryTable([row(f"k{number}", number) for number in range(3_000)])
    shelf = MemoryShelf()
    asked = 0

    def after_a_while() -> bool:
        nonlocal asked
        asked += 1
        return asked % 5 == 0

    turns = 1
    while Survey(Site.AWS, table, shelf, Run("1", 0)).scan(FreePace(), after_a_while) is None:
        turns += 1
        assert turns < 50
    assert turns > 3
    summary = Survey(Site.AWS, table, shelf, Run("1", 0)).summary()
    assert summary is not None
    assert summary.rows == 3_000
    whole = Survey(Site.GCP, table, MemoryShelf(), Run("1", 0)).scan(FreePace(), never)
    assert whole is not None
    assert (whole.digest, whole.bytes_read) == (summary.digest, summary.bytes_read)
    scanned = table.scanned_shares
    Survey(Site.AWS, table, shelf, Run("1", 0)).scan(FreePace(), never)
    assert table.scanned_shares == scanned


def test_a_store_that_fails_half_way_costs_nothing_done() -> None:
    class Flaky(MemoryTable):
        failing = True

        def read(self, keys: object) -> dict[str, Row]:
            if self.failing:
                raise StoreUnavailableError("away")
            return super().read(keys)  # type: ignore[arg-type]

    far = Flaky()
    tables = {Site.AWS: MemoryTable([row("a", 1)]), Site.GCP: far}
    made = surveys(tables)
    for survey in made.values():
        survey.scan(FreePace(), never)
    reconciler = Reconciler(made, None, lambda: NOW_MS, lambda: None, PLAIN)
    with pytest.raises(StoreUnavailableError):
        reconciler.run()
    far.failing = False
    assert reconciler.run().equal
    assert far.rows == tables[Site.AWS].rows


def test_a_comparison_waits_for_both_surveys() -> None:
    made = surveys({site: MemoryTable() for site in Site})
    made[Site.AWS].scan(FreePace(), never)
    with pytest.raises(TransientError):
        Reconciler(made, None, lambda: NOW_MS, lambda: None).run()


def test_the_pace_spreads_reads_and_saves_nothing_up() -> None:
    now = 0.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = SteadyPace(1_000.0, lambda: now, wait)
    for _ in range(10):
        pace.take(500)
    assert now == pytest.approx(4.5)
    now += 100
    pace.take(500)
    pace.take(500)
    assert now == pytest.approx(105.0)


def test_both_sides_unaware_are_adopted_one_after_the_other() -> None:
    plain = Row("k", 0, encode(Envelope({"n": 1})))
    decision = decide("k", {Site.AWS: plain, Site.GCP: row("k", 4)}, NOW_MS, 0, PLAIN)
    assert (decision.action, decision.site, decision.last) == (Action.ADOPT, Site.AWS, row("k", 4).version)
    foreign = Row("k", row("k", 4).version + 2, plain.envelope)
    decision = decide("k", {Site.AWS: row("k", 4), Site.GCP: foreign}, NOW_MS, 0, PLAIN)
    assert (decision.action, decision.site) == (Action.ADOPT, Site.GCP)
