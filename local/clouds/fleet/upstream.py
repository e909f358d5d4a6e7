"""HTTP/1.1 to upstream servers: kept-alive connections, streamed both ways, one exchange at a time on each.

Every user request of the local ground passes two proxies on two cores, so the client side is a protocol on a C parser
and not a general client library. It refuses what a proxy must not do by itself: nothing is sent twice.
"""

import asyncio
import select
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from httptools import HttpParserError, HttpResponseParser

from local.clouds.fleet.errors import (
    ClientGoneError,
    UpstreamConnectTimeoutError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamResetError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)

Headers = Sequence[tuple[bytes, bytes]]

# An upstream that sends faster than the client reads is paused when this much waits.
BODY_BYTES_LIMIT = 256 * 1024
# Servers close idle connections (uvicorn after 5 s by default); a connection this young has not met that limit, so a
# request is not sent into a closing one.
IDLE_SECONDS_LIMIT = 2.0
IDLE_CONNECTIONS_LIMIT = 128
HEAD_BYTES_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for an upstream, in seconds; `read` is the longest silence while an answer is due."""

    connect: float
    read: float


@dataclass(frozen=True)
class Target:
    """One upstream server as a proxy addresses it."""

    name: str
    port: int
    host: str = "127.0.0.1"


@dataclass
class ResponseHead:
    """Status and headers of an answer, in the order and case the upstream sent them."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream. `send`, then `head`, then `read` until it says that nothing follows."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser: HttpResponseParser | None = None
        self.idle_since = 0.0
        self._begin(head_only=False)

    def _begin(self, head_only: bool) -> None:
        self._response: ResponseHead | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._complete = False
        self._framed = False
        self._keep_alive = False
        self._head_only = head_only
        self._request_sent = False

    # transport side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the exchange under way, unless the end of the connection is the end of the body."""
        if self._response is not None and not self._framed and exc is None:
            self._complete = True
        self._fail(UpstreamResetError(f"the upstream closed the connection ({exc or 'end of stream'})"))

    def pause_writing(self) -> None:
        """Hold the sender of the request's body back."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let the sender of the request's body go on."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; bytes that are no HTTP, or that nobody asked for, end the connection."""
        if self._complete:
            self._unasked()
            return
        if self._parser is None:
            self._parser = HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(UpstreamResetError(f"the upstream sent no HTTP: {error}"))
            self.abort()
        self._wake()

    # parser side

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, within the bound on a head."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_LIMIT:
            self._fail(UpstreamResetError(f"the upstream's headers are over {HEAD_BYTES_LIMIT} bytes"))
            self.abort()
            return
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Publish the head, unless it is an interim answer (RFC 9110, 15.2)."""
        if self._complete or self._parser is None:
            self._unasked()
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._headers = []
            return
        self._response = ResponseHead(status, self._headers)
        # Asked here, because the parser has forgotten it once the message is complete.
        self._keep_alive = bool(self._parser.should_keep_alive())
        names = {name.lower() for name, _ in self._headers}
        self._framed = b"content-length" in names or b"transfer-encoding" in names or status in (204, 304)
        if self._head_only:
            self._complete = True

    def on_body(self, body: bytes) -> None:
        """Buffer a piece of the body and pause the upstream when the client is slower."""
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > BODY_BYTES_LIMIT and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self._response is not None:
            self._complete = True

    # exchange

    async def send(self, head: bytes, head_only: bool) -> None:
        """Start an exchange by sending a request's head; `head_only` says that the answer has no body (HEAD)."""
        self._begin(head_only)
        if self._transport is None or self._lost is not None:
            raise self._lost or UpstreamResetError("the upstream closed the idle connection")
        self._transport.write(head)

    async def send_body(self, chunk: bytes) -> None:
        """Send a piece of the request's body, held back while the upstream does not take it."""
        if self._transport is None or self._lost is not None:
            return  # The answer, or its absence, is what the reader of the head reports.
        self._transport.write(chunk)
        if not self._writable.is_set():
            await self._writable.wait()

    def request_sent(self) -> None:
        """Note that the whole request is out: only then can the connection be used again."""
        self._request_sent = True

    async def head(self, timeout_seconds: float) -> ResponseHead:
        """Wait for status and headers. Raises UpstreamTimeoutError, UpstreamResetError, ClientGoneError."""
        while self._response is None:
            if self._lost is not None:
                raise self._lost
            await self._wait(timeout_seconds)
        return self._response

    async def read(self, timeout_seconds: float) -> tuple[bytes, bool]:
        """Return what of the body has arrived and whether more follows, waiting for the first byte if need be."""
        while not self._chunks and not self._complete:
            if self._lost is not None:
                raise self._lost
            await self._wait(timeout_seconds)
        body = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
        return body, not self._complete

    def give_up(self, error: UpstreamError) -> None:
        """End the exchange from outside: the reader gets `error`, the upstream a closed connection."""
        self._fail(error)
        self.abort()

    def abort(self) -> None:
        """Close without waiting."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def alive(self) -> bool:
        """Whether the connection is open."""
        return self._lost is None and self._transport is not None and not self._transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether an idle connection is still open on the wire, also when the loop has not read its end yet.

        A site that is cut resets all its connections at once; without this look the next request would be sent into one
        of them and lost, although a new connection would have been refused and the request rescued.
        """
        if not self.alive or self._transport is None:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    @property
    def reusable(self) -> bool:
        """Whether another request may follow: both messages are whole and the upstream keeps the connection."""
        whole = self._complete and self._request_sent and self._framed and not self._head_only
        return self.alive and whole and self._keep_alive

    def _unasked(self) -> None:
        # Bytes after an answer would be taken for the next one's: answers would go to the wrong clients.
        self._fail(UpstreamResetError("the upstream sent more than one answer"))
        self.abort()

    def _fail(self, error: UpstreamError) -> None:
        if self._lost is None:
            self._lost = error
        self._writable.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, timeout_seconds: float) -> None:
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_seconds, self._expire, timeout_seconds)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _expire(self, timeout_seconds: float) -> None:
        self.give_up(UpstreamTimeoutError(f"the upstream did not answer within {timeout_seconds:g} s"))


