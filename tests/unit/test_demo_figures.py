"""The figures of the demo's report are counted from what was seen, and a run that went wrong shows it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.settings import Site
from functions.stores.protocols import Row
from operate.demo.features import Acknowledged, divergent, missing, newest
from operate.demo.measure import engine_steps, lag_quantiles, requests_between
from operate.demo.traffic import Answered, by_second
from operate.report.result import LagSample
from operate.stacks import Log, Mark, Outcome


def answered(sent_at: float, site: str | None = "aws", failure: str | None = None) -> Answered:
    return Answered(sent_at, 0.01, None if failure else site, None if failure else "v", failure)


KEYS = st.sampled_from(["a", "b", "c"])
WRITES = st.lists(
    st.builds(Acknowledged, key=KEYS, version=st.integers(1, 50), at=st.floats(0, 10), site=st.just(Site.AWS)),
    max_size=30,
)
ROWS = st.dictionaries(KEYS, st.tuples(st.integers(1, 50), st.sampled_from([b"x", b"y"])), max_size=3)


def rows(found: dict[str, tuple[int, bytes]]) -> dict[str, Row]:
    return {key: Row(key, version, envelope) for key, (version, envelope) in found.items()}


@given(WRITES, ROWS)
def test_a_write_is_missing_exactly_when_nothing_as_new_is_there(
    writes: list[Acknowledged], found: dict[str, tuple[int, bytes]]
) -> None:
    late = {write.key for write in missing(writes, rows(found))}
    for key in {write.key for write in writes}:
        wanted = max(write.version for write in writes if write.key == key)
        assert (key in late) == (key not in found or found[key][0] < wanted)


@given(WRITES)
def test_the_newest_write_of_a_key_counts(writes: list[Acknowledged]) -> None:
    assert {key: write.version for key, write in newest(writes).items()} == {
        key: max(write.version for write in writes if write.key == key) for key in {write.key for write in writes}
    }


@pytest.mark.parametrize(
    ("there", "differs"),
    [
        ({}, True),
        ({"a": (4, b"x")}, True),
        ({"a": (5, b"y")}, True),
        ({"a": (5, b"x")}, False),
        ({"a": (9, b"y")}, True),
        ({"a": (5, b"x"), "b": (1, b"z")}, True),
    ],
)
def test_rows_differ_unless_version_and_bytes_are_the_same(there: dict[str, tuple[int, bytes]], differs: bool) -> None:
    assert bool(divergent(rows({"a": (5, b"x")}), rows(there))) is differs


def test_requests_are_counted_in_their_window_with_reasons() -> None:
    answers = [
        answered(0.5),
        answered(1.0),
        answered(1.5, failure="HTTP 502: upstream reset"),
        answered(1.6, failure="HTTP 520: upstream reset"),
        answered(1.7, failure="ReadTimeout: "),
        answered(1.8, failure="answer is not a ranking of the products asked for"),
        answered(2.0),
    ]
    found = requests_between(answers, 1.0, 2.0, rescued=3)
    assert (found.sent, found.failed, found.rescued) == (5, 4, 3)
    assert sum(each.count for each in found.explained) == found.failed
    assert found.explained[0].count == 2
    assert "not sent twice" in found.explained[0].reason


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["aws", "gcp", "failed"])), max_size=60))
def test_the_timeline_loses_no_request(sent: list[tuple[float, str]]) -> None:
    answers = [answered(at, who, "broken" if who == "failed" else None) for at, who in sent]
    counted = by_second(answers, 0.0)
    assert sum(row.aws + row.gcp + row.failed for row in counted) == len(answers)
    assert sum(row.failed for row in counted) == sum(who == "failed" for _, who in sent)


def test_lag_of_nothing_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="no feature row"):
        lag_quantiles([])
    assert lag_quantiles([LagSample(second=0, lag_ms=lag) for lag in (1, 2, 300)]).p50 == 2


def test_the_steps_of_an_update_add_up_to_it() -> None:
    outcome = Outcome(
        12.0,
        169,
        {"update": 2, "same": 167},
        (Mark(1.0, "begin", "urn", "same"), Mark(7.5, "begin", "urn", "update")),
        (
            Log(9.0, "gate: asking site gcp"),
            Log(9.4, "gate: passed"),
            Log(10.5, "verification: served by gcp"),
            Log(11, "x"),
        ),
    )
    steps = engine_steps(outcome)
    assert [round(step.seconds, 2) for step in steps] == [7.5, 1.5, 0.4, 1.1, 1.5]
    assert sum(step.seconds for step in steps) == pytest.approx(outcome.seconds)
