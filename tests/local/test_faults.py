"""The fault proxy's listeners and links against a small server: every mode, every change between modes, order and volume."""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from local.errors import FaultProxyError
from local.faults.listener import Listener
from local.faults.state import Fault, ProxyState, Route
from local.names import Cloud, FaultMode
from local.supervisor import free_port

NONE, HANG = Fault(), Fault(FaultMode.HANG)
CUTS = [Fault(FaultMode.KILL), Fault(FaultMode.BLACK_HOLE)]
QUIET_SECONDS = 0.15  # how long nothing must come for a connection to count as frozen

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and the end after the end."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxied(fault: Fault = NONE, handler: Callable[..., Awaitable[None]] = echo) -> AsyncIterator[Listener]:
    """Run a server behind a listener of the proxy."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    listener = Listener(Route("echo", Cloud.AWS, 0, target), fault, may_move=False)
    try:
        yield listener
    finally:
        listener.close()
        server.close()


def set_fault(listener: Listener, fault: Fault) -> None:
    listener.update(listener.route, fault)


async def connect(listener: Listener) -> Stream:
    return await asyncio.open_connection("127.0.0.1", listener.public_port)


async def say(stream: Stream, text: bytes) -> bytes:
    stream[1].write(text)
    async with asyncio.timeout(10):
        return await stream[0].readexactly(len(text))


async def silent(stream: Stream) -> bool:
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            await stream[0].read(1)
    except TimeoutError:
        return True
    return False


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())  # type: ignore[arg-type]


def test_bytes_pass_both_ways_and_the_end_too() -> None:
    async def scenario() -> None:
        async with proxied() as listener:
            stream = await connect(listener)
            assert await say(stream, b"hello") == b"hello"
            stream[1].write(b"last")
            stream[1].write_eof()
            assert await stream[0].read() == b"last"

    run(scenario)


@pytest.mark.parametrize("fault", [NONE, Fault(FaultMode.SLOW, 20)], ids=["none", "slow"])
def test_a_large_body_arrives_whole_and_in_order(fault: Fault) -> None:
    async def scenario() -> None:
        body = os.urandom(64 << 20)
        async with proxied(fault) as listener:
            reader, writer = await connect(listener)

            async def send() -> None:
                writer.write(body)
                await writer.drain()
                writer.write_eof()

            sending = asyncio.create_task(send())
            async with asyncio.timeout(60):
                received = hashlib.sha256()
                while data := await reader.read(1 << 20):
                    received.update(data)
                await sending
            assert received.digest() == hashlib.sha256(body).digest()

    run(scenario)


@pytest.mark.parametrize("fault", CUTS, ids=lambda fault: fault.mode.value)
def test_a_cut_resets_what_is_open_and_refuses_what_comes(fault: Fault) -> None:
    async def scenario() -> None:
        async with proxied() as listener:
            port, stream = listener.public_port, await connect(listener)
            assert await say(stream, b"x") == b"x"
            set_fault(listener, fault)
            with pytest.raises(ConnectionRefusedError):
                await connect(listener)
            with pytest.raises(ConnectionResetError):
                await stream[0].readexactly(1)
            set_fault(listener, NONE)
            assert listener.public_port == port
            assert await say(await connect(listener), b"again") == b"again"

    run(scenario)


def test_a_port_that_begins_cut_opens_later() -> None:
    async def scenario() -> None:
        async with proxied(CUTS[0]) as listener:
            with pytest.raises(ConnectionRefusedError):
                await connect(listener)
            set_fault(listener, NONE)
            assert await say(await connect(listener), b"x") == b"x"

    run(scenario)


def test_a_hang_freezes_what_is_open_accepts_what_comes_and_both_go_on() -> None:
    async def scenario() -> None:
        async with proxied() as listener:
            old = await connect(listener)
            assert await say(old, b"x") == b"x"
            set_fault(listener, HANG)
            new = await connect(listener)
            for stream in (old, new):
                stream[1].write(b"anyone?")
            assert await silent(old) and await silent(new)
            set_fault(listener, NONE)
            async with asyncio.timeout(10):
                assert await old[0].readexactly(7) == b"anyone?"
                assert await new[0].readexactly(7) == b"anyone?"

    run(scenario)


def test_an_answer_under_way_is_held_by_a_hang() -> None:
    asked = asyncio.Event()
    answer = asyncio.Event()

    async def slow_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        asked.set()
        await answer.wait()
        writer.write(b"answer")

    async def scenario() -> None:
        async with proxied(handler=slow_server) as listener:
            stream = await connect(listener)
            stream[1].write(b"?")
            await asked.wait()
            set_fault(listener, HANG)
            answer.set()
            assert await silent(stream)
            set_fault(listener, NONE)
            async with asyncio.timeout(10):
                assert await stream[0].readexactly(6) == b"answer"

    run(scenario)


def test_a_hang_that_becomes_a_cut_resets() -> None:
    async def scenario() -> None:
        async with proxied(HANG) as listener:
            stream = await connect(listener)
            assert await silent(stream)
            set_fault(listener, CUTS[1])
            with pytest.raises(ConnectionResetError):
                await stream[0].readexactly(1)

    run(scenario)


def test_slow_adds_its_latency_each_way_and_ends_at_once() -> None:
    async def scenario() -> None:
        async with proxied(Fault(FaultMode.SLOW, 100)) as listener:
            stream = await connect(listener)
            for _ in range(2):
                begun = time.monotonic()
                assert await say(stream, b"x") == b"x"
                assert time.monotonic() - begun >= 0.2
            # What is still held when the fault ends comes out in order, before what is sent after.
            set_fault(listener, Fault(FaultMode.SLOW, 60_000))
            stream[1].write(b"first ")
            assert await silent(stream)
            set_fault(listener, NONE)
            stream[1].write(b"second")
            assert await stream[0].readexactly(12) == b"first second"

    run(scenario)


def test_a_slow_answer_survives_the_end_of_its_server() -> None:
    async def one_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"all of it")
        writer.close()

    async def scenario() -> None:
        async with proxied(Fault(FaultMode.SLOW, 50), one_answer) as listener:
            reader, writer = await connect(listener)
            writer.write(b"?")
            writer.write_eof()
            async with asyncio.timeout(10):
                assert await reader.read() == b"all of it"

    run(scenario)


def test_a_dead_target_is_a_reset_and_not_a_hang() -> None:
    async def scenario() -> None:
        listener = Listener(Route("none", Cloud.AWS, 0, free_port()), NONE, may_move=False)
        stream = await connect(listener)
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                await stream[0].readexactly(1)
        listener.close()

    run(scenario)


def test_a_new_target_serves_new_connections() -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"other")

    async def scenario() -> None:
        second = await asyncio.start_server(other, "127.0.0.1", 0)
        async with proxied() as listener:
            old = await connect(listener)
            assert await say(old, b"x") == b"x"
            target = second.sockets[0].getsockname()[1]
            listener.update(Route("echo", Cloud.AWS, listener.public_port, target), NONE)
            new = await connect(listener)
            assert await new[0].readexactly(5) == b"other"
            assert await say(old, b"y") == b"y"
        second.close()

    run(scenario)


def test_a_taken_public_port_is_an_error_or_moves() -> None:
    async def scenario() -> None:
        other = await asyncio.start_server(echo, "127.0.0.1", free_port())
        taken = other.sockets[0].getsockname()[1]
        route = Route("r", Cloud.AWS, taken, 1)
        with pytest.raises(FaultProxyError, match=f"public port {taken} is taken"):
            Listener(route, NONE, may_move=False)
        moved = Listener(route, NONE, may_move=True)
        assert moved.public_port != taken
        moved.close()
        other.close()

    run(scenario)


def test_wanted_state_survives_its_encoding() -> None:
    state = ProxyState(
        routes=(Route("a", Cloud.GCP, 1, 2),),
        faults={Cloud.AWS: Fault(FaultMode.SLOW, 5)},
        names={"x.example": 3},
        internet_port=4,
        may_move=True,
    )
    assert ProxyState.decode(state.encode()) == state
