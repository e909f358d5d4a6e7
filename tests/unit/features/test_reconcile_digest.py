"""Digests: equal exactly when the rows are, whatever the order and however the table was cut into shares."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.features.errors import DigestError
from functions.features.reconcile import digest
from functions.features.reconcile.digest import (
    LEAVES_PER_BRANCH,
    LEAVES_PER_PAGE,
    NOTHING,
    PAGES,
    Node,
    Tally,
    Tree,
    node_of,
)
from functions.stores.protocols import Row

rows = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.tuples(st.integers(0, 2**50), st.binary(max_size=30)),
    max_size=40,
).map(lambda found: [Row(key, version, data) for key, (version, data) in found.items()])


def tree(*shares: list[Row]) -> Tree:
    found = Tree()
    for share in shares:
        tally = Tally()
        for row in share:
            tally.add(row)
        found.add(digest.decode_leaves(digest.encode_leaves(tally.leaves())))
    return found


@settings(deadline=None, max_examples=40)
@given(rows, st.randoms(use_true_random=False), st.integers(1, 4))
def test_order_and_shares_make_no_difference(given_rows: list[Row], chance: random.Random, shares: int) -> None:
    shuffled = list(given_rows)
    chance.shuffle(shuffled)
    parts = [shuffled[number::shares] for number in range(shares)]
    one, other = tree(given_rows), tree(*parts)
    assert one.root() == other.root()
    assert one.branches() == other.branches()
    assert one.leaves() == other.leaves()
    assert one.root().count == len(given_rows)


@settings(deadline=None, max_examples=40)
@given(rows, st.data())
def test_any_change_shows_in_its_leaf_alone_and_can_be_exchanged(given_rows: list[Row], data: st.DataObject) -> None:
    if not given_rows:
        return
    changed = data.draw(st.integers(0, len(given_rows) - 1))
    row = given_rows[changed]
    other = data.draw(st.sampled_from([None, Row(row.key, row.version + 1, row.envelope), Row(row.key, 1, b"!" * 31)]))
    after = [*given_rows[:changed], *([other] if other else []), *given_rows[changed + 1 :]]
    one, two = tree(given_rows), tree(after)
    leaf = digest.leaf_of(row.key.encode())
    if other == row:
        return
    assert digest.differing(one.branches(), two.branches()) == [leaf // LEAVES_PER_BRANCH]
    assert digest.differing(one.leaves(), two.leaves()) == [leaf]
    assert one.root() + node_of(other) - node_of(row) == two.root()


@settings(deadline=None, max_examples=20)
@given(rows)
def test_entries_are_found_by_their_leaves(given_rows: list[Row]) -> None:
    tally = Tally()
    for row in given_rows:
        tally.add(row)
    catalogue = tally.catalogue()
    assert len(catalogue.offsets) == PAGES + 1
    assert catalogue.offsets[-1] == len(catalogue.data)
    found = {}
    for row in given_rows:
        leaf = digest.leaf_of(row.key.encode())
        page = leaf // LEAVES_PER_PAGE
        data = catalogue.data[catalogue.offsets[page] : catalogue.offsets[page + 1]]
        found |= {entry.key: entry for entry in digest.decode_entries(data, frozenset({leaf % LEAVES_PER_PAGE}))}
    assert {key: (entry.version, entry.node) for key, entry in found.items()} == {
        row.key: (row.version, node_of(row)) for row in given_rows
    }


def test_nodes_survive_the_wire_and_damage_is_told() -> None:
    nodes = [NOTHING, Node(3, 2**128 - 1), Node(1, 0)]
    assert digest.decode_nodes(digest.encode_nodes(nodes)) == nodes
    with pytest.raises(DigestError):
        digest.decode_nodes(b"123")
    with pytest.raises(DigestError):
        digest.decode_leaves(b"123")
    tally = Tally()
    tally.add(Row("key", 1, b"data"))
    whole = tally.catalogue().data
    everything = frozenset(range(LEAVES_PER_PAGE))
    for cut in (1, 20, len(whole) - 1):
        with pytest.raises(DigestError):
            list(digest.decode_entries(whole[:cut], everything))


def test_lengths_keep_rows_apart() -> None:
    assert digest.row_hash(b"ab", 1, b"c") != digest.row_hash(b"a", 1, b"bc")
    assert digest.row_hash(b"a", 11, b":") != digest.row_hash(b"a", 1, b"1:")
