"""Policies: the join is commutative, associative and idempotent, and two sites that join end with the same bytes."""

import random
from collections import deque
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.features.envelope import Envelope, Value, encode
from functions.features.errors import PolicyError
from functions.features.policies.rows import MergingRows, MergingStore, target
from functions.features.policies.rules import (
    RESERVED,
    Content,
    Policy,
    count,
    ended,
    join,
    parse_policies,
    read_content,
    to_row,
    total,
)
from functions.features.version import origin, stamp
from functions.settings import Site
from functions.stores.protocols import Applied, Row
from tests.unit.features.memory_tables import MemoryTable

POLICIES = parse_policies({"best": "max", "least": "min", "tags": "union", "clicks": "counter"})
NOW_MS = 1_795_500_000_000

numbers = st.integers(-5, 5).map(Decimal)
ordered = st.one_of(numbers, st.sampled_from(["a", "b"]))
sets = st.one_of(
    st.frozensets(st.sampled_from("abc"), min_size=1), st.frozensets(st.integers(0, 3).map(Decimal), min_size=1)
)
parts = st.lists(st.integers(0, 5).map(Decimal), min_size=2, max_size=2)
counters: st.SearchStrategy[Value] = st.dictionaries(st.sampled_from(["aws", "gcp"]), parts, max_size=2)
merged: st.SearchStrategy[dict[str, Value]] = st.fixed_dictionaries(
    {}, optional={"best": ordered, "least": ordered, "tags": sets, "clicks": counters}
)
living = st.builds(
    lambda life, base, plain, both: Content(life, base, False, {"p": Decimal(plain)}, both, plain, 0, plain),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
    merged,
)
contents = st.one_of(living, st.integers(0, 2).map(ended))


@settings(max_examples=400)
@given(contents, contents, contents)
def test_the_join_is_a_semilattice(one: Content, two: Content, three: Content) -> None:
    def both(left: Content, right: Content) -> Content:
        return join(left, right, POLICIES)

    assert both(one, two) == both(two, one)
    assert both(both(one, two), three) == both(one, both(two, three))
    assert both(one, one) == one
    assert both(both(one, two), one) == both(one, two)


@given(contents)
def test_a_content_survives_its_row(content: Content) -> None:
    row = to_row("k", 8, content)
    if content.deleted and not content.life:
        content = ended(8)
    assert read_content(row, POLICIES) == content
    assert to_row("k", 8, read_content(row, POLICIES)) == row


