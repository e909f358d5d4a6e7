"""The front door with toy sites: steering, health, rescue, affinity, and numbers that add up."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random
from typing import Any

from edge_support import Client, Toy, closed_port, eventually, raw_server, run, toys

from local.clouds.cloudflare.front_door import FrontDoor
from local.clouds.cloudflare.monitors import MonitorBoard
from local.clouds.cloudflare.settings import Affinity, Balancer, Monitor, Origin, Pool, SessionFailover, Steering
from local.clouds.cloudflare.statistics import Statistics
from local.clouds.fleet.errors import UpstreamError
from local.clouds.fleet.health import HealthRules
from local.clouds.fleet.probe import Check, StatusCodes
from local.clouds.fleet.upstream import Target, Timeouts

MONITOR = Monitor(
    "m", Check("/ready", StatusCodes.parse("2xx"), 0.2), interval_seconds=0.05, retries=0, rules=HealthRules(1, 2, 1)
)

SHORT = Timeouts(connect=1, read=1)


def pool(name: str, *origins: str, **changes: Any) -> Pool:
    return replace(Pool(name, name, tuple(Origin(o, o) for o in origins or (name,)), monitor=MONITOR), **changes)


def balancer(*pools: Pool, **changes: Any) -> Balancer:
    names = tuple(p.id for p in pools)
    return replace(Balancer("recommend.example", {p.id: p for p in pools}, names, names[-1]), **changes)


class Setting:
    """A front door with names that a test can move."""

    def __init__(self, settings: Balancer, ports: dict[str, int], timeouts: Timeouts) -> None:
        self.ports = ports
        self.statistics = Statistics()
        self.board = MonitorBoard(self.resolve)
        self.door = FrontDoor(settings, self.board, self.resolve, self.statistics, Random(3), timeouts)
        self.client = Client(0)

    def resolve(self, origin: Origin) -> Target | None:
        port = self.ports.get(origin.address)
        return None if port is None else Target(origin.address, port)

    def use(self, settings: Balancer) -> None:
        self.board.use(settings.pools.values())
        self.door.use(settings)

    def up(self) -> set[str]:
        return {o["name"] for p in self.door.describe()["pools"] for o in p["origins"] if o["health"] == "up"}

    def totals(self) -> dict[str, Any]:
        totals: dict[str, Any] = self.statistics.totals()
        assert totals["sent"] == totals["ok"] + totals["rescued"] + totals["failed"]
        return totals

    async def names(self, count: int, **headers: str) -> Counter[str]:
        return Counter([(await self.client.ask("/x", **headers)).json()["name"] for _ in range(count)])


@contextlib.asynccontextmanager
async def front_door(
    settings: Balancer, ports: dict[str, int], up: int | None = None, timeouts: Timeouts = SHORT
) -> AsyncIterator[Setting]:
    setting = Setting(settings, ports, timeouts)
    setting.client = Client(await setting.door.start())
    setting.use(settings)
    try:
        if up is not None:
            await eventually(lambda: len(setting.up()) == up, f"{up} endpoints up")
        yield setting
    finally:
        await setting.board.stop()
        await setting.door.stop()


def ports_of(*started: Toy) -> dict[str, int]:
    return {toy.name: toy.port for toy in started}


def test_order_and_its_change_apply_to_the_next_request() -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp):
            before = balancer(pool("aws"), pool("gcp"))
            async with front_door(before, ports_of(aws, gcp), up=2) as setting:
                assert await setting.names(10) == {"aws": 10}
                setting.use(replace(before, default_pools=("gcp", "aws")))
                assert await setting.names(10) == {"gcp": 10}
                assert setting.totals()["pools"].keys() == {"aws", "gcp"}

    run(main())


def test_monitor_moves_traffic_and_back() -> None:
    async def main() -> None:
        settings = balancer(pool("aws"), pool("gcp"))
        async with toys("aws", "gcp") as (aws, gcp):
            ports = ports_of(aws, gcp)
            async with front_door(settings, ports, up=2) as setting:
                aws.ready = False
                await eventually(lambda: setting.up() == {"gcp"}, "aws is down")
                assert await setting.names(5) == {"gcp": 5}
                aws.ready = True
                await eventually(lambda: setting.up() == {"aws", "gcp"}, "aws is back")
                assert await setting.names(5) == {"aws": 5}
                changes = [(t.pool, t.up) for t in setting.board.transitions if t.origin is None and t.pool == "aws"]
                assert changes[-2:] == [("aws", False), ("aws", True)]

    run(main())


def test_an_endpoint_without_a_result_is_down_and_the_fallback_serves() -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp):
            aws.ready = gcp.ready = False
            async with front_door(balancer(pool("aws"), pool("gcp")), ports_of(aws, gcp)) as setting:
                assert await setting.names(3) == {"gcp": 3}

    run(main())


def test_refused_connections_are_rescued_across_pools() -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp):
            slow_to_notice = replace(MONITOR, interval_seconds=60)
            settings = balancer(pool("aws", monitor=slow_to_notice), pool("gcp"), failover_across_pools=True)
            async with front_door(settings, ports_of(aws, gcp), up=2) as setting:
                assert await setting.names(2) == {"aws": 2}
                setting.ports["aws"] = closed_port()
                bodies = [await setting.client.ask("/x", "POST", b"y" * 200_000) for _ in range(5)]
                assert [(b.json()["name"], b.json()["length"]) for b in bodies] == [("gcp", 200_000)] * 5
                totals = setting.totals()
                assert (totals["ok"], totals["rescued"], totals["failed"]) == (2, 5, 0)
                assert totals["pools"]["gcp"] == {"sent": 5, "ok": 0, "rescued": 5, "failed": 0}
                setting.use(replace(settings, failover_across_pools=False))
                assert (await setting.client.ask("/x")).status == 521
                setting.ports.pop("aws")
                assert (await setting.client.ask("/x")).status == 523
                assert setting.totals()["failed"] == 2

    run(main())


def test_retry_happens_once_and_within_the_pool_first() -> None:
    async def main() -> None:
        async with toys("a2", "gcp") as (a2, gcp):
            blind = replace(pool("aws", "a1", "a2"), monitor=None)
            settings = balancer(blind, pool("gcp"), failover_across_pools=True)
            async with front_door(settings, {"a1": closed_port(), **ports_of(a2, gcp)}, up=1) as setting:
                assert await setting.names(20) == {"a2": 20}
                assert 0 < setting.totals()["rescued"] < 20
                setting.ports["a2"] = closed_port()
                assert {(await setting.client.ask("/x")).status for _ in range(5)} == {521}

    run(main())


def test_errors_of_the_origin_are_not_rescued() -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp):
            settings = balancer(pool("aws"), pool("gcp"), failover_across_pools=True)
            async with front_door(settings, ports_of(aws, gcp), up=2) as setting:
                assert [(await setting.client.ask(f"/status/{code}")).status for code in (500, 503, 404)] == [
                    500,
                    503,
                    404,
                ]
                totals = setting.totals()
                assert (totals["ok"], totals["rescued"], totals["failed"]) == (1, 0, 2)

    run(main())


def test_a_hanging_site_fails_its_requests_until_the_monitor_takes_it_out() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp), raw_server(hang) as hanging:
            settings = balancer(pool("aws"), pool("gcp"), failover_across_pools=True)
            async with front_door(settings, ports_of(aws, gcp), up=2) as setting:
                setting.ports["aws"] = hanging
                assert (await setting.client.ask("/x")).status == 524
                await eventually(lambda: setting.up() == {"gcp"}, "aws is down")
                assert await setting.names(5) == {"gcp": 5}
                assert setting.totals()["statuses"] == {"200": 5, "524": 1}

    run(main())


def test_a_client_that_hangs_up_is_counted() -> None:
    async def main() -> None:
        async with toys("aws") as (aws,):
            aws.delay = asyncio.Event()
            async with front_door(balancer(pool("aws")), ports_of(aws), up=1, timeouts=Timeouts(1, 60)) as setting:
                with contextlib.suppress(UpstreamError):
                    await setting.client.ask("/slow", seconds=0.2)
                await eventually(lambda: setting.totals()["statuses"] == {"499": 1}, "counted")
                assert setting.totals()["failed"] == 1
            aws.delay.set()

    run(main())


def test_random_and_geo_steering() -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp):
            settings = balancer(pool("aws"), pool("gcp"))
            weighted = replace(settings, steering=Steering.RANDOM, pool_weights={"aws": 0.8, "gcp": 0.2})
            async with front_door(weighted, ports_of(aws, gcp), up=2) as setting:
                assert 120 < (await setting.names(200))["aws"] < 190
                regions = {"WEU": ("gcp", "aws")}
                setting.use(replace(settings, steering=Steering.GEO, region_pools=regions))
                assert await setting.names(5, cf_region="WEU") == {"gcp": 5}
                assert await setting.names(5, cf_region="ENAM") == {"aws": 5}

    run(main())


def cookie_of(headers: dict[str, str]) -> str:
    return headers["set-cookie"].split(";")[0]


def test_affinity_and_what_happens_to_sessions_at_a_failure() -> None:
    async def main() -> None:
        async with toys("a", "b") as (a, b):
            late = replace(MONITOR, interval_seconds=60)
            for failover, expected in (("none", (521, False)), ("temporary", (200, False)), ("sticky", (200, True))):
                settings = balancer(
                    pool("site", "a", "b", monitor=late), affinity=Affinity(1800, SessionFailover(failover))
                )
                async with front_door(settings, ports_of(a, b), up=2) as setting:
                    first = await setting.client.ask("/x")
                    cookie = cookie_of(first.headers)
                    assert await setting.names(10, cookie=cookie) == {first.json()["name"]: 10}
                    assert "set-cookie" not in (await setting.client.ask("/x", cookie=cookie)).headers
                    setting.ports[first.json()["name"]] = closed_port()
                    failed = await setting.client.ask("/x", cookie=cookie)
                    assert (failed.status, "set-cookie" in failed.headers) == expected, failover
                    if failover == "sticky":
                        assert cookie_of(failed.headers) != cookie

    run(main())


def test_a_session_leaves_an_unhealthy_endpoint() -> None:
    async def main() -> None:
        async with toys("a", "b") as (a, b):
            settings = balancer(pool("site", "a", "b"), affinity=Affinity(1800, SessionFailover.NONE))
            async with front_door(settings, ports_of(a, b), up=2) as setting:
                first = await setting.client.ask("/x")
                pinned = a if first.json()["name"] == "a" else b
                pinned.ready = False
                await eventually(lambda: pinned.name not in setting.up(), "pinned endpoint is down")
                moved = await setting.client.ask("/x", cookie=cookie_of(first.headers))
                assert moved.json()["name"] != pinned.name and "set-cookie" in moved.headers

    run(main())


def test_disabled_balancer_host_header_and_client_address() -> None:
    async def main() -> None:
        async with toys("aws") as (aws,):
            site = replace(pool("aws"), origins=(Origin("aws", "aws", host="site.example"),))
            async with front_door(balancer(site), ports_of(aws), up=1) as setting:
                heard = (await setting.client.ask("/x", cf_connecting_ip="6.6.6.6")).json()["headers"]
                assert heard["host"] == "site.example" and heard["cf-connecting-ip"] == "127.0.0.1"
                setting.use(balancer(site, enabled=False))
                assert (await setting.client.ask("/x")).status == 530
                assert setting.totals()["pools"]["none"]["failed"] == 1

    run(main())


def test_monitor_follows_redirects_only_when_told() -> None:
    async def main() -> None:
        async with toys("aws") as (aws,):
            check = Check("/status/302", StatusCodes.parse("200"), 0.5)
            for follow in (False, True):
                monitor = replace(MONITOR, check=replace(check, follow_redirects=follow))
                async with front_door(balancer(pool("aws", monitor=monitor)), ports_of(aws)) as setting:
                    await eventually(
                        lambda: setting.door.describe()["pools"][0]["origins"][0]["health"] != "unknown", "judged"
                    )
                    assert (setting.up() == {"aws"}) is follow

    run(main())


def test_totals_add_up_under_load_and_failure() -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp):
            settings = balancer(pool("aws"), pool("gcp"), failover_across_pools=True)
            async with front_door(settings, ports_of(aws, gcp), up=2) as setting:
                outcomes: Counter[int] = Counter()

                async def worker() -> None:
                    client = Client(setting.door.port)
                    for _ in range(100):
                        outcomes[(await client.ask("/x", "POST", b"1")).status] += 1

                load = [asyncio.create_task(worker()) for _ in range(8)]
                await eventually(lambda: sum(outcomes.values()) > 200, "traffic")
                setting.ports["aws"] = closed_port()
                await asyncio.gather(*load)
                totals = setting.totals()
                assert totals["sent"] == 800 == sum(outcomes.values())
                assert outcomes == {200: 800} and totals["rescued"] > 0 and totals["failed"] == 0

    run(main())
