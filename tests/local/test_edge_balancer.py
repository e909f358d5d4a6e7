"""The proxy core and the site balancer, against toy servers."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator

from edge_support import Client, Toy, closed_port, eventually, raw_server, run, toys

from local.clouds.fleet.balancer import BalancerSettings, SiteBalancer
from local.clouds.fleet.errors import UpstreamResetError
from local.clouds.fleet.health import HealthRules
from local.clouds.fleet.probe import Check, StatusCodes
from local.clouds.fleet.upstream import Target, Timeouts

SETTINGS = BalancerSettings(
    check=Check("/ready", StatusCodes.parse("200"), 0.5),
    interval_seconds=0.05,
    rules=HealthRules(consecutive_up=2, consecutive_down=2, first_up=1),
    fail_open=False,
    timeouts=Timeouts(connect=1, read=0.5),
    protocol="HTTPS",
    port=443,
)


@contextlib.asynccontextmanager
async def balancing(
    targets: list[Target], settings: BalancerSettings = SETTINGS, healthy: int | None = None
) -> AsyncIterator[tuple[SiteBalancer, Client]]:
    balancer = SiteBalancer("lb", settings, lambda: targets)
    port = await balancer.start()
    try:
        if healthy is not None:
            await eventually(lambda: states(balancer)["up"] == healthy, f"{healthy} healthy targets")
        yield balancer, Client(port)
    finally:
        await balancer.stop()


def states(balancer: SiteBalancer) -> Counter[str]:
    return Counter(target["health"] for target in balancer.describe()["targets"])


def target(toy: Toy) -> Target:
    return Target(toy.name, toy.port)


def test_spreads_evenly_and_follows_health() -> None:
    async def main() -> None:
        async with toys("a", "b") as (a, b), balancing([target(a), target(b)], healthy=2) as (balancer, client):
            names = Counter([(await client.ask("/x")).json()["name"] for _ in range(20)])
            assert names == {"a": 10, "b": 10}
            b.ready = False
            await eventually(lambda: states(balancer)["down"] == 1, "b is down")
            assert {(await client.ask("/x")).json()["name"] for _ in range(10)} == {"a"}
            b.ready = True
            await eventually(lambda: states(balancer)["up"] == 2, "b is back")

    run(main())


def test_least_outstanding_leaves_a_busy_target_alone() -> None:
    async def main() -> None:
        settings = BalancerSettings(**vars(SETTINGS) | {"least_outstanding": True, "timeouts": Timeouts(1, 60)})
        async with (
            toys("a", "b") as (a, b),
            balancing([target(a), target(b)], settings, healthy=2) as (balancer, client),
        ):
            assert Counter([(await client.ask("/x")).json()["name"] for _ in range(20)]) == {"a": 10, "b": 10}
            a.delay = b.delay = asyncio.Event()
            slow = asyncio.create_task(Client(balancer.port).ask("/slow"))
            await eventually(lambda: balancer.in_flight(a.port) + balancer.in_flight(b.port) == 1, "in flight")
            free = b if balancer.in_flight(a.port) else a
            assert {(await client.ask("/x")).json()["name"] for _ in range(10)} == {free.name}
            a.delay.set()
            await slow

    run(main())


def test_none_healthy_is_503_or_all_where_it_fails_open() -> None:
    async def main() -> None:
        async with toys("a") as (a,):
            a.ready = False
            async with balancing([target(a)]) as (balancer, client):
                await eventually(lambda: states(balancer)["down"] == 1, "a is down")
                assert (await client.ask("/x")).status == 503
            async with balancing([target(a)], BalancerSettings(**vars(SETTINGS) | {"fail_open": True})) as (_, client):
                await eventually(lambda: len(a.asked) > 3, "checks ran")
                assert (await client.ask("/ready")).status == 503
                assert (await client.ask("/x")).json()["name"] == "a"
        async with balancing([]) as (_, client):
            assert (await client.ask("/x")).status == 503

    run(main())


def test_passes_requests_on_whole() -> None:
    async def main() -> None:
        async with toys("a") as (a,), balancing([target(a)], healthy=1) as (_, client):
            body = b"z" * 1_000_000
            answer = await client.ask(
                "/recommend?k=1", "POST", body, x_forwarded_for="9.9.9.9", connection="x-drop", x_drop="1"
            )
            heard = answer.json()
            assert (heard["length"], heard["headers"]["x-forwarded-for"]) == (len(body), "9.9.9.9, 127.0.0.1")
            assert heard["headers"]["host"] == "recommend.example"
            assert heard["headers"]["x-forwarded-port"] == "443"
            assert "x-drop" not in heard["headers"]
            assert len((await client.ask("/large")).body) == 3_000_000
            assert (await client.ask("/chunked")).json()["path"] == "/chunked"
            assert (await client.ask("/x", "HEAD")).body == b""
            assert (await client.ask("/status/204")).status == 204
            assert (await client.ask("/x", "POST", b"")).json()["length"] == 0

    run(main())


def test_chunked_request_bodies_arrive() -> None:
    async def main() -> None:
        async with toys("a") as (a,), balancing([target(a)], healthy=1) as (balancer, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
            writer.write(b"POST /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await writer.drain()
            writer.write(b"6\r\n world\r\n0\r\n\r\n")
            await writer.drain()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 200")
            assert b'"length": 11' in await asyncio.wait_for(reader.read(4096), 5)
            writer.close()

    run(main())


def test_upstream_faults_have_their_status() -> None:
    always = BalancerSettings(**vars(SETTINGS) | {"fail_open": True})

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0\r\n\r\n")
        writer.close()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async def head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with balancing([Target("gone", closed_port())], always) as (_, client):
            assert (await client.ask("/x")).status == 502
        for handler, status in ((close, 502), (silent, 504), (garbage, 502), (head, 502)):
            async with raw_server(handler) as port, balancing([Target("odd", port)], always) as (_, client):
                assert (await client.ask("/x")).status == status, handler.__name__
        async with raw_server(half) as port, balancing([Target("half", port)], always) as (_, client):
            try:
                await client.ask("/x")
            except UpstreamResetError:
                pass
            else:
                raise AssertionError("half an answer looked whole")

    run(main())


def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with raw_server(old) as port, balancing([Target("old", port)], healthy=1) as (_, client):
            assert (await client.ask("/x")).body == b"all of it"

    run(main())


def test_a_client_that_hangs_up_frees_the_upstream() -> None:
    async def main() -> None:
        async with toys("a") as (a,):
            a.delay = asyncio.Event()
            settings = BalancerSettings(**vars(SETTINGS) | {"timeouts": Timeouts(1, 60)})
            async with balancing([target(a)], settings, healthy=1) as (balancer, _):
                _, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
                writer.write(b"GET /slow HTTP/1.1\r\nhost: h\r\n\r\n")
                await eventually(lambda: balancer.in_flight(a.port) == 1, "in flight")
                writer.close()
                await eventually(lambda: balancer.in_flight(a.port) == 0, "given up")
                assert balancer.requests == {499: 1}
            a.delay.set()

    run(main())


def test_connections_to_a_target_are_kept() -> None:
    async def main() -> None:
        opened = 0

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            with contextlib.suppress(asyncio.IncompleteReadError):
                while await reader.readuntil(b"\r\n\r\n"):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            writer.close()

        rare = BalancerSettings(**vars(SETTINGS) | {"interval_seconds": 60})
        async with raw_server(count) as port, balancing([Target("t", port)], rare, healthy=1) as (_, client):
            for _ in range(20):
                assert (await client.ask("/x")).body == b"ok"
            assert opened == 2  # one for the check, one for all requests

    run(main())


def test_a_connection_that_was_reset_unseen_is_not_used_again() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    answered = threading.Event()

    def serve() -> None:
        for _ in range(2):
            connection, _address = listener.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            answered.wait(5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            answered.set()

    async def main() -> None:
        client = Client(listener.getsockname()[1])
        assert (await client.ask("/x")).status == 200
        answered.set()
        # The loop is held, as a busy one is: it has not read the reset when the next request comes.
        server.join(0.3)
        assert (await client.ask("/x")).status == 200

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    run(main())
    listener.close()
