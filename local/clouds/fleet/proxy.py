"""The core of every reverse proxy here: take a request in, send it to one upstream, stream the answer back.

Which upstream, whether another one is asked, and what is recorded are the callers' decisions (site balancer, front
door). A request body is read only after a connection to an upstream stands, so a caller may go on to another upstream
after an UpstreamConnectError whatever the body is, and never after any other error (RFC 9110, 9.2.2).
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from local.clouds.fleet.upstream import (
    ConnectionPool,
    Headers,
    ResponseHead,
    Target,
    Timeouts,
    UpstreamConnection,
    client_gone,
)

# Headers that belong to one connection and are not passed on (RFC 9110, 7.6.1), and Expect, which the server answers.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    )
)
# A client that hangs up is looked for only after this long: nearly all answers are there before, and the look costs a
# task per request.
HANG_UP_WATCH_SECONDS = 0.05
# Longer than the idle limit of the connections between two proxies, so that the server never closes first.
SERVER_KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 2


def passed_on(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers that travel to the next hop."""
    named: set[bytes] = set()
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    return [pair for pair in headers if (low := pair[0].lower()) not in HOP_BY_HOP and low not in named]


class Inbound:
    """One request from a client, which can be sent to upstreams and answered once."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        query: bytes = scope["query_string"]
        raw_path: bytes = scope["raw_path"]
        self._target = raw_path + b"?" + query if query else raw_path
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        client: tuple[str, int] | None = scope.get("client")
        self.client_host = client[0] if client else "unknown"
        self._chunked = self.header(b"transfer-encoding") is not None
        self._has_body = self._chunked or self.header(b"content-length") not in (None, b"0")
        self.answered = False
        """Whether the client has been sent the beginning of an answer."""
        self._watch: asyncio.Task[None] | None = None
        self._watch_timer: asyncio.TimerHandle | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, its name in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def forwarded(self, port: int) -> list[tuple[bytes, bytes]]:
        """Return the headers to pass on with X-Forwarded-For, -Proto and -Port extended or set."""
        earlier = self.header(b"x-forwarded-for")
        chain = self.client_host.encode()
        own = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-port")
        return [
            *(pair for pair in passed_on(self.headers) if pair[0] not in own),
            (b"x-forwarded-for", earlier + b", " + chain if earlier else chain),
            (b"x-forwarded-proto", self.header(b"x-forwarded-proto") or b"http"),
            (b"x-forwarded-port", self.header(b"x-forwarded-port") or str(port).encode()),
        ]

    async def send_to(self, connection: UpstreamConnection, headers: Headers, timeouts: Timeouts) -> ResponseHead:
        """Send the request over a connection and wait for the answer's head.

        Raises UpstreamTimeoutError, UpstreamResetError or ClientGoneError; the connection is closed then.
        """
        lines = [self.method.encode(), b" ", self._target, b" HTTP/1.1\r\n"]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        await connection.send(b"".join(lines), head_only=self.method == "HEAD")
        if await self._send_first_body(connection):
            self._watch_after(connection)
        else:
            # The rest of a long body is sent while the answer is awaited: an upstream may refuse it half-way.
            self._watch = asyncio.create_task(self._pump(connection))
        return await connection.head(timeouts.read)

    async def relay(
        self, connection: UpstreamConnection, head: ResponseHead, extra: Headers, timeouts: Timeouts
    ) -> None:
        """Stream an answer to the client. Raises UpstreamError when it breaks off.

        The head waits for the first piece of the body, so an answer that breaks off before it can still be replaced by
        an error (`answered` is False then); later the client only sees it break.
        """
        headers = passed_on(head.headers)
        if head.status == 204:
            # No body follows, whatever length a careless upstream announces (RFC 9110, 8.6).
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
        body, more = await connection.read(timeouts.read)
        self.answered = True
        await self._send({"type": "http.response.start", "status": head.status, "headers": [*headers, *extra]})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
        while more:
            body, more = await connection.read(timeouts.read)
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, status: int, text: str, extra: Headers = ()) -> None:
        """Answer from the proxy itself, in plain text."""
        body = f"{text}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *extra]})
        shown = b"" if self.method == "HEAD" else body
        await self._send({"type": "http.response.body", "body": shown, "more_body": False})

    def end(self) -> None:
        """Stop watching for the client to hang up."""
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    async def _send_first_body(self, connection: UpstreamConnection) -> bool:
        if not self._has_body:
            connection.request_sent()
            return True
        return not await self._send_piece(connection)

    async def _send_piece(self, connection: UpstreamConnection) -> bool:
        message = await self._receive()
        if message["type"] != "http.request":
            connection.give_up(client_gone())
            return False
        body = message.get("body", b"")
        more = bool(message.get("more_body", False))
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = piece if more else piece + b"0\r\n\r\n"
        if body:
            await connection.send_body(body)
        if not more:
            connection.request_sent()
        return more

    async def _pump(self, connection: UpstreamConnection) -> None:
        while await self._send_piece(connection):
            pass
        await self._until_gone(connection)

    def _watch_after(self, connection: UpstreamConnection) -> None:
        def start() -> None:
            self._watch = asyncio.create_task(self._until_gone(connection))

        self._watch_timer = asyncio.get_running_loop().call_later(HANG_UP_WATCH_SECONDS, start)

    async def _until_gone(self, connection: UpstreamConnection) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        connection.give_up(client_gone())


@contextlib.contextmanager
def finishing(
    request: Inbound, connections: ConnectionPool, target: Target, connection: UpstreamConnection
) -> Iterator[None]:
    """Give the connection back after an exchange that ended well, and close it after any other."""
    try:
        yield
    except BaseException:
        connection.abort()
        raise
    else:
        connections.release(target, connection)
    finally:
        request.end()


class ProxyServer:
    """An HTTP server on a loopback port of its own, for one proxy application."""

    def __init__(self, application: ASGIApp) -> None:
        config = uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=SERVER_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = _QuietServer(config)
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> int:
        """Listen on a free port and return it."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        ready = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self._serving
        return self.port

    async def stop(self) -> None:
        """Stop listening; requests under way get a short time to end."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving


class _QuietServer(uvicorn.Server):
    """A server inside a process that handles signals itself, and that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self.listening.set()
