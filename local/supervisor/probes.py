"""Probes: how to tell that a process does its work, asked of the process itself and never guessed from time passed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from local.supervisor.ports import LOOPBACK


class Probe(Protocol):
    """A question that a ready process answers with yes. `str()` of it appears in errors."""

    async def ready(self) -> bool:
        """Ask once. A process that is not there yet is a no, not an error."""
        ...


@dataclass(frozen=True)
class TcpProbe:
    """Ready when the port takes a connection."""

    port: int
    host: str = LOOPBACK

    async def ready(self) -> bool:
        """Connect once."""
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.transport.abort()
        return True

    def __str__(self) -> str:
        return f"waiting for a connection to {self.host}:{self.port}"


@dataclass(frozen=True)
class HttpProbe:
    """Ready when a GET of the URL answers with one of the status codes."""

    url: str
    status: frozenset[int] = frozenset({200})

    async def ready(self) -> bool:
        """Ask once."""
        return await http_status(self.url) in self.status

    def __str__(self) -> str:
        return f"waiting for GET {self.url} to answer {' or '.join(map(str, sorted(self.status)))}"


@dataclass(frozen=True)
class CallProbe:
    """Ready when the function returns true."""

    description: str
    function: Callable[[], Awaitable[bool]]

    async def ready(self) -> bool:
        """Call it once."""
        return await self.function()

    def __str__(self) -> str:
        return f"waiting for {self.description}"


async def http_status(url: str) -> int | None:
    """Return the status code of a plain-http GET, or None when no HTTP answer came.

    Written on a bare connection: a probe must not pull an HTTP client into every process that supervises one.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    except OSError:
        return None
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
    except OSError:
        return None
    finally:
        writer.transport.abort()
    words = line.split(maxsplit=2)
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else None
