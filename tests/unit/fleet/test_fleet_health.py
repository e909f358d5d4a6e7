"""Runs of check results, and what they mean for an endpoint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.clouds.fleet.errors import FleetError
from local.clouds.fleet.health import Health, HealthRules, HealthState, observe
from local.clouds.fleet.probe import StatusCodes


def after(results: str, rules: HealthRules) -> Health:
    health = Health()
    for second, letter in enumerate(results, start=1):
        health = observe(health, None if letter == "+" else "refused", second, rules)
    return health


RULES = HealthRules(consecutive_up=3, consecutive_down=2, first_up=1)


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("", HealthState.UNKNOWN),
        ("+", HealthState.UP),
        ("-", HealthState.DOWN),
        ("-+", HealthState.UP),
        ("+-", HealthState.UP),
        ("+-+-", HealthState.UP),
        ("+--", HealthState.DOWN),
        ("+--++", HealthState.DOWN),
        ("+--++-++", HealthState.DOWN),
        ("+--+++", HealthState.UP),
    ],
)
def test_transitions(results: str, state: HealthState) -> None:
    assert after(results, RULES).state is state


def test_since_moves_only_with_the_state() -> None:
    assert after("+++", RULES).since_seconds == 1
    assert after("+++--", RULES).since_seconds == 5


@given(st.text("+-", max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_state_is_decided_by_the_last_run_that_was_long_enough(results: str, up: int, down: int) -> None:
    health = after(results, HealthRules(up, down, first_up=up))
    expected = HealthState.UNKNOWN
    for end in range(1, len(results) + 1):
        if results[:end].endswith("+" * up):
            expected = HealthState.UP
        elif results[:end].endswith("-" * down) or (expected is HealthState.UNKNOWN and results[end - 1] == "-"):
            expected = HealthState.DOWN
    assert health.state is expected


def test_status_codes() -> None:
    codes = StatusCodes.parse("200, 3xx,404-405")
    assert all(code in codes for code in (200, 300, 399, 404, 405))
    assert not any(code in codes for code in (201, 403, 500))
    with pytest.raises(FleetError, match="2yy"):
        StatusCodes.parse("2yy")
