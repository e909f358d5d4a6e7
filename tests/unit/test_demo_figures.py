"""The figures of the demo's report are counted from what was seen, and a run that went wrong shows it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from functions.settings import Site
from operate.demo.loads import Cut
from operate.demo.measure import arrived_before, engine_steps, lag_quantiles, requests_between
from operate.demo.rungs import shares
from operate.demo.traffic import Answered, by_second
from operate.demo.writers import Acknowledged, missing, newest, read_all
from operate.report.result import LagSample
from operate.stacks import Log, Mark, Outcome


def answered(sent_at: float, site: str | None = "aws", failure: str | None = None) -> Answered:
    return Answered(sent_at, 0.01, None if failure else site, None if failure else "v", failure)


KEYS = st.sampled_from(["a", "b", "c"])
WRITES = st.lists(
    st.builds(Acknowledged, key=KEYS, version=st.integers(1, 50), at=st.floats(0, 10), site=st.just(Site.AWS)),
    max_size=30,
)
VERSIONS = st.dictionaries(KEYS, st.integers(1, 50), max_size=3)


@given(WRITES, VERSIONS)
def test_a_write_is_missing_exactly_when_nothing_as_new_is_there(
    writes: list[Acknowledged], found: dict[str, int]
) -> None:
    late = {write.key for write in missing(writes, found)}
    for key in {write.key for write in writes}:
        wanted = max(write.version for write in writes if write.key == key)
        assert (key in late) == (key not in found or found[key] < wanted)


@given(WRITES)
def test_the_newest_write_of_a_key_counts(writes: list[Acknowledged]) -> None:
    assert {key: write.version for key, write in newest(writes).items()} == {
        key: max(write.version for write in writes if write.key == key) for key in {write.key for write in writes}
    }


def test_the_exposure_at_a_loss_is_the_age_of_the_oldest_missing_write() -> None:
    writes = [Acknowledged("a", 4, 1.0, Site.AWS), Acknowledged("b", 8, 2.5, Site.AWS)]
    assert Cut(3.0, writes, []).rpo_seconds == 0.0
    assert Cut(3.0, writes, writes).rpo_seconds == 2.0
    assert Cut(3.0, writes, writes[1:]).rpo_seconds == 0.5


@given(st.lists(st.integers(), max_size=900, unique=True))
def test_many_keys_are_read_in_bounded_calls_and_all_of_them(numbers: list[int]) -> None:
    calls: list[int] = []

    def read(keys: Sequence[str]) -> dict[str, int]:
        calls.append(len(keys))
        return {key: int(key) for key in keys}

    assert read_all(read, map(str, numbers)) == {str(number): number for number in numbers}
    assert all(count <= 200 for count in calls)


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


def test_what_waited_out_an_outage_is_no_lag() -> None:
    samples = [LagSample(second=1.0, lag_ms=50), LagSample(second=9.9, lag_ms=40_000), LagSample(second=11, lag_ms=5)]
    assert arrived_before(samples, 10.0) == samples[:1]


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


def test_each_byte_of_a_version_is_counted_under_one_rung(tmp_path: Path) -> None:
    parent, child = tmp_path / "v1", tmp_path / "v2"
    chance = np.random.default_rng(1)
    weights = {name: chance.standard_normal((400, 64), dtype=np.float32) for name in ("a", "b")}
    tuned = {**weights, "a": weights["a"] + np.float32(1e-4) * chance.standard_normal((400, 64), dtype=np.float32)}
    for folder, tensors in ((parent, weights), (child, tuned)):
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text('{"rows": 400}')
    found = {each.codec: each for each in shares(child, parent)}
    assert sum(each.bytes_raw for each in found.values()) == sum(path.stat().st_size for path in child.iterdir())
    same = found["same bytes, not sent"]
    assert same.bytes_raw >= weights["b"].nbytes and same.bytes_wire == 0
    # Which rung it is depends on whether the compiled kernel is there.
    (tuned,) = [each for each in found.values() if each.bytes_raw == weights["a"].nbytes]
    assert 0 < tuned.bytes_wire < weights["a"].nbytes
    assert "same bytes, not sent" not in {each.codec for each in shares(child, None)}
