"""The gate's rules, one by one and for any facts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.gate import Answer, Facts, Limits, ModelVersion, judge

LIMITS = Limits(feature_lag_ms=1_000)
V1 = ModelVersion("recommender", "prod", "1" * 8)
V2 = ModelVersion("recommender", "prod", "2" * 8)
WARM = Answer(ready=True, instance="i-1", model=V1, lag_ms=200, silence_ms=900)
GREEN = Facts("gcp", "aws", (WARM,) * 5, WARM)


def failed(facts: Facts) -> set[str]:
    return {check.name for check in judge(facts, LIMITS).failed}


def with_all(**changes: object) -> Facts:
    return replace(GREEN, samples=tuple(replace(each, **changes) for each in GREEN.samples))  # type: ignore[arg-type]


def with_one(**changes: object) -> Facts:
    return replace(GREEN, samples=(*GREEN.samples[1:], replace(WARM, **changes)))  # type: ignore[arg-type]


def test_a_warm_site_of_the_same_version_and_fresh_features_is_green() -> None:
    verdict = judge(GREEN, LIMITS)
    assert verdict.green and len(verdict.checks) == 5


def test_one_unready_host_is_red_and_its_reason_is_named() -> None:
    facts = with_one(ready=False, reasons=("model not loaded",))
    assert failed(facts) == {"ready"}
    assert "model not loaded" in judge(facts, LIMITS).failed[0].line()


def test_no_answers_are_red() -> None:
    assert "ready" in failed(replace(GREEN, samples=()))


def test_hosts_on_two_versions_are_red() -> None:
    assert failed(with_one(model=V2)) == {"one_model", "same_model"}


def test_another_version_than_the_serving_site_is_red() -> None:
    assert failed(with_all(model=V2)) == {"same_model"}


def test_another_version_does_not_stop_a_failover_from_a_dead_site() -> None:
    facts = replace(with_all(model=V2), active_answer=None)
    verdict = judge(facts, LIMITS)
    assert verdict.green
    assert any("does not answer" in check.note for check in verdict.checks)


def test_no_model_is_always_red() -> None:
    facts = with_all(model=None)
    assert failed(facts) == {"one_model", "same_model"}
    assert failed(replace(facts, active_answer=None)) == {"one_model", "same_model"}


@pytest.mark.parametrize("active", [WARM, None])
def test_lag_over_the_objective_is_red_whoever_lives(active: Answer | None) -> None:
    assert failed(replace(with_all(lag_ms=1_001), active_answer=active)) == {"feature_lag"}
    assert failed(replace(with_all(lag_ms=1_000), active_answer=active)) == set()


def test_the_worst_host_counts() -> None:
    assert failed(with_one(lag_ms=5_000)) == {"feature_lag"}
    assert failed(with_one(lag_ms=None)) == {"feature_lag"}


def test_silence_is_red_while_the_serving_site_lives_and_stated_as_loss_when_it_does_not() -> None:
    silent = with_all(silence_ms=90_000)
    assert failed(silent) == {"feature_silence"}
    verdict = judge(replace(silent, active_answer=None), LIMITS)
    assert verdict.green
    (check,) = [check for check in verdict.checks if check.name == "feature_silence"]
    assert check.value == "90,000 ms" and "may be lost" in check.note


def test_a_site_that_answers_unready_counts_as_not_serving() -> None:
    sick = Answer(ready=False, reasons=("feature store does not answer",), model=V1)
    verdict = judge(replace(with_all(silence_ms=90_000), active_answer=sick), LIMITS)
    assert verdict.green
    assert any("feature store does not answer" in check.note for check in verdict.checks)


def test_a_standby_that_never_heard_from_the_dead_site_is_red() -> None:
    unheard = replace(with_all(lag_ms=None, silence_ms=None), active_answer=None)
    assert failed(unheard) == {"feature_lag"}


def test_what_could_not_be_asked_is_not_told_as_silence() -> None:
    unread = with_one(ready=False, problem="status 503", lag_ms=None, silence_ms=None)
    notes = {check.name: check.note for check in judge(unread, LIMITS).failed}
    assert notes["feature_lag"] == notes["feature_silence"] == "not every answer of gcp could be read"
    unheard = with_one(lag_ms=None, silence_ms=None)
    assert "no heartbeat of aws has arrived on gcp" in {check.note for check in judge(unheard, LIMITS).failed}


def test_a_lag_too_old_to_know_does_not_stop_a_failover_long_after_the_loss() -> None:
    assert failed(replace(with_all(lag_ms=None, silence_ms=3_600_000), active_answer=None)) == set()


answers = st.builds(
    Answer,
    ready=st.booleans(),
    reasons=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    instance=st.none() | st.sampled_from(["i-1", "i-2"]),
    model=st.none() | st.sampled_from([V1, V2]),
    lag_ms=st.none() | st.floats(0, 10_000),
    silence_ms=st.none() | st.floats(0, 100_000),
    problem=st.none() | st.just("ConnectError"),
)
facts = st.builds(
    Facts,
    target=st.just("gcp"),
    active=st.just("aws"),
    samples=st.lists(answers, max_size=6).map(tuple),
    active_answer=st.none() | answers,
)


@given(facts)
def test_green_always_means_warm_and_whole(given_facts: Facts) -> None:
    verdict = judge(given_facts, LIMITS)
    assert verdict.green == (not verdict.failed)
    if verdict.green:
        assert given_facts.samples
        assert all(each.ready and each.problem is None for each in given_facts.samples)
        assert len({each.model for each in given_facts.samples}) == 1
        assert given_facts.samples[0].model is not None


@given(facts)
def test_a_dead_serving_site_never_makes_the_gate_stricter(given_facts: Facts) -> None:
    alive = judge(given_facts, LIMITS)
    dead = judge(replace(given_facts, active_answer=None), LIMITS)
    assert {check.name for check in dead.failed} <= {check.name for check in alive.failed}


@given(facts, answers)
def test_one_more_bad_host_never_turns_red_to_green(given_facts: Facts, another: Answer) -> None:
    more = replace(given_facts, samples=(*given_facts.samples, another))
    if given_facts.samples and judge(more, LIMITS).green:
        assert judge(given_facts, LIMITS).green


@given(facts)
def test_every_check_says_value_and_limit(given_facts: Facts) -> None:
    for check in judge(given_facts, LIMITS).checks:
        assert check.name and check.value and check.limit
