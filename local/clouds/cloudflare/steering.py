"""Where a request goes: pools in order, endpoints in order, and the one retry. Pure; randomness is an argument.

After Cloudflare's documentation (developers.cloudflare.com/load-balancing): "Traffic steering", "Endpoint steering",
"Pools: fallback", "Adaptive routing".
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from local.clouds.cloudflare.settings import Balancer, Origin, Pool, Steering

T = TypeVar("T")

# Whether an endpoint of a pool is healthy by its monitor; never asked for pools without one.
IsUp = Callable[[Pool, Origin], bool]


@dataclass(frozen=True)
class Choice:
    """An endpoint to send to."""

    pool: Pool
    origin: Origin


def usable_origins(pool: Pool, is_up: IsUp) -> list[Origin]:
    """Return the endpoints that may get traffic: enabled and, where a monitor watches the pool, healthy."""
    return [o for o in pool.origins if o.enabled and (pool.monitor is None or is_up(pool, o))]


def pool_is_up(pool: Pool, is_up: IsUp) -> bool:
    """Say whether a pool takes traffic: enabled, and enough of its endpoints usable."""
    return pool.enabled and len(usable_origins(pool, is_up)) >= max(1, pool.minimum_origins)


def pools_in_order(balancer: Balancer, is_up: IsUp, region: str | None, random: Random) -> list[Pool]:
    """Return the pools that are up, in the order in which they are tried; empty when only the fallback is left."""
    ids = balancer.default_pools
    if balancer.steering is Steering.GEO and region is not None and region in balancer.region_pools:
        ids = balancer.region_pools[region]
    up = [pool for pool in (balancer.pools[identity] for identity in ids) if pool_is_up(pool, is_up)]
    if balancer.steering is not Steering.RANDOM:
        return up
    return weighted_order(up, [balancer.pool_weights.get(p.id, balancer.default_weight) for p in up], random)


def weighted_order(items: Sequence[T], weights: Sequence[float], random: Random) -> list[T]:
    """Return the items in a random order where each next one is drawn by weight; weight 0 means never."""
    left = [(item, weight) for item, weight in zip(items, weights, strict=True) if weight > 0]
    order = []
    while left:
        index = random.choices(range(len(left)), [weight for _, weight in left])[0] if len(left) > 1 else 0
        order.append(left.pop(index)[0])
    return order


def origins_in_order(pool: Pool, is_up: IsUp, random: Random) -> list[Origin]:
    """Return a pool's usable endpoints in the order in which they are tried."""
    usable = usable_origins(pool, is_up)
    return weighted_order(usable, [origin.weight for origin in usable], random)


def first_choice(balancer: Balancer, is_up: IsUp, region: str | None, random: Random) -> Choice | None:
    """Return where a request without a session goes; None when not even the fallback pool has an endpoint."""
    for pool in pools_in_order(balancer, is_up, region, random):
        for origin in origins_in_order(pool, is_up, random):
            return Choice(pool, origin)
    fallback = balancer.pools[balancer.fallback_pool]
    # The fallback pool takes what is left, healthy or not.
    for origin in origins_in_order(fallback, is_up, random) or origins_in_order(fallback, _assumed_up, random):
        return Choice(fallback, origin)
    return None


def retry_choice(balancer: Balancer, tried: Choice, is_up: IsUp, region: str | None, random: Random) -> Choice | None:
    """Return where the one retry goes: another healthy endpoint of the pool, else of the next pool if that is on."""
    for choice in _alternatives(balancer, tried.pool, is_up, region, random):
        if choice != tried:
            return choice
    return None


def _alternatives(balancer: Balancer, first: Pool, is_up: IsUp, region: str | None, random: Random) -> Iterator[Choice]:
    # A fallback pool that is not healthy has no healthy endpoints to offer, unless nothing watches it.
    for origin in origins_in_order(first, is_up, random):
        yield Choice(first, origin)
    if not balancer.failover_across_pools:
        return
    for pool in pools_in_order(balancer, is_up, region, random):
        if pool.id != first.id:
            for origin in origins_in_order(pool, is_up, random):
                yield Choice(pool, origin)


def _assumed_up(pool: Pool, origin: Origin) -> bool:
    return True