class Pair:
    """Two sites with their tables, and messages on their way that may come late, twice and in any order."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_ms = NOW_MS
        self.tables = {site: MemoryTable() for site in Site}
        skews = {site: self.chance.randrange(-9, 9) * 1_000 for site in Site}
        clocks = {site: (lambda skew=skew: self.now_ms + skew) for site, skew in skews.items()}
        self.stores = {site: MergingStore(self.tables[site], site, POLICIES, clocks[site]) for site in Site}
        self.targets = {site: MergingRows(self.tables[site], site, POLICIES, clocks[site]) for site in Site}
        self.way: dict[Site, deque[Row]] = {site: deque() for site in Site}
        self.restamped = 0

    def sent(self, site: Site, key: str) -> None:
        """What the change stream of a site carries: rows that were stamped there."""
        row = self.tables[site].rows[key]
        if origin(row.version) is site:
            self.way[site.peer].append(row)
            if self.chance.random() < 0.25:
                self.way[site.peer].append(row)

    def deliver(self, site: Site, shuffled: bool) -> None:
        way = self.way[site]
        index = self.chance.randrange(len(way)) if shuffled else 0
        row = way[index]
        del way[index]
        before = self.tables[site].rows.get(row.key)
        assert self.targets[site].apply([row])[0] in (Applied.APPLIED, Applied.STALE)
        after = self.tables[site].rows[row.key]
        if after not in (before, row):
            self.restamped += 1
            self.sent(site, row.key)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_two_sites_converge_and_count_exactly(seed: int) -> None:
    pair = Pair(seed)
    chance = pair.chance
    clicks: dict[str, int] = {}
    best: dict[str, int] = {}
    tags: dict[str, set[str]] = {}
    for number in range(120):
        pair.now_ms += chance.randrange(40)
        key, site = f"k{chance.randrange(4)}", chance.choice(list(Site))
        store = pair.stores[site]
        if chance.random() < 0.5:
            amount = chance.randrange(-3, 9)
            store.increment(key, "clicks", amount)
            clicks[key] = clicks.get(key, 0) + amount
        else:
            value, tag = chance.randrange(1_000), chance.choice("abcdef")
            store.set(key, {"best": value, "tags": frozenset({tag}), "plain": number})
            best[key] = max(best.get(key, 0), value)
            tags.setdefault(key, set()).add(tag)
        pair.sent(site, key)
        while pair.way[site] and chance.random() < 0.4:
            pair.deliver(site, shuffled=True)
    rounds = 0
    while any(pair.way.values()):
        pair.deliver(chance.choice([site for site in Site if pair.way[site]]), shuffled=True)
        rounds += 1
        assert rounds < 2_000, "the sites answer each other for ever"
    assert pair.tables[Site.AWS].rows == pair.tables[Site.GCP].rows
    for store in pair.stores.values():
        for key in {*clicks, *best}:
            found = store.get(key)
            assert found is not None
            assert found.attributes.get("clicks", 0) == clicks.get(key, 0)
            if key in best:
                assert (found.attributes["best"], found.attributes["tags"]) == (best[key], frozenset(tags[key]))
                assert found.attributes["plain"] is not None
            assert RESERVED not in found.attributes


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_deletions_converge_too(seed: int) -> None:
    pair = Pair(seed)
    chance = pair.chance
    for number in range(80):
        pair.now_ms += chance.randrange(40)
        key, site = f"k{chance.randrange(3)}", chance.choice(list(Site))
        if chance.random() < 0.25:
            pair.stores[site].delete(key)
        elif chance.random() < 0.5:
            pair.stores[site].increment(key, "clicks")
        else:
            pair.stores[site].set(key, {"best": number, "plain": number})
        pair.sent(site, key)
        while pair.way[site] and chance.random() < 0.3:
            pair.deliver(site, shuffled=True)
    rounds = 0
    while any(pair.way.values()):
        pair.deliver(chance.choice([site for site in Site if pair.way[site]]), shuffled=True)
        rounds += 1
        assert rounds < 2_000
    assert pair.tables[Site.AWS].rows == pair.tables[Site.GCP].rows


def test_a_merge_is_no_later_write_of_the_plain_attributes() -> None:
    table = MemoryTable()
    here = MergingStore(table, Site.AWS, POLICIES, lambda: NOW_MS)
    here.set("k", {"best": 5, "plain": "old"})
    first = table.rows["k"]
    there = MemoryTable([first])
    later = MergingStore(there, Site.GCP, POLICIES, lambda: NOW_MS + 100)
    later.set("k", {"best": 1, "plain": "newer"})
    # A merge on the one side is stamped after a plain write of the other, and must not win over it.
    here.increment("k", "clicks", 1)
    merging = MergingRows(table, Site.AWS, POLICIES, lambda: NOW_MS + 5_000)
    assert merging.apply([there.rows["k"]]) == [Applied.APPLIED]
    newest = MergingStore(there, Site.GCP, POLICIES, lambda: NOW_MS + 200)
    newest.set("k", {"plain": "newest"})
    assert merging.apply([there.rows["k"]]) == [Applied.APPLIED]
    found = here.get("k")
    assert found is not None
    assert found.attributes == {"best": 5, "plain": "newest", "clicks": 1}
    back = MergingRows(there, Site.GCP, POLICIES, lambda: NOW_MS + 300)
    back.apply([table.rows["k"]])
    assert there.rows == table.rows


def test_a_written_over_tombstone_stays_dead_to_those_who_had_not_seen_it() -> None:
    table = MemoryTable()
    store = MergingStore(table, Site.AWS, POLICIES, lambda: NOW_MS)
    store.increment("k", "clicks", 7)
    before = table.rows["k"]
    store.delete("k")
    store.increment("k", "clicks", 1)
    late = MemoryTable([before])
    MergingStore(late, Site.GCP, POLICIES, lambda: NOW_MS + 9_000).increment("k", "clicks", 50)
    MergingRows(table, Site.AWS, POLICIES, lambda: NOW_MS + 9_000).apply([late.rows["k"]])
    found = store.get("k")
    assert found is not None
    assert found.attributes["clicks"] == 1


def test_what_a_policy_can_not_merge_is_refused_by_name() -> None:
    with pytest.raises(PolicyError, match="'speed': 'fastest'"):
        parse_policies({"speed": "fastest", "best": "max"})
    store = MergingStore(MemoryTable(), Site.AWS, POLICIES, lambda: NOW_MS)
    for wrong in ({"best": True}, {"tags": "x"}, {"clicks": 3}, {RESERVED: 1}, {"least": None}):
        with pytest.raises(PolicyError):
            store.set("k", wrong)  # type: ignore[arg-type]
    with pytest.raises(PolicyError):
        store.increment("k", "best")
    table = MemoryTable([Row("k", stamp(NOW_MS, 0, Site.AWS), encode(Envelope({"best": 1})))])
    merging = MergingRows(table, Site.AWS, POLICIES, lambda: NOW_MS)
    bad = Row("k", stamp(NOW_MS + 40, 0, Site.GCP), encode(Envelope({"best": [1]})))
    assert merging.apply([bad]) == [Applied.REFUSED]


def test_rows_without_policies_are_applied_as_they_are() -> None:
    table = MemoryTable()
    merging = MergingRows(table, Site.AWS, POLICIES, lambda: NOW_MS)
    first = Row("k", stamp(NOW_MS, 0, Site.GCP), encode(Envelope({"n": 1})))
    second = Row("k", stamp(NOW_MS + 8, 0, Site.GCP), encode(Envelope({"n": 2})))
    assert merging.apply([second]) == [Applied.APPLIED]
    assert merging.apply([first]) == [Applied.STALE]
    assert merging.apply([second]) == [Applied.STALE]
    assert table.rows == {"k": second}
    assert target(table, Site.AWS, {}, lambda: NOW_MS) is table
    assert isinstance(target(table, Site.AWS, POLICIES, lambda: NOW_MS), MergingRows)


def test_a_counter_counts_down_as_well() -> None:
    value: Value = None
    for site, amount in ((Site.AWS, 5), (Site.GCP, -2), (Site.AWS, -4)):
        value = count(value, Decimal(amount), site)
    assert total(value) == -1
    assert Policy.COUNTER in POLICIES.values()
