"""A load balancer as the program set it: frozen, complete, and read from the resources in one go.

What the front door does not simulate is refused here with a text for the user, never ignored: a stack that works on the
local ground for the wrong reason would fail on the real edge.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from local.clouds.cloudflare.errors import FrontDoorError
from local.clouds.fleet.errors import FleetError
from local.clouds.fleet.health import HealthRules
from local.clouds.fleet.probe import Check, StatusCodes
from local.state import Resource

BALANCER = "cloudflare:index/loadBalancer:LoadBalancer"
POOL = "cloudflare:index/loadBalancerPool:LoadBalancerPool"
MONITOR = "cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor"

# Defaults of the provider's own documentation.
INTERVAL_SECONDS = 60.0
TIMEOUT_SECONDS = 5.0
RETRIES = 2
COOKIE_SECONDS = 82_800
COOKIE_SECONDS_RANGE = (1800, 604_800)


class Steering(StrEnum):
    """How a pool is chosen."""

    OFF = "off"
    RANDOM = "random"
    GEO = "geo"


class SessionFailover(StrEnum):
    """What happens to a pinned session whose endpoint cannot be connected to."""

    NONE = "none"
    TEMPORARY = "temporary"
    STICKY = "sticky"


@dataclass(frozen=True)
class Origin:
    """One endpoint of a pool; `host` replaces the Host header when set."""

    name: str
    address: str
    enabled: bool = True
    weight: float = 1.0
    port: int = 0
    host: str | None = None


@dataclass(frozen=True)
class Monitor:
    """How the endpoints of a pool are checked; `retries` follow a failed check at once."""

    id: str
    check: Check
    interval_seconds: float
    retries: int
    rules: HealthRules


@dataclass(frozen=True)
class Pool:
    """Endpoints that are healthy or not as one, if at least `minimum_origins` of them are."""

    id: str
    name: str
    origins: tuple[Origin, ...]
    enabled: bool = True
    minimum_origins: int = 1
    monitor: Monitor | None = None


@dataclass(frozen=True)
class Affinity:
    """Session affinity by cookie."""

    ttl_seconds: int
    failover: SessionFailover


@dataclass(frozen=True)
class Balancer:
    """Everything that decides where a request goes."""

    name: str
    pools: Mapping[str, Pool]
    default_pools: tuple[str, ...]
    fallback_pool: str
    steering: Steering = Steering.OFF
    region_pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pool_weights: Mapping[str, float] = field(default_factory=dict)
    default_weight: float = 1.0
    enabled: bool = True
    affinity: Affinity | None = None
    failover_across_pools: bool = False


def read_balancer(balancer: Mapping[str, Any], rows: Iterable[Resource]) -> Balancer:
    """Read a load balancer with its pools and monitors. Raises FrontDoorError."""
    name = str(balancer["name"])
    known = list(rows)
    monitors = {row.id: _monitor(row.id, row.inputs) for row in known if row.type == MONITOR}
    every_pool = {row.id: _pool(row.id, row.inputs, monitors) for row in known if row.type == POOL}
    region_pools = {str(region): tuple(map(str, ids)) for region, ids in (balancer.get("regionPools") or {}).items()}
    default_pools = tuple(map(str, balancer.get("defaultPools") or ()))
    fallback_pool = str(balancer.get("fallbackPool"))
    used = {*default_pools, fallback_pool, *(pool for ids in region_pools.values() for pool in ids)}
    missing = sorted(used - every_pool.keys())
    if missing:
        raise FrontDoorError(f"load balancer {name} names pools that do not exist: {', '.join(missing)}")
    random = balancer.get("randomSteering") or {}
    return Balancer(
        name=name,
        pools={pool: every_pool[pool] for pool in used},
        default_pools=default_pools,
        fallback_pool=fallback_pool,
        steering=_steering(name, balancer, bool(region_pools)),
        region_pools=region_pools,
        pool_weights={str(pool): float(weight) for pool, weight in (random.get("poolWeights") or {}).items()},
        default_weight=_number(random, "defaultWeight", 1.0),
        enabled=bool(_or(balancer.get("enabled"), True)),
        affinity=_affinity(name, balancer),
        failover_across_pools=bool((balancer.get("adaptiveRouting") or {}).get("failoverAcrossPools")),
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _number(values: Mapping[str, Any], key: str, default: float) -> float:
    return float(_or(values.get(key), default))


def _steering(name: str, balancer: Mapping[str, Any], has_regions: bool) -> Steering:
    for unsupported in ("countryPools", "popPools", "rules"):
        if balancer.get(unsupported):
            raise FrontDoorError(f"load balancer {name}: the local front door does not simulate {unsupported}")
    policy = balancer.get("steeringPolicy") or (Steering.GEO if has_regions else Steering.OFF)
    try:
        return Steering(policy)
    except ValueError:
        raise FrontDoorError(
            f"load balancer {name}: steering policy {policy!r} is not simulated by the local front door;"
            f" use one of {', '.join(Steering)}"
        ) from None


def _affinity(name: str, balancer: Mapping[str, Any]) -> Affinity | None:
    kind = balancer.get("sessionAffinity") or "none"
    if kind == "none":
        return None
    if kind != "cookie":
        raise FrontDoorError(f"load balancer {name}: session affinity {kind!r} is not simulated; use none or cookie")
    ttl = int(_number(balancer, "sessionAffinityTtl", COOKIE_SECONDS))
    low, high = COOKIE_SECONDS_RANGE
    if not low <= ttl <= high:
        raise FrontDoorError(f"load balancer {name}: session_affinity_ttl {ttl} must be between {low} and {high}")
    attributes = balancer.get("sessionAffinityAttributes") or {}
    return Affinity(ttl, SessionFailover(attributes.get("zeroDowntimeFailover") or SessionFailover.NONE))


def _pool(identity: str, pool: Mapping[str, Any], monitors: Mapping[str, Monitor]) -> Pool:
    name = str(pool.get("name"))
    for unsupported in ("monitorGroup", "healthSources", "loadShedding"):
        if pool.get(unsupported):
            raise FrontDoorError(f"pool {name}: the local front door does not simulate {unsupported}")
    policy = (pool.get("originSteering") or {}).get("policy") or "random"
    if policy != "random":
        raise FrontDoorError(f"pool {name}: origin steering {policy!r} is not simulated; use random")
    monitor = pool.get("monitor")
    if monitor and monitor not in monitors:
        raise FrontDoorError(f"pool {name} names monitor {monitor}, which does not exist")
    return Pool(
        id=identity,
        name=name,
        origins=tuple(_origin(origin) for origin in pool.get("origins") or ()),
        enabled=bool(_or(pool.get("enabled"), True)),
        minimum_origins=int(_number(pool, "minimumOrigins", 1)),
        monitor=monitors[monitor] if monitor else None,
    )


def _origin(origin: Mapping[str, Any]) -> Origin:
    hosts = (origin.get("header") or {}).get("hosts") or []
    return Origin(
        name=str(origin.get("name")),
        address=str(origin.get("address")),
        enabled=bool(_or(origin.get("enabled"), True)),
        weight=_number(origin, "weight", 1.0),
        port=int(_number(origin, "port", 0)),
        host=str(hosts[0]) if hosts else None,
    )


def _monitor(identity: str, monitor: Mapping[str, Any]) -> Monitor:
    kind = str(monitor.get("type") or "http").lower()
    if kind not in ("http", "https"):
        raise FrontDoorError(f"monitor {identity}: type {kind!r} is not simulated; use http or https")
    try:
        codes = StatusCodes.parse(str(monitor.get("expectedCodes") or "200"))
    except FleetError as error:
        raise FrontDoorError(f"monitor {identity}: {error}") from error
    headers = (monitor.get("header") or {}).items()
    up = max(1, int(_number(monitor, "consecutiveUp", 1)))
    return Monitor(
        id=identity,
        check=Check(
            path=str(monitor.get("path") or "/"),
            expected=codes,
            timeout_seconds=_number(monitor, "timeout", TIMEOUT_SECONDS),
            method=str(monitor.get("method") or "GET").upper(),
            headers=tuple((str(name), str(value)) for name, values in headers for value in values),
            expected_body=str(monitor.get("expectedBody") or ""),
            follow_redirects=bool(monitor.get("followRedirects")),
        ),
        interval_seconds=_number(monitor, "interval", INTERVAL_SECONDS),
        retries=int(_number(monitor, "retries", RETRIES)),
        rules=HealthRules(up, max(1, int(_number(monitor, "consecutiveDown", 1))), first_up=up),
    )
