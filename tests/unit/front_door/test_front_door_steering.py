"""Where the front door sends a request, and when it tries a second endpoint."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.clouds.cloudflare import affinity, retry
from local.clouds.cloudflare.settings import Affinity, Balancer, Monitor, Origin, Pool, SessionFailover, Steering
from local.clouds.cloudflare.steering import (
    Choice,
    first_choice,
    pool_is_up,
    pools_in_order,
    retry_choice,
    weighted_order,
)
from local.clouds.fleet.errors import (
    UpstreamConnectTimeoutError,
    UpstreamRefusedError,
    UpstreamResetError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from local.clouds.fleet.health import HealthRules
from local.clouds.fleet.probe import Check, StatusCodes

MONITOR = Monitor("m", Check("/ready", StatusCodes.parse("200"), 1), 10, 0, HealthRules(1, 1, 1))


def pool(name: str, origins: int = 1, **changes: object) -> Pool:
    made = tuple(Origin(f"{name}-{number}", f"{name}-{number}.example") for number in range(origins))
    return Pool(**{"id": f"id-{name}", "name": name, "origins": made, "monitor": MONITOR} | changes)  # type: ignore[arg-type]


def balancer(*pools: Pool, **changes: object) -> Balancer:
    settings = {
        "name": "recommend.example",
        "pools": {p.id: p for p in pools},
        "default_pools": tuple(p.id for p in pools),
        "fallback_pool": pools[-1].id,
    }
    return Balancer(**settings | changes)  # type: ignore[arg-type]


def up_except(*down: str):
    return lambda _pool, origin: origin.name not in down


A, B = pool("a", 2), pool("b", 2)


def test_off_takes_the_first_pool_that_is_up() -> None:
    assert first_choice(balancer(A, B), up_except(), None, Random(1)).pool is A
    assert first_choice(balancer(A, B), up_except("a-0", "a-1"), None, Random(1)).pool is B


def test_minimum_origins_takes_a_pool_out() -> None:
    strict = pool("a", 2, minimum_origins=2)
    assert pool_is_up(strict, up_except())
    assert not pool_is_up(strict, up_except("a-0"))


def test_disabled_pool_and_origin_get_nothing() -> None:
    off = pool("a", enabled=False)
    assert first_choice(balancer(off, B), up_except(), None, Random(1)).pool is B
    half = pool("a", origins=0) and Pool("id-a", "a", (Origin("x", "x", enabled=False), Origin("y", "y")))
    assert first_choice(balancer(half), up_except(), None, Random(1)).origin.name == "y"


def test_pool_without_monitor_ignores_health() -> None:
    blind = pool("a", monitor=None)
    assert first_choice(balancer(blind, B), up_except("a-0"), None, Random(1)).pool is blind


def test_fallback_pool_is_used_even_when_unhealthy() -> None:
    choice = first_choice(balancer(A, B), up_except("a-0", "a-1", "b-0", "b-1"), None, Random(1))
    assert choice is not None and choice.pool is B


def test_nothing_left_when_the_fallback_has_no_enabled_origin() -> None:
    empty = Pool("id-e", "e", (Origin("x", "x", enabled=False),))
    assert first_choice(balancer(empty), up_except(), None, Random(1)) is None


def test_random_follows_weights_by_pool_id() -> None:
    weights = {"id-a": 3.0, "id-b": 1.0}
    steered = balancer(A, B, steering=Steering.RANDOM, pool_weights=weights)
    random = Random(7)
    counts = Counter(first_choice(steered, up_except(), None, random).pool.name for _ in range(4000))
    assert 0.70 < counts["a"] / 4000 < 0.80


def test_geo_uses_the_regions_pools_and_the_default_for_others() -> None:
    steered = balancer(A, B, steering=Steering.GEO, region_pools={"WEU": ("id-b", "id-a")})
    assert first_choice(steered, up_except(), "WEU", Random(1)).pool is B
    assert first_choice(steered, up_except(), "ENAM", Random(1)).pool is A
    assert first_choice(steered, up_except(), None, Random(1)).pool is A


def test_retry_stays_in_the_pool_while_it_has_another_healthy_endpoint() -> None:
    tried = Choice(A, A.origins[0])
    assert retry_choice(balancer(A, B), tried, up_except(), None, Random(1)) == Choice(A, A.origins[1])


def test_retry_crosses_pools_only_when_that_is_on() -> None:
    tried = Choice(A, A.origins[0])
    down = up_except("a-1")
    assert retry_choice(balancer(A, B), tried, down, None, Random(1)) is None
    across = retry_choice(balancer(A, B, failover_across_pools=True), tried, down, None, Random(1))
    assert across is not None and across.pool is B


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5)), max_size=8), st.integers())
def test_weighted_order_is_a_permutation_of_what_has_weight(items: list[tuple[int, float]], seed: int) -> None:
    values, weights = [value for value, _ in items], [weight for _, weight in items]
    order = weighted_order(values, weights, Random(seed))
    assert sorted(order) == sorted(value for value, weight in items if weight > 0)


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2))),
    st.sampled_from(list(Steering)),
    st.booleans(),
    st.integers(),
)
def test_choices_are_healthy_unless_all_is_lost(
    sizes: list[int], down: set[tuple[int, int]], steering: Steering, across: bool, seed: int
) -> None:
    pools = [pool(str(number), size) for number, size in enumerate(sizes)]
    is_up = up_except(*(f"{p}-{o}" for p, o in down))
    steered = balancer(*pools, steering=steering, failover_across_pools=across)
    random = Random(seed)
    choice = first_choice(steered, is_up, None, random)
    assert choice is not None
    assert is_up(choice.pool, choice.origin) or not pools_in_order(steered, is_up, None, random)
    second = retry_choice(steered, choice, is_up, None, random)
    if second is not None:
        assert second != choice
        assert is_up(second.pool, second.origin)
        assert across or second.pool == choice.pool


def test_cookie_pins_while_healthy_and_enabled() -> None:
    sticky = balancer(A, B, affinity=Affinity(1800, SessionFailover.NONE))
    choice = Choice(B, B.origins[1])
    name, value = affinity.set_cookie(choice, 1800)
    cookie = value.decode().split(";")[0]
    assert name == b"set-cookie" and "Max-Age=1800" in value.decode()
    assert affinity.pinned_choice(sticky, f"other=1; {cookie}", up_except()) == choice
    assert affinity.pinned_choice(sticky, cookie, up_except("b-1")) is None
    assert affinity.pinned_choice(sticky, "__cflb=forged", up_except()) is None
    assert affinity.pinned_choice(balancer(A, B), cookie, up_except()) is None
    gone = balancer(A, pool("b", 2, enabled=False), affinity=Affinity(1800, SessionFailover.NONE))
    assert affinity.pinned_choice(gone, cookie, up_except()) is None


@pytest.mark.parametrize(
    ("error", "status", "retried"),
    [
        (UpstreamRefusedError(), 521, True),
        (UpstreamConnectTimeoutError(), 522, True),
        (UpstreamUnreachableError(), 523, True),
        (UpstreamTimeoutError(), 524, False),
        (UpstreamResetError(), 520, False),
    ],
)
def test_only_connection_errors_are_retried(error: Exception, status: int, retried: bool) -> None:
    assert retry.status_of(error) == status  # type: ignore[arg-type]
    assert retry.may_retry(status, pinned=False, affinity=None) is retried


def test_sessions_decide_about_the_retry_and_the_cookie() -> None:
    none, temporary, sticky = (Affinity(1800, kind) for kind in SessionFailover)
    assert not retry.may_retry(521, pinned=True, affinity=none)
    assert retry.may_retry(521, pinned=False, affinity=none)
    assert retry.may_retry(521, pinned=True, affinity=temporary)
    assert retry.pins(pinned=False, retried=False, affinity=none)
    assert not retry.pins(pinned=True, retried=True, affinity=temporary)
    assert retry.pins(pinned=True, retried=True, affinity=sticky)
    assert not retry.pins(pinned=True, retried=False, affinity=sticky)
    assert not retry.pins(pinned=False, retried=False, affinity=None)
