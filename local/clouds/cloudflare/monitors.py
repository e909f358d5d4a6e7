"""The monitors: every endpoint of a watched pool is checked at its interval, and the results decide its health.

One region is simulated, so an endpoint's health is what this region says; on the real edge a majority of data centers
and regions decides. An endpoint without a result yet counts as down (Cloudflare, "Health details").
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from local.clouds.cloudflare.settings import Monitor, Origin, Pool
from local.clouds.cloudflare.steering import pool_is_up
from local.clouds.fleet.health import Health, observe
from local.clouds.fleet.probe import failure_of
from local.clouds.fleet.upstream import Target

Resolve = Callable[[Origin], Target | None]
TRANSITIONS_LIMIT = 1000


@dataclass(frozen=True)
class EndpointKey:
    """An endpoint of a pool; one that moves to another address is another endpoint."""

    pool: str
    origin: str
    address: str


@dataclass(frozen=True)
class Transition:
    """A change of an endpoint's or a pool's health, for the timeline of a report."""

    time_ms: int
    pool: str
    origin: str | None
    up: bool
    reason: str


class MonitorBoard:
    """Runs the checks of all pools in use and holds their results."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._pools: dict[str, Pool] = {}
        self._health: dict[EndpointKey, Health] = {}
        self._tasks: dict[EndpointKey, tuple[Monitor, asyncio.Task[None]]] = {}
        self._pool_up: dict[str, tuple[bool, int]] = {}
        self.transitions: deque[Transition] = deque(maxlen=TRANSITIONS_LIMIT)

    def use(self, pools: Iterable[Pool]) -> None:
        """Watch these pools and no others; what is known of an unchanged endpoint stays."""
        self._pools = {pool.id: pool for pool in pools}
        wanted = {
            _key(pool, origin): (pool, origin, pool.monitor)
            for pool in self._pools.values()
            if pool.monitor is not None
            for origin in pool.origins
            if origin.enabled
        }
        for key in list(self._tasks):
            if key not in wanted or self._tasks[key][0] != wanted[key][2]:
                self._tasks.pop(key)[1].cancel()
        for key in self._health.keys() - wanted.keys():
            del self._health[key]
        for key, (pool, origin, monitor) in wanted.items():
            if key not in self._tasks:
                task = asyncio.create_task(self._watch(key, origin, monitor), name=f"monitor {pool.name}/{origin.name}")
                self._tasks[key] = (monitor, task)
        self._note_pools("settings changed")

    async def stop(self) -> None:
        """End all checks."""
        tasks = [task for _, task in self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def is_up(self, pool: Pool, origin: Origin) -> bool:
        """Say whether an endpoint is healthy by its monitor."""
        health = self._health.get(_key(pool, origin))
        return health is not None and health.up

    def describe(self, pool: Pool) -> dict[str, object]:
        """Return a pool's and its endpoints' health for people and reports; times in milliseconds since the epoch."""
        up, since_ms = self._pool_up.get(pool.id, (False, 0))
        return {
            "id": pool.id,
            "name": pool.name,
            "enabled": pool.enabled,
            "monitored": pool.monitor is not None,
            "up": up,
            "since_ms": since_ms,
            "origins": [self._describe_origin(pool, origin) for origin in pool.origins],
        }

    def _describe_origin(self, pool: Pool, origin: Origin) -> dict[str, object]:
        health = self._health.get(_key(pool, origin), Health())
        return {
            "name": origin.name,
            "address": origin.address,
            "enabled": origin.enabled,
            "weight": origin.weight,
            "health": health.state.value if pool.monitor is not None else "not monitored",
            "since_ms": round(health.since_seconds * 1000),
            "reason": health.reason,
        }

    async def _watch(self, key: EndpointKey, origin: Origin, monitor: Monitor) -> None:
        while True:
            started = time.monotonic()
            failure = await self._check(origin, monitor)
            before = self._health.get(key, Health())
            after = observe(before, failure, time.time(), monitor.rules)
            self._health[key] = after
            if after.state is not before.state:
                self._note(key.pool, key.origin, after.up, after.reason)
                self._note_pools(f"{key.origin}: {after.reason}")
            await asyncio.sleep(max(0.0, monitor.interval_seconds - (time.monotonic() - started)))

    async def _check(self, origin: Origin, monitor: Monitor) -> str | None:
        failure: str | None = None
        for _ in range(monitor.retries + 1):
            target = self._resolve(origin)
            failure = "no such name" if target is None else await failure_of(target, monitor.check)
            if failure is None:
                return None
        return failure

    def _note_pools(self, reason: str) -> None:
        for pool in self._pools.values():
            up = pool_is_up(pool, self.is_up)
            if self._pool_up.get(pool.id, (None, 0))[0] is not up:
                self._pool_up[pool.id] = (up, _now_ms())
                self._note(pool.id, None, up, reason)
        for gone in self._pool_up.keys() - self._pools.keys():
            del self._pool_up[gone]

    def _note(self, pool_id: str, origin: str | None, up: bool, reason: str) -> None:
        name = self._pools[pool_id].name if pool_id in self._pools else pool_id
        self.transitions.append(Transition(_now_ms(), name, origin, up, reason))


def _key(pool: Pool, origin: Origin) -> EndpointKey:
    return EndpointKey(pool.id, origin.name, origin.address)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
