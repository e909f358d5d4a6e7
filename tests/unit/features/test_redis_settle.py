"""What a change in Redis does to the table's row: laid over it, by versions, with nothing undone that it does not name."""

from hypothesis import given
from hypothesis import strategies as st

from functions.features.envelope import Envelope, decode, encode
from functions.features.redis.settle import Verdict, Write, settle
from functions.features.tombstone import tombstone
from functions.stores.protocols import Row

names = st.sampled_from("abcd")
attributes = st.dictionaries(names, st.integers(0, 9), max_size=4)


def row(version: int, values: dict[str, int]) -> Row:
    return Row("k", version, encode(Envelope(values)))


def test_a_row_that_the_table_has_not_is_written_whole() -> None:
    ours = row(8, {"a": 1, "b": 2})
    assert settle(ours, {"a"}, None) == Write(ours, None)


@given(attributes, attributes, st.sets(names, min_size=1))
def test_only_what_is_named_is_changed(ours: dict[str, int], theirs: dict[str, int], changed: set[str]) -> None:
    found = settle(row(8, ours), changed, row(4, theirs))
    assert isinstance(found, Write) and found.seen == 4 and found.row.version == 8
    wanted = theirs | {name: ours[name] for name in changed if name in ours}
    assert decode(found.row.envelope).attributes == wanted


@given(attributes, attributes, st.sets(names, min_size=1))
def test_a_newer_row_of_the_table_stays(ours: dict[str, int], theirs: dict[str, int], changed: set[str]) -> None:
    assert settle(row(8, ours), changed, row(12, theirs)) is Verdict.BEHIND
    assert settle(row(8, ours), None, row(12, theirs)) is Verdict.BEHIND


@given(attributes, attributes, st.sets(names, min_size=1))
def test_a_version_never_gets_a_second_content(ours: dict[str, int], theirs: dict[str, int], changed: set[str]) -> None:
    there = row(8, theirs)
    has_it = all(theirs.get(name) == ours[name] for name in changed if name in ours)
    assert settle(row(8, ours), changed, there) is (Verdict.DONE if has_it else Verdict.AGAIN)


def test_tombstones_win_by_version_and_are_written_over_by_it() -> None:
    ours = row(8, {"a": 1, "old": 2})
    assert settle(ours, {"a"}, tombstone("k", 12)) is Verdict.BEHIND
    found = settle(ours, {"a"}, tombstone("k", 4))
    assert isinstance(found, Write)
    # What the row held before it was deleted does not come back with one new feature.
    assert decode(found.row.envelope) == Envelope({"a": 1})
    dead = tombstone("k", 8)
    assert settle(dead, None, row(4, {"a": 1})) == Write(dead, 4)


def test_a_whole_row_replaces_an_older_one() -> None:
    ours = row(8, {"b": 2})
    assert settle(ours, None, row(4, {"a": 1})) == Write(ours, 4)
