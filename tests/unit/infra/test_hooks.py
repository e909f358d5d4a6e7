"""When the gate is asked: exactly when a site begins to serve."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.settings import Site
from infra.hooks import shift

POOLS = {"pool-a": Site.AWS, "pool-g": Site.GCP}


def inputs(first: str, steering: str = "off") -> dict[str, Any]:
    second = "pool-g" if first == "pool-a" else "pool-a"
    return {"defaultPools": [first, second], "steeringPolicy": steering, "fallbackPool": first}


@pytest.mark.parametrize(
    ("old", "new", "joining"),
    [
        (inputs("pool-a"), inputs("pool-g"), {Site.GCP}),
        (inputs("pool-g"), inputs("pool-a"), {Site.AWS}),
        (inputs("pool-a"), inputs("pool-a", "random"), {Site.GCP}),
        (inputs("pool-g"), inputs("pool-a", "random"), {Site.AWS}),
        (inputs("pool-a", "random"), inputs("pool-g"), set()),
        (inputs("pool-a"), {**inputs("pool-a"), "proxied": False}, set()),
    ],
)
def test_the_sites_that_begin_to_serve_are_gated(old: Any, new: Any, joining: set[Site]) -> None:
    assert shift(old, new, POOLS).joining == joining


@given(st.sampled_from(["pool-a", "pool-g"]), st.sampled_from(["off", "random"]))
def test_no_change_is_no_shift(first: str, steering: str) -> None:
    same = shift(inputs(first, steering), inputs(first, steering), POOLS)
    assert same.before == same.after and not same.joining
