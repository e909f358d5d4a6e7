"""Versions and the merge rule: no ties, no order of arrival that matters."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.features.errors import VersionTieError
from functions.features.merge import newer
from functions.features.version import SKEW_BOUND_MS, STEP_MS, beyond_skew, origin, stamp, written_ms
from functions.settings import Site
from functions.stores.protocols import Row

times = st.integers(0, 2**45)
sites = st.sampled_from(list(Site))


@given(times, times, sites)
def test_a_stamp_is_newer_than_what_was_there_and_tells_its_site(now_ms: int, last: int, site: Site) -> None:
    version = stamp(now_ms, last, site)
    assert version > last
    assert origin(version) is site
    assert written_ms(version) % STEP_MS == 0
    assert written_ms(version) >= now_ms - now_ms % STEP_MS


@given(times, times, times, times)
def test_two_sites_never_tie(now_one: int, last_one: int, now_other: int, last_other: int) -> None:
    assert stamp(now_one, last_one, Site.AWS) != stamp(now_other, last_other, Site.GCP)


@given(st.lists(times, min_size=1, max_size=20), sites)
def test_stamps_grow_even_when_the_clock_goes_back(clock: list[int], site: Site) -> None:
    last, stamps = 0, []
    for now_ms in clock:
        last = stamp(now_ms, last, site)
        stamps.append(last)
    assert stamps == sorted(set(stamps))


def test_the_skew_bound_is_exact() -> None:
    assert not beyond_skew(SKEW_BOUND_MS, 0)
    assert beyond_skew(SKEW_BOUND_MS + STEP_MS, 0)


# One content a version, as the stamp guarantees.
rows = st.integers(0, 40).map(lambda version: Row("k", version, b"content %d" % version))


@given(rows, rows, rows)
def test_merging_is_commutative_associative_idempotent(a: Row, b: Row, c: Row) -> None:
    assert newer(a, b) == newer(b, a)
    assert newer(newer(a, b), c) == newer(a, newer(b, c))
    assert newer(a, a) == a


@given(st.lists(rows, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_arrival_and_repeats_do_not_matter(batch: list[Row], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = [*batch, *batch]
    random.shuffle(shuffled)
    assert reduce(newer, shuffled) == max(batch, key=lambda row: row.version)


def test_a_tie_with_other_content_is_an_error() -> None:
    with pytest.raises(VersionTieError):
        newer(Row("k", 4, b"one"), Row("k", 4, b"other"))
