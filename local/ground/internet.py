"""The internet of the ground: an HTTP forward proxy whose DNS is the ground's table of published names.

Clients of public hostnames (the front door's users, monitors, checks after a failover) use it as their proxy and need no
change in the machine's resolver. It knows published names only, so nothing that passes it can reach the real internet.
One request a connection: the next one may go to another name, and a name may move between the two.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from local.faults.listener import listen_somewhere
from local.supervisor.ports import LOOPBACK

HEADER_BYTES_LIMIT = 64 << 10
HEADER_SECONDS = 30.0
COPY_BYTES = 256 << 10
# Hop-by-hop fields (RFC 9110 section 7.6.1) that a proxy may not pass on as they came.
HOP_FIELDS = (b"connection:", b"proxy-connection:", b"keep-alive:", b"proxy-authorization:")


@dataclass(frozen=True)
class ProxyAnswer:
    """An answer by the proxy itself."""

    status: str
    text: str

    def encode(self) -> bytes:
        """Return it as an HTTP/1.1 response."""
        body = self.text.encode() + b"\n"
        head = (
            f"HTTP/1.1 {self.status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True)
class ForwardRequest:
    """The head of a request to the proxy; `head` is what goes to the target, empty for CONNECT."""

    hostname: str
    head: bytes

    @classmethod
    def parse(cls, head: bytes) -> "ForwardRequest":
        """Read a request head with its empty line. Raises ValueError when it is not one for a proxy."""
        line, *fields = head[:-4].split(b"\r\n")
        method, target, version = line.split(b" ")
        if method == b"CONNECT":
            hostname, _, _ = target.decode("ascii").rpartition(":")
            return cls(_plain(hostname), b"")
        parts = urlsplit(target.decode("ascii"))
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"wanted an absolute http:// address or CONNECT, got {target.decode('ascii')}")
        origin = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        kept = [field for field in fields if not field.lower().startswith(HOP_FIELDS)]
        first = b" ".join((method, origin.encode(), version))
        return cls(_plain(parts.hostname), b"\r\n".join((first, *kept, b"Connection: close", b"", b"")))


def _plain(hostname: str) -> str:
    return hostname.lower().rstrip(".")


class Internet:
    """The proxy's listener and its table of names."""

    def __init__(self) -> None:
        self._names: Mapping[str, int] = {}
        self._server: asyncio.Server | None = None
        self._port = 0

    async def apply(self, names: Mapping[str, int], port: int, *, may_move: bool) -> int:
        """Take a table of names, listen on the port when not listening yet, and return the port."""
        self._names = {_plain(name): target for name, target in names.items()}
        if self._server is None:
            listener, taken = listen_somewhere(port, may_move=may_move)
            self._server = await asyncio.start_server(self._serve, sock=listener, limit=HEADER_BYTES_LIMIT)
            self._port = taken
        return self._port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEADER_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            refusal = await self._forward(ForwardRequest.parse(head), reader, writer)
        except (ValueError, asyncio.LimitOverrunError) as error:
            refusal = ProxyAnswer("400 Bad Request", f"not a request that this proxy takes: {error}")
        except (OSError, EOFError, TimeoutError):
            # The client left, or said nothing; there is nobody to answer.
            refusal = None
        if refusal is not None:
            writer.write(refusal.encode())
        writer.close()

    async def _forward(
        self, request: ForwardRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> ProxyAnswer | None:
        """Pass the request on and its answer back; return an answer of our own when that is impossible."""
        port = self._names.get(request.hostname)
        if port is None:
            known = ", ".join(sorted(self._names)) or "none"
            return ProxyAnswer(
                "502 Bad Gateway", f"no such name in the ground: {request.hostname} (published: {known})"
            )
        try:
            target_reader, target_writer = await asyncio.open_connection(LOOPBACK, port, limit=COPY_BYTES)
        except OSError as error:
            return ProxyAnswer("502 Bad Gateway", f"{request.hostname} refused the connection: {error.strerror}")
        if request.head:
            target_writer.write(request.head)
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        upload = asyncio.create_task(_copy(reader, target_writer))
        try:
            await _copy(target_reader, writer)
        finally:
            upload.cancel()
            await asyncio.wait({upload})
            target_writer.close()
        return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end; a broken connection is an end and closes the writer's side at once, so that it shows."""
    try:
        while data := await reader.read(COPY_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()
