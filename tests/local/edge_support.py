"""Toy servers, a toy ground and a client for the tests of fleets, balancers and the front door."""

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop

from local.clouds.context import CloudContext
from local.clouds.fleet.proxy import ProxyServer
from local.clouds.fleet.upstream import ConnectionPool, Target
from local.ground.client import GroundClient
from local.names import Cloud
from local.state import ResourceStore
from local.supervisor import Supervisor

WAIT_SECONDS = 20.0
TOY = Path(__file__).with_name("edge_toy_service.py")
TOY_COMMAND = f"{sys.executable} {TOY}"


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on the loop that the clouds use, with a limit."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main, 90))


async def eventually(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A client with kept-alive connections; it sends what it is told and nothing else."""

    def __init__(self, port: int) -> None:
        self.target = Target("proxy", port)
        self.pool = ConnectionPool()

    async def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, seconds: float = 10.0, **headers: str
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "host: recommend.example"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        connection = await self.pool.connect(self.target, seconds)
        await connection.send("\r\n".join([*lines, "", ""]).encode(), head_only=method == "HEAD")
        if body is not None:
            await connection.send_body(body)
        connection.request_sent()
        head = await connection.head(seconds)
        received, more = b"", True
        while more:
            piece, more = await connection.read(seconds)
            received += piece
        self.pool.release(self.target, connection)
        return Answer(head.status, {k.decode().lower(): v.decode() for k, v in head.headers}, received)


@dataclass
class Toy:
    """A server in this process whose behaviour a test can change; it answers what it was asked as JSON."""

    name: str
    ready: bool = True
    delay: asyncio.Event | None = None
    asked: list[str] = field(default_factory=list)
    port: int = 0
    server: ProxyServer | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        path = scope["path"]
        self.asked.append(path)
        status = 200 if self.ready or path != "/ready" else 503
        if path.startswith("/status/"):
            status = int(path.removeprefix("/status/"))
        if self.delay is not None and path == "/slow":
            await self.delay.wait()
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        answer = json.dumps({"name": self.name, "path": path, "length": len(body), "headers": headers}).encode()
        if path == "/large":
            answer = b"x" * 3_000_000
        if status == 204:
            answer = b""
        sized = [] if path == "/chunked" else [(b"content-length", str(len(answer)).encode())]
        moved = [(b"location", b"/ready")] if status == 302 else []
        await send({"type": "http.response.start", "status": status, "headers": [*sized, *moved]})
        await send({"type": "http.response.body", "body": answer})

    async def start(self) -> "Toy":
        self.server = ProxyServer(self)
        self.port = await self.server.start()
        return self

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop()


@contextlib.asynccontextmanager
async def toys(*names: str) -> AsyncIterator[list[Toy]]:
    """Start toys and stop them."""
    started = [await Toy(name).start() for name in names]
    try:
        yield started
    finally:
        for toy in started:
            await toy.stop()


@contextlib.asynccontextmanager
async def raw_server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve bytes as a test says; yields the port."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ToyGround:
    """The parts of a ground that fleets and the front door use; public ports are the private ones."""

    def __init__(self) -> None:
        self.published: dict[str, int] = {}
        self.routes: dict[str, int] = {}

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}

    def route(self, name: str, cloud: Cloud, port: int) -> int:
        self.routes[name] = port
        return port

    def remove_route(self, name: str) -> None:
        self.routes.pop(name, None)

    def publish_name(self, hostname: str, port: int) -> None:
        self.published[hostname] = port

    def withdraw_name(self, hostname: str) -> None:
        self.published.pop(hostname, None)

    def names(self) -> dict[str, int]:
        return dict(self.published)


@contextlib.asynccontextmanager
async def cloud(folder: Path, which: Cloud) -> AsyncIterator[tuple[CloudContext, ToyGround]]:
    """Give a cloud process's surroundings; ends its children."""
    ground = ToyGround()
    async with Supervisor(folder / "logs") as supervisor:
        yield CloudContext(which, cast(GroundClient, ground), ResourceStore(folder), folder, supervisor), ground
