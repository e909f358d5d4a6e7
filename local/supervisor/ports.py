"""Free loopback ports.

Ports are taken from below the range that the kernel gives to outgoing connections. A listener that is closed and opened
again on the same port (a cut cloud that comes back, a process that starts again) would otherwise find its port taken by
any client's connection, and a client that polls a closed port of that range can end up connected to itself.
"""

import errno
import random
import socket
from pathlib import Path

from local.errors import NoFreePortError

LOOPBACK = "127.0.0.1"
FIRST_PORT = 18_000
# Linux starts its outgoing range at 32768, macOS at 49152.
LAST_PORT = 32_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
ATTEMPTS = 500

# Ports handed out by this process: two calls in a row must differ although nobody listens yet.
_given: set[int] = set()
_random = random.SystemRandom()


def free_port() -> int:
    """Return a loopback port that nobody listens on and that this process has not given out before.

    Another process can still take it before its user listens: callers try once more with another port
    (Supervisor.start_on_free_port does). Raises NoFreePortError when every port tried is in use.
    """
    last = _last_port()
    for _ in range(ATTEMPTS):
        port = _random.randint(FIRST_PORT, last)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    _given.clear()
    raise NoFreePortError(FIRST_PORT, last)


def is_free(port: int) -> bool:
    """Say whether a listener could be opened on that loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _last_port() -> int:
    try:
        outgoing_first = int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return LAST_PORT
    return min(LAST_PORT, outgoing_first - 1) if outgoing_first > FIRST_PORT + ATTEMPTS else LAST_PORT
