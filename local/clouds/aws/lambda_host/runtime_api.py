"""The Lambda runtime API for one process (docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).

Every process gets its own address: who asks for the next event is then known without trusting what it says, and a
process that was replaced cannot take an event of its successor.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httptools

NEXT = b"/2018-06-01/runtime/invocation/next"
INVOCATION = b"/2018-06-01/runtime/invocation/"
INIT_ERROR = b"/2018-06-01/runtime/init/error"
REASONS = {200: b"OK", 202: b"Accepted", 400: b"Bad Request", 404: b"Not Found"}


@dataclass(frozen=True)
class Answer:
    """What the process posted for one event."""

    payload: bytes
    failed: bool


class RuntimeApi:
    """Serves one runtime process.

    `on_next` is called when it asks for an event, `on_lost` when the connection that asked breaks, `on_init_error` when
    it cannot start.
    """

    def __init__(
        self, on_next: Callable[[], None], on_lost: Callable[[], None], on_init_error: Callable[[str], None]
    ) -> None:
        self._on_next = on_next
        self._on_lost = on_lost
        self._on_init_error = on_init_error
        self._server: asyncio.Server | None = None
        self._waiting: _Connection | None = None
        self._request_id: str | None = None
        self._answer: asyncio.Future[Answer] | None = None

    async def start(self) -> str:
        """Open a loopback port and return `host:port`, the form that the runtime's environment wants."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def stop(self) -> None:
        """Close the port; an open request ends with its connection."""
        if self._server is not None:
            self._server.close()
        if self._waiting is not None:
            self._waiting.close()

    def hand_over(self, request_id: str, payload: bytes, arn: str, deadline_ms: int) -> asyncio.Future[Answer]:
        """Give the waiting process an event and return the future of its answer. The process must be waiting."""
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        self._request_id = request_id
        self._answer = asyncio.get_running_loop().create_future()
        headers = (
            ("Lambda-Runtime-Aws-Request-Id", request_id),
            ("Lambda-Runtime-Deadline-Ms", str(deadline_ms)),
            ("Lambda-Runtime-Invoked-Function-Arn", arn),
            (
                "Lambda-Runtime-Trace-Id",
                f"Root=1-{deadline_ms // 1000:08x}-{request_id.replace('-', '')[:24]};Sampled=0",
            ),
        )
        waiting.respond(200, payload, headers)
        return self._answer

    def handle(self, connection: "_Connection", method: bytes, path: bytes, body: bytes) -> None:
        """Answer one request of the process."""
        if method == b"GET" and path == NEXT:
            self._waiting = connection
            self._on_next()
        elif method == b"POST" and path == INIT_ERROR:
            connection.respond(202, b'{"status":"OK"}')
            self._on_init_error(error_text(body))
        elif method == b"POST" and path.startswith(INVOCATION):
            self._posted(connection, path, body)
        else:
            connection.respond(404, b'{"errorType":"NotFound"}')

    def lost(self, connection: "_Connection") -> None:
        """Take note that a connection ended; one that waits for an event can no longer be given any."""
        if connection is self._waiting:
            self._waiting = None
            self._on_lost()

    def _posted(self, connection: "_Connection", path: bytes, body: bytes) -> None:
        request_id, _, kind = path[len(INVOCATION) :].partition(b"/")
        known = self._request_id is not None and request_id == self._request_id.encode()
        if not known or kind not in (b"response", b"error"):
            connection.respond(400, b'{"errorType":"InvalidRequestID"}')
            return
        connection.respond(202, b'{"status":"OK"}')
        self._request_id = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(body, failed=kind == b"error"))


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as little of it as the runtime interface client speaks."""

    def __init__(self, api: RuntimeApi) -> None:
        self._api = api
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = b""
        self._body = bytearray()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        # An answer and the next event are two small writes; Nagle's algorithm would hold the second for 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        self._api.lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_begin(self) -> None:
        self._path, self._body = b"", bytearray()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Large answers come after "Expect: 100-continue"; without the word the client waits a second for it.
        if name.lower() == b"expect" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._api.handle(self, self._parser.get_method(), self._path, bytes(self._body))

    def respond(self, status: int, body: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Write a whole JSON answer."""
        lines = [b"HTTP/1.1 %d %s" % (status, REASONS[status]), b"Content-Type: application/json"]
        lines += [f"{name}: {value}".encode() for name, value in headers]
        lines += [b"Content-Length: %d" % len(body), b"", b""]
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"\r\n".join(lines) + body)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


def error_text(body: bytes) -> str:
    """Return `Type: message` of an error that a runtime posted."""
    try:
        error = json.loads(body)
        return f"{error.get('errorType', 'Error')}: {error.get('errorMessage', '')}"
    except (ValueError, AttributeError):
        return body[:1000].decode(errors="replace")
