"""Which errors towards an endpoint mean which status, and which of them are worth the one retry. Pure.

Numbers after developers.cloudflare.com: "Cloudflare 5xx errors", "Connection limits" and "Adaptive routing".
"""

from local.clouds.cloudflare.settings import Affinity, SessionFailover
from local.clouds.fleet.errors import (
    UpstreamConnectTimeoutError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from local.clouds.fleet.upstream import Timeouts

UNKNOWN_ERROR = 520
REFUSED = 521
CONNECT_TIMEOUT = 522
UNREACHABLE = 523
READ_TIMEOUT = 524
DISABLED = 530
# Not an answer of Cloudflare's: what the log shows for a client that hung up first.
CLIENT_GONE = 499

RETRIED = frozenset((REFUSED, CONNECT_TIMEOUT, UNREACHABLE, 525, 526))
# "Complete TCP Connection" and "Proxy Read Timeout" of the connection limits.
TIMEOUTS = Timeouts(connect=19.0, read=120.0)


def status_of(error: UpstreamError) -> int:
    """Return the status that a client sees for an error towards the endpoint."""
    if isinstance(error, UpstreamRefusedError):
        return REFUSED
    if isinstance(error, UpstreamConnectTimeoutError):
        return CONNECT_TIMEOUT
    if isinstance(error, UpstreamUnreachableError):
        return UNREACHABLE
    if isinstance(error, UpstreamTimeoutError):
        return READ_TIMEOUT
    return UNKNOWN_ERROR


def may_retry(status: int, pinned: bool, affinity: Affinity | None) -> bool:
    """Say whether a failed attempt is retried: a connection error, and no session that forbids to leave."""
    if status not in RETRIED:
        return False
    return not (pinned and affinity is not None and affinity.failover is SessionFailover.NONE)


def pins(pinned: bool, retried: bool, affinity: Affinity | None) -> bool:
    """Say whether the answer pins the client to the endpoint that gave it."""
    if affinity is None:
        return False
    if not pinned:
        return True
    return retried and affinity.failover is SessionFailover.STICKY
