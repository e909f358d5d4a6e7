"""One load balancer as a reverse proxy: its settings, the monitors' verdicts, one retry, and a record of each request."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from starlette.types import Receive, Scope, Send

from local.clouds.cloudflare import affinity, retry
from local.clouds.cloudflare.monitors import MonitorBoard
from local.clouds.cloudflare.settings import Balancer, Origin
from local.clouds.cloudflare.statistics import Outcome, Statistics, outcome_of
from local.clouds.cloudflare.steering import Choice, first_choice, pools_in_order, retry_choice
from local.clouds.fleet.errors import ClientGoneError, UpstreamConnectError, UpstreamError, UpstreamUnreachableError
from local.clouds.fleet.proxy import Inbound, ProxyServer, finishing
from local.clouds.fleet.upstream import ConnectionPool, Headers, Target, Timeouts, UpstreamConnection

# The real edge knows a client's region from where it connects; locally the client says it.
REGION_HEADER = b"cf-region"
PUBLIC_HTTP_PORT = 80


@dataclass
class Served:
    """How one request ended, filled in on its way."""

    choice: Choice | None = None
    status: int = retry.UNKNOWN_ERROR
    retried: bool = False
    whole: bool = False

    @property
    def outcome(self) -> Outcome:
        """Return the outcome; an answer that broke off has failed whatever its status said."""
        return outcome_of(self.status, self.retried) if self.whole else Outcome.FAILED


class FrontDoor:
    """Serves one load balancer's hostname. `use` replaces its settings for every request that comes after."""

    def __init__(
        self,
        balancer: Balancer,
        board: MonitorBoard,
        resolve: Callable[[Origin], Target | None],
        statistics: Statistics,
        random: Random,
        timeouts: Timeouts = retry.TIMEOUTS,
    ) -> None:
        self.balancer = balancer
        self._board = board
        self._resolve = resolve
        self._statistics = statistics
        self._random = random
        self._timeouts = timeouts
        self._connections = ConnectionPool()
        self._server = ProxyServer(self)

    @property
    def port(self) -> int:
        """The private port that it listens on."""
        return self._server.port

    async def start(self) -> int:
        """Listen and return the private port."""
        return await self._server.start()

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.stop()
        self._connections.close()

    def use(self, balancer: Balancer) -> None:
        """Take new settings at once; requests under way keep those they began with."""
        self.balancer = balancer

    def describe(self) -> dict[str, object]:
        """Return settings and health for people and reports; `order` names the pools that take traffic now."""
        balancer = self.balancer
        now = pools_in_order(balancer, self._board.is_up, None, Random(0))  # noqa: S311 - an order to show
        return {
            "name": balancer.name,
            "enabled": balancer.enabled,
            "steering": balancer.steering.value,
            "configured_order": [balancer.pools[pool].name for pool in balancer.default_pools],
            "order": [pool.name for pool in now],
            "fallback": balancer.pools[balancer.fallback_pool].name,
            "failover_across_pools": balancer.failover_across_pools,
            "pools": [self._board.describe(pool) for pool in balancer.pools.values()],
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and record it."""
        time_ms, started = time.time_ns() // 1_000_000, time.perf_counter()
        served = Served()
        balancer = self.balancer
        try:
            await self._serve(Inbound(scope, receive, send), balancer, served)
        finally:
            self._statistics.record(
                time_ms=time_ms,
                balancer=balancer.name,
                pool=served.choice.pool.name if served.choice else None,
                origin=served.choice.origin.name if served.choice else None,
                status=served.status,
                outcome=served.outcome,
                duration_ms=(time.perf_counter() - started) * 1000,
            )

    async def _serve(self, request: Inbound, balancer: Balancer, served: Served) -> None:
        if not balancer.enabled:
            await self._fail(request, served, retry.DISABLED, "the load balancer is disabled (1016)")
            return
        region = (request.header(REGION_HEADER) or b"").decode("latin-1") or None
        pinned = affinity.pinned_choice(balancer, _cookies(request), self._board.is_up)
        choice = pinned or first_choice(balancer, self._board.is_up, region, self._random)
        while choice is not None:
            served.choice = choice
            try:
                target, connection = await self._connect(choice)
            except UpstreamConnectError as error:
                status = retry.status_of(error)
                if served.retried or not retry.may_retry(status, pinned is not None, balancer.affinity):
                    await self._fail(request, served, status, str(error))
                    return
                served.retried = True
                # Another endpoint, or none: then the first error stands.
                choice = retry_choice(balancer, choice, self._board.is_up, region, self._random)
                if choice is None:
                    served.retried = False
                    await self._fail(request, served, status, str(error))
                continue
            await self._exchange(request, balancer, served, target, connection, pinned is not None)
            return
        if served.choice is None:
            await self._fail(request, served, retry.UNREACHABLE, "no pool has an enabled endpoint")

    async def _connect(self, choice: Choice) -> tuple[Target, UpstreamConnection]:
        target = self._resolve(choice.origin)
        if target is None:
            raise UpstreamUnreachableError(f"{choice.origin.address} has no address")
        return target, await self._connections.connect(target, self._timeouts.connect)

    async def _exchange(
        self,
        request: Inbound,
        balancer: Balancer,
        served: Served,
        target: Target,
        connection: UpstreamConnection,
        pinned: bool,
    ) -> None:
        assert served.choice is not None
        extra: Headers = ()
        if balancer.affinity is not None and retry.pins(pinned, served.retried, balancer.affinity):
            extra = (affinity.set_cookie(served.choice, balancer.affinity.ttl_seconds),)
        try:
            with finishing(request, self._connections, target, connection):
                head = await request.send_to(connection, _headers(request, served.choice.origin), self._timeouts)
                served.status = head.status
                await request.relay(connection, head, extra, self._timeouts)
                served.whole = True
        except ClientGoneError:
            served.status = retry.CLIENT_GONE
        except UpstreamError as error:
            if request.answered:
                raise  # Half an answer is out: only a broken connection tells the client so.
            await self._fail(request, served, retry.status_of(error), str(error))

    async def _fail(self, request: Inbound, served: Served, status: int, why: str) -> None:
        served.status = status
        await request.answer(status, f"error {status}: {why}")


def _cookies(request: Inbound) -> str | None:
    cookies = [value.decode("latin-1") for name, value in request.headers if name == b"cookie"]
    return "; ".join(cookies) if cookies else None


def _headers(request: Inbound, origin: Origin) -> Headers:
    headers = [pair for pair in request.forwarded(PUBLIC_HTTP_PORT) if pair[0] != b"cf-connecting-ip"]
    if origin.host is not None:
        headers = [pair for pair in headers if pair[0] != b"host"]
        headers.append((b"host", origin.host.encode()))
    return [*headers, (b"cf-connecting-ip", request.client_host.encode())]