class ConnectionPool:
    """Open connections by upstream, newest first out; idle ones are bounded in number and age."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS_LIMIT) -> None:
        self._idle_seconds = idle_seconds
        self._idle: dict[tuple[str, int], list[UpstreamConnection]] = {}

    async def connect(self, target: Target, timeout_seconds: float) -> UpstreamConnection:
        """Return a connection, kept or new. Raises one of the UpstreamConnectError kinds."""
        loop = asyncio.get_running_loop()
        idle = self._idle.get((target.host, target.port), [])
        while idle:
            connection = idle.pop()
            if loop.time() - connection.idle_since < self._idle_seconds and connection.quiet:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(timeout_seconds):
                _, connection = await loop.create_connection(UpstreamConnection, target.host, target.port)
        except TimeoutError as error:
            raise UpstreamConnectTimeoutError(
                f"{target.name} did not accept a connection within {timeout_seconds:g} s"
            ) from error
        except ConnectionRefusedError as error:
            raise UpstreamRefusedError(f"{target.name} refused the connection") from error
        except OSError as error:
            raise UpstreamUnreachableError(f"{target.name} cannot be reached: {error}") from error
        return connection

    def release(self, target: Target, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request if it can carry one, else close it."""
        idle = self._idle.setdefault((target.host, target.port), [])
        if not connection.reusable or len(idle) >= IDLE_CONNECTIONS_LIMIT:
            connection.abort()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        idle.append(connection)

    def close(self) -> None:
        """Close every idle connection."""
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()


def client_gone() -> ClientGoneError:
    """Return the error of an exchange whose client hung up."""
    return ClientGoneError("the client closed the connection before the answer was complete")
