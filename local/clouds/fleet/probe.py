"""One health check over HTTP: a request on a connection of its own, and what of the answer counts as a pass."""

import asyncio
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from local.clouds.fleet.errors import FleetError, UpstreamError
from local.clouds.fleet.upstream import ConnectionPool, Target, UpstreamConnection

# A check reads at most this much of an answer to look for the expected text.
BODY_BYTES_LIMIT = 64 * 1024
REDIRECTS_LIMIT = 5


@dataclass(frozen=True)
class StatusCodes:
    """A set of HTTP status codes as ranges, both ends included."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> "StatusCodes":
        """Read `200`, `2xx`, `200-299` and lists of them with commas. Raises FleetError."""
        ranges = []
        for part in text.split(","):
            low, _, high = part.strip().lower().partition("-")
            try:
                ranges.append((int(low.replace("x", "0")), int((high or low).replace("x", "9"))))
            except ValueError:
                raise FleetError(
                    f"status codes {text!r} of a health check are not understood; write 200, 2xx, 200-299 or 200,202"
                ) from None
        return cls(tuple(ranges))

    def __contains__(self, status: int) -> bool:
        return any(low <= status <= high for low, high in self.ranges)

    def __str__(self) -> str:
        return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in self.ranges)


@dataclass(frozen=True)
class Check:
    """What to ask and what to expect."""

    path: str
    expected: StatusCodes
    timeout_seconds: float
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = field(default=())
    expected_body: str = ""
    follow_redirects: bool = False


async def failure_of(target: Target, check: Check) -> str | None:
    """Run one check. Returns None for a pass, else what went wrong in a few words."""
    try:
        async with asyncio.timeout(check.timeout_seconds):
            return await _failure_of(target, check)
    except TimeoutError:
        return f"no answer within {check.timeout_seconds:g} s"
    except UpstreamError as error:
        return str(error)


async def _failure_of(target: Target, check: Check) -> str | None:
    path = check.path
    for _ in range(REDIRECTS_LIMIT):
        status, location, body = await _ask(target, check, path)
        if check.follow_redirects and 300 <= status < 400 and location:
            # The endpoint is what is judged, so a redirect is followed on the endpoint, whatever host it names.
            moved = urlsplit(urljoin(f"http://endpoint{path}", location))
            path = moved.path + (f"?{moved.query}" if moved.query else "")
            continue
        if status not in check.expected:
            return f"status {status}, expected {check.expected}"
        if check.expected_body and check.expected_body.lower() not in body.decode(errors="replace").lower():
            return f"the answer lacks {check.expected_body!r}"
        return None
    return f"more than {REDIRECTS_LIMIT} redirects"


async def _ask(target: Target, check: Check, path: str) -> tuple[int, str, bytes]:
    connection = await ConnectionPool().connect(target, check.timeout_seconds)
    try:
        return await _exchange(connection, target, check, path)
    finally:
        connection.abort()


async def _exchange(connection: UpstreamConnection, target: Target, check: Check, path: str) -> tuple[int, str, bytes]:
    headers = {"host": target.name, "user-agent": "lifeboat-health-check", "connection": "close"}
    headers.update((name.lower(), value) for name, value in check.headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{check.method} {path} HTTP/1.1\r\n{lines}\r\n".encode()
    await connection.send(request, head_only=check.method == "HEAD")
    connection.request_sent()
    head = await connection.head(check.timeout_seconds)
    location = next((value.decode() for name, value in head.headers if name.lower() == b"location"), "")
    body, more = b"", bool(check.expected_body)
    while more and len(body) < BODY_BYTES_LIMIT:
        piece, more = await connection.read(check.timeout_seconds)
        body += piece
    return head.status, location, body
