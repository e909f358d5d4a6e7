"""A site's load balancer: one public name in front of the healthy instances of its fleets.

An Application Load Balancer and Google's external Application Load Balancer differ here only in the settings: when a
target becomes healthy, and what happens when none is. Locally plain HTTP is served, whatever the listener's protocol;
protocol and port are kept for the reports.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from local.clouds.fleet.errors import (
    ClientGoneError,
    UpstreamConnectError,
    UpstreamConnectTimeoutError,
    UpstreamError,
    UpstreamTimeoutError,
)
from local.clouds.fleet.health import Health, HealthRules, observe
from local.clouds.fleet.probe import Check, failure_of
from local.clouds.fleet.proxy import Inbound, ProxyServer, finishing
from local.clouds.fleet.upstream import ConnectionPool, Target, Timeouts

# Instances that come and go are noticed this fast.
TARGETS_REFRESH_SECONDS = 0.1


@dataclass(frozen=True)
class BalancerSettings:
    """How a load balancer treats its targets."""

    check: Check
    interval_seconds: float
    rules: HealthRules
    fail_open: bool
    """Send to all targets when none is healthy, instead of answering 503."""
    timeouts: Timeouts
    protocol: str
    port: int
    least_outstanding: bool = False
    """Send to the target that answers the fewest requests, instead of to each in turn."""


class SiteBalancer:
    """A reverse proxy that spreads requests over the healthy targets in turn."""

    def __init__(self, name: str, settings: BalancerSettings, targets: Callable[[], Sequence[Target]]) -> None:
        self.name = name
        self.settings = settings
        self._targets_now = targets
        self._targets: tuple[Target, ...] = ()
        self._eligible: tuple[Target, ...] = ()
        self._health: dict[Target, Health] = {}
        self._checking: dict[Target, asyncio.Task[None]] = {}
        self._turn = itertools.count()
        self._connections = ConnectionPool()
        self._in_flight: dict[int, int] = {}
        self._server = ProxyServer(self)
        self._following: asyncio.Task[None] | None = None
        self.requests: dict[int, int] = {}
        """Answers by status since the start."""

    @property
    def port(self) -> int:
        """The private port that it listens on."""
        return self._server.port

    async def start(self) -> int:
        """Listen, check, and return the private port."""
        self._following = asyncio.create_task(self._follow(), name=f"balancer {self.name}")
        return await self._server.start()

    async def stop(self) -> None:
        """Stop listening and checking."""
        tasks = [*self._checking.values(), *([self._following] if self._following else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.stop()
        self._connections.close()

    def use(self, settings: BalancerSettings) -> None:
        """Take new settings; health found with another check is forgotten."""
        if settings.check != self.settings.check or settings.rules != self.settings.rules:
            for task in self._checking.values():
                task.cancel()
            self._checking.clear()
            self._health.clear()
        self.settings = settings
        self._refresh()

    def in_flight(self, port: int) -> int:
        """Return how many requests a target is answering."""
        return self._in_flight.get(port, 0)

    def describe(self) -> dict[str, object]:
        """Return the state for people and reports."""
        return {
            "name": self.name,
            "protocol": self.settings.protocol,
            "port": self.settings.port,
            "targets": [
                {"id": t.name, "port": t.port, "health": h.state.value, "reason": h.reason}
                for t in self._targets
                if (h := self._health.get(t, Health()))
            ],
            "answers": {str(status): count for status, count in sorted(self.requests.items())},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Inbound(scope, receive, send)
        eligible = self._eligible
        if not eligible:
            await request.answer(503, f"{self.name}: no healthy target")
            self._count(503)
            return
        target = self._pick(eligible)
        self._in_flight[target.port] = self._in_flight.get(target.port, 0) + 1
        try:
            self._count(await self._pass_on(request, target))
        finally:
            self._in_flight[target.port] -= 1

    def _pick(self, eligible: tuple[Target, ...]) -> Target:
        turn = next(self._turn) % len(eligible)
        if not self.settings.least_outstanding:
            return eligible[turn]
        # The turn decides between equals, so that idle targets share the work.
        return min(eligible[turn:] + eligible[:turn], key=lambda target: self.in_flight(target.port))

    async def _pass_on(self, request: Inbound, target: Target) -> int:
        timeouts = self.settings.timeouts
        try:
            connection = await self._connections.connect(target, timeouts.connect)
        except UpstreamConnectError as error:
            status = 504 if isinstance(error, UpstreamConnectTimeoutError) else 502
            await request.answer(status, f"{self.name}: {error}")
            return status
        try:
            with finishing(request, self._connections, target, connection):
                head = await request.send_to(connection, request.forwarded(self.settings.port), timeouts)
                await request.relay(connection, head, (), timeouts)
                return head.status
        except ClientGoneError:
            return 499
        except UpstreamError as error:
            if request.answered:
                raise  # Half an answer is out: only a broken connection tells the client so.
            status = 504 if isinstance(error, UpstreamTimeoutError) else 502
            await request.answer(status, f"{self.name}: {target.name}: {error}")
            return status

    def _count(self, status: int) -> None:
        self.requests[status] = self.requests.get(status, 0) + 1

    async def _follow(self) -> None:
        while True:
            self._refresh()
            await asyncio.sleep(TARGETS_REFRESH_SECONDS)

    def _refresh(self) -> None:
        targets = tuple(self._targets_now())
        self._targets = targets
        for gone in self._checking.keys() - set(targets):
            self._checking.pop(gone).cancel()
            self._health.pop(gone, None)
        for new in set(targets) - self._checking.keys():
            self._checking[new] = asyncio.create_task(self._check(new), name=f"check {new.name}")
        healthy = tuple(target for target in targets if self._health.get(target, Health()).up)
        self._eligible = healthy or (targets if self.settings.fail_open else ())

    async def _check(self, target: Target) -> None:
        while True:
            settings = self.settings
            started = time.monotonic()
            failure = await failure_of(target, settings.check)
            self._health[target] = observe(
                self._health.get(target, Health()), failure, time.monotonic(), settings.rules
            )
            self._refresh()
            await asyncio.sleep(max(0.0, settings.interval_seconds - (time.monotonic() - started)))
