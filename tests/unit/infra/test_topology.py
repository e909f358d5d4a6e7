"""Roles, sizes and order, for every config that is allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import Fleets, FleetSizes, Mode, Settings, Site
from infra.topology import Role, Steering, topology
from tests.program.recording import stack_settings

BASE = stack_settings("prod")
sizes = st.tuples(st.integers(1, 500), st.integers(1, 500)).map(
    lambda pair: FleetSizes(active=max(pair), standby=min(pair))
)


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    fleets = Fleets(aws=draw(sizes), gcp=draw(sizes))
    changes = {"active": draw(st.sampled_from(Site)), "mode": draw(st.sampled_from(Mode)), "fleets": fleets}
    return BASE.model_copy(update=changes)


@given(settings())
def test_every_site_has_a_role_a_size_and_a_place(given_settings: Settings) -> None:
    shape = topology(given_settings)
    assert set(shape.sites) == set(Site)
    assert set(shape.pool_order) == set(Site)
    assert shape.pool_order[0] is shape.active is given_settings.active
    for site, plan in shape.sites.items():
        wanted = given_settings.fleets.of(site)
        assert plan.fleet_size == (wanted.active if plan.role is Role.ACTIVE else wanted.standby)
        assert 1 <= plan.fleet_size <= plan.fleet_limit


@given(settings())
def test_weights_go_to_serving_sites_by_size_and_sum_to_one(given_settings: Settings) -> None:
    shape = topology(given_settings)
    assert sum(shape.weights.values()) == pytest.approx(1)
    assert {site for site, weight in shape.weights.items() if weight > 0} == shape.serving()
    assert all(0 <= weight <= 1 for weight in shape.weights.values())


@given(settings())
def test_one_site_serves_or_both(given_settings: Settings) -> None:
    shape = topology(given_settings)
    if given_settings.mode is Mode.ACTIVE_ACTIVE:
        assert shape.serving() == set(Site) and shape.steering is Steering.RANDOM
    else:
        assert shape.serving() == {given_settings.active} and shape.steering is Steering.OFF


@given(settings())
def test_a_flip_and_back_is_no_change(given_settings: Settings) -> None:
    flipped = given_settings.model_copy(update={"active": given_settings.active.peer})
    back = flipped.model_copy(update={"active": given_settings.active})
    assert topology(back) == topology(given_settings)
