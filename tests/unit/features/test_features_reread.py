"""The way back from a source that only tells which rows changed: messages of the template, echo table, deletions."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.events import PubSubMessage
from functions.features.apply import FeatureApplier
from functions.features.envelope import Envelope, encode
from functions.features.errors import PoisonRecordError
from functions.features.merge import newer
from functions.features.plan import Adoption, Change, Outcome
from functions.features.reread.apply import RereadApplier
from functions.features.reread.notice import LATE_MS, Notices, collect, notice
from functions.features.reread.plan import plan_rows
from functions.features.tombstone import GRACE_SECONDS, tombstone
from functions.features.version import SKEW_BOUND_MS, stamp
from functions.gathering import AsyncGathering
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import Applied, Row

NOW_MS = 1_795_500_000_000
MINE = stamp(NOW_MS - 50, 0, Site.GCP)
THEIRS = stamp(NOW_MS - 40, 0, Site.AWS)
DATA = encode(Envelope({"a": 1}))


def told(key: str = "k", kind: str = "SET_CELL", identity: str = "m1", **changes: Any) -> PubSubMessage:
    body = {
        "rowKey": key,
        "modType": kind,
        "isGC": False,
        "tieBreaker": 0,
        "commitTimestamp": str((NOW_MS - 20) * 1000),
        "columnFamily": "row",
        "sourceInstance": "i",
        "sourceCluster": "c",
        "sourceTable": "features",
    }
    if kind != "DELETE_FAMILY":
        body["column"] = "e"
    return PubSubMessage(identity, json.dumps(body | changes), {})


def judged(row: Row | None, far: Row | None = None, kind: str = "SET_CELL") -> Any:
    home = {} if row is None else {"k": row}
    found = plan_rows(collect([told(kind=kind)]), home, {} if far is None else {"k": far}, NOW_MS, Site.GCP)
    if found.restored:
        return found.restored[0]
    if found.plan.parked:
        return Outcome.PARKED
    done = [*found.plan.changes.values(), *found.plan.adoptions.values()]
    return done[0] if done else next(outcome for outcome, count in found.plan.outcomes.items() if count)


FAR_OLD = Row("k", stamp(NOW_MS - 5_000, 0, Site.AWS), DATA)
FAR_MINE = Row("k", MINE, DATA)


@pytest.mark.parametrize(
    ("row", "far", "kind", "expected"),
    [
        (Row("k", MINE, DATA), None, "SET_CELL", Change(Row("k", MINE, DATA), "m1")),
        (tombstone("k", MINE), None, "SET_CELL", Change(tombstone("k", MINE), "m1")),
        (Row("k", THEIRS, DATA), None, "SET_CELL", Outcome.ECHO),
        (Row("k", MINE + 1, DATA), None, "SET_CELL", Adoption("k", MINE + 1, MINE + 1, "m1")),
        (Row("k", MINE, b"no envelope"), None, "SET_CELL", Outcome.PARKED),
        (Row("k", stamp(NOW_MS + SKEW_BOUND_MS + 8, 0, Site.GCP), DATA), None, "SET_CELL", Outcome.PARKED),
        # A deletion that a write has followed says nothing any more.
        (Row("k", MINE, DATA), None, "DELETE_FAMILY", Change(Row("k", MINE, DATA), "m1")),
        (None, None, "DELETE_FAMILY", Outcome.STALE),
        (None, tombstone("k", MINE), "DELETE_CELLS", tombstone("k", MINE)),
        # The sweeper takes tombstones away whose time has come, and the far side does the same by itself.
        (None, tombstone("k", MINE - (GRACE_SECONDS + 1) * 1000), "DELETE_CELLS", Outcome.STALE),
        # A write that was stamped below the version which the deletion took away, and an older row that came again.
        (Row("k", MINE, DATA), Row("k", THEIRS, DATA), "DELETE_FAMILY", Row("k", THEIRS, DATA)),
        (FAR_OLD, FAR_MINE, "DELETE_FAMILY", FAR_MINE),
        (None, Row("k", MINE, encode(Envelope({"a": 1}, expires=NOW_MS // 1000))), "DELETE_FAMILY", Outcome.STALE),
        (None, FAR_MINE, "DELETE_FAMILY", Adoption("k", None, MINE, "m1", removed=True)),
        (None, FAR_OLD, "DELETE_CELLS", Adoption("k", None, FAR_OLD.version, "m1", removed=True)),
        # Written on the other side at about the time of the deletion: the write stays.
        (None, Row("k", THEIRS, DATA), "DELETE_FAMILY", Row("k", THEIRS, DATA)),
        # The write of a row that is gone again: its deletion is told by a message of its own.
        (None, FAR_MINE, "SET_CELL", Outcome.STALE),
    ],
)
def test_echo_table(row: Row | None, far: Row | None, kind: str, expected: Any) -> None:
    assert judged(row, far, kind) == expected


def test_a_deletion_is_placed_no_later_than_the_template_may_be_late() -> None:
    found = notice(told(kind="DELETE_FAMILY"))
    assert found is not None
    assert found.since_ms == NOW_MS - 20 - LATE_MS


def test_housekeeping_is_counted_and_forgotten() -> None:
    found = collect([told(kind="DELETE_CELLS", isGC=True)])
    assert (found.by_key, found.idle) == ({}, 1)


@pytest.mark.parametrize(
    "message",
    [
        PubSubMessage("m", "no json", {}),
        PubSubMessage("m", "[]", {}),
        PubSubMessage("m", "{}", {}),
        told(kind="UNKNOWN"),
        told(key=""),
        told(key="bad\ufffdkey"),
        told(column="other"),
        told(columnFamily="other"),
        told(commitTimestamp="soon"),
    ],
)
def test_what_never_can_be_applied_is_poison(message: PubSubMessage) -> None:
    with pytest.raises(PoisonRecordError):
        notice(message)
    assert len(collect([message]).parked) == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["SET_CELL", "DELETE_FAMILY"]))))
def test_every_message_is_counted_once(messages: list[tuple[str, str]]) -> None:
    found: Notices = collect(told(key, kind, identity=str(number)) for number, (key, kind) in enumerate(messages))
    assert set(found.by_key) == {key for key, _ in messages}
    assert len(found.by_key) + found.repeated == len(messages) == len(found.keys)
    for key, one in found.by_key.items():
        assert bool(one.since_ms) is ((key, "DELETE_FAMILY") in messages)


class Table:
    """A table in memory with the rule of the stores; `away` makes its calls fail."""

    def __init__(self, rows: dict[str, Row] | None = None) -> None:
        self.rows = dict(rows or {})
        self.away = False

    def _there(self) -> None:
        if self.away:
            raise StoreUnavailableError("away")

    def read(self, keys: Any) -> dict[str, Row]:
        self._there()
        return {key: self.rows[key] for key in keys if key in self.rows}

    def write(self, row: Row) -> int | None:
        self._there()
        known = self.rows.get(row.key)
        if known is not None and known.version >= row.version:
            return known.version
        self.rows[row.key] = row
        return None

    def apply(self, rows: Any) -> list[Applied]:
        return [Applied.FAILED if self.away else self._apply(row) for row in rows]

    def _apply(self, row: Row) -> Applied:
        return Applied.APPLIED if self.write(row) is None else Applied.STALE

    def scan(self, start: str = "", end: str | None = None) -> Any:
        return iter(self.rows.values())

    def adopt(self, key: str, seen: int | None, version: int) -> Row | None:
        known = self.rows.get(key)
        if known is None or known.version != seen:
            return None
        self.rows[key] = Row(key, version, known.envelope)
        return self.rows[key]

    def bury(self, row: Row) -> bool:
        if row.key in self.rows:
            return False
        self.rows[row.key] = row
        return True


class Lot:
    def __init__(self) -> None:
        self.parked: list[str] = []

    def park(self, identity: str, reason: str, content: Any) -> None:
        self.parked.append(identity)


def applier(home: Table, far: Table, lot: Lot | None = None) -> RereadApplier:
    return RereadApplier(FeatureApplier(Site.GCP, home, far, lot or Lot(), lambda: NOW_MS))


VERSIONS = st.builds(stamp, st.integers(NOW_MS - 400, NOW_MS), st.just(0), st.sampled_from(list(Site)))
ROWS = st.builds(
    lambda key, version: Row(key, version, encode(Envelope({"v": version}))), st.sampled_from("abcd"), VERSIONS
)


@given(st.lists(ROWS, max_size=12), st.lists(ROWS, max_size=12), st.randoms())
def test_hints_in_any_order_and_number_bring_the_newest_rows_over(
    mine: list[Row], theirs: list[Row], chance: Any
) -> None:
    """Home rows of our own reach the far side, rows of the far side are never sent back, and repeats change nothing."""
    home, far = Table(), Table()
    written = [row for row in mine if row.version % 4 == 1]
    brought = [row for row in theirs if row.version % 4 == 0]
    for row in [*written, *brought]:
        home.write(row)
    for row in brought:
        far.write(row)
    hints = [told(row.key, identity=str(number)) for number, row in enumerate(written)]
    hints = [*hints, *chance.sample(hints, len(hints) // 2)]
    chance.shuffle(hints)
    for start in range(0, len(hints), 3):
        assert applier(home, far).run(hints[start : start + 3]).failed == frozenset()
    best: dict[str, Row] = {}
    for row in [*written, *brought]:
        best[row.key] = newer(best[row.key], row) if row.key in best else row
    assert home.rows == far.rows == best


def test_a_store_that_is_away_fails_every_message_and_a_repeat_mends_it() -> None:
    home, far, lot = Table({"k": Row("k", MINE, DATA)}), Table(), Lot()
    messages = [told(identity="1"), told(identity="2"), told("other", identity="3"), PubSubMessage("4", "{}", {})]
    far.away = True
    done = applier(home, far, lot).run(messages)
    # The row that is gone is looked up on the far side, so nothing can be judged.
    assert done.failed == {"1", "2", "3", "4"}
    done = applier(home, far, lot).run(messages[:2])
    assert done.failed == {"1", "2"}
    assert done.result.outcomes[Outcome.FAILED] == 1
    far.away = False
    done = applier(home, far, lot).run(messages)
    assert done.failed == frozenset()
    assert far.rows == home.rows
    assert lot.parked == ["4"]
    assert sum(done.result.outcomes.values()) == len(messages)


class Refusing(Table):
    """A table that answers every replicated row with a failure."""

    def apply(self, rows: Any) -> list[Applied]:
        return [Applied.FAILED for _ in rows]


def test_a_row_that_cannot_be_put_back_fails_its_message() -> None:
    home, far = Refusing(), Table({"k": Row("k", THEIRS, DATA)})
    assert applier(home, far).run([told(kind="DELETE_FAMILY")]).failed == {"m1"}
    assert applier(Table(), far).run([told(kind="DELETE_FAMILY")]).failed == frozenset()


def test_a_row_deleted_outright_gets_a_tombstone_on_both_sides() -> None:
    home, far = Table(), Table({"k": Row("k", MINE, DATA)})
    done = applier(home, far).run([told(kind="DELETE_FAMILY")])
    assert not done.failed
    assert home.rows == far.rows
    assert far.rows["k"] == tombstone("k", stamp(NOW_MS, MINE, Site.GCP))


class Unsteady(Table):
    """A far side that fails some rows for now, and whose caller is killed once after so many rows."""

    def __init__(self, failing: set[str], dies_after: int) -> None:
        super().__init__()
        self.failing = failing
        self.left = dies_after

    def apply(self, rows: Any) -> list[Applied]:
        return [Applied.FAILED if row.key in self.failing else self._one(row) for row in rows]

    def _one(self, row: Row) -> Applied:
        self.left -= 1
        if not self.left:
            raise RuntimeError("killed in the middle of a batch")
        return super()._apply(row)


@given(
    st.lists(st.sampled_from(["a", "b", "c", "d", "poison"]), max_size=30),
    st.sets(st.sampled_from("abcd")),
    st.integers(1, 6),
    st.integers(1, 9),
)
def test_requests_that_share_a_batch_are_refused_each_for_its_own_row(
    keys: list[str], failing: set[str], most: int, dies_after: int
) -> None:
    """As the function runs it: rows that fail refuse their own messages, poison is parked, what came to grief comes again."""
    rows = {key: Row(key, stamp(NOW_MS - 90, 0, Site.GCP), DATA) for key in sorted({*keys} - {"poison"})}
    home, far, lot = Table(rows), Unsteady(failing, dies_after), Lot()
    messages = [
        PubSubMessage(str(number), "{}", {}) if key == "poison" else told(key, identity=str(number))
        for number, key in enumerate(keys)
    ]

    def work(batch: Sequence[PubSubMessage]) -> list[bool]:
        done = applier(home, far, lot).run(batch)
        return [message.identity not in done.failed for message in batch]

    async def deliver(waiting: Sequence[PubSubMessage]) -> list[bool]:
        gathering: AsyncGathering[PubSubMessage, bool] = AsyncGathering(work, most)
        answers = await asyncio.gather(*(gathering.submit(each) for each in waiting), return_exceptions=True)
        return [answer is True for answer in answers]

    answers = asyncio.run(deliver(messages))
    refused = {message.identity for message, answer in zip(messages, answers, strict=True) if not answer}
    expected = {str(number) for number, key in enumerate(keys) if key in failing}
    assert expected <= refused
    # A broken batch is halved until one row stands alone, so even the kill costs the messages of one row at most.
    assert len({keys[int(identity)] for identity in refused - expected}) <= 1
    far.failing, far.left = set(), 0
    again = [message for message in messages if message.identity in refused]
    assert all(asyncio.run(deliver(again)))
    assert far.rows == home.rows == rows
    assert set(lot.parked) == {str(number) for number, key in enumerate(keys) if key == "poison"}
