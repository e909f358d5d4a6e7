"""The listener of one public port, open or cut as its cloud's fault says."""

import asyncio
import errno
import socket

from local.errors import FaultProxyError
from local.faults.link import Link
from local.faults.state import Fault, Route
from local.supervisor.ports import ATTEMPTS, LOOPBACK, free_port

BACKLOG = 1024


class Listener:
    """A public port and the links that came through it.

    The socket is accepted from by hand, as an asyncio server closes its socket only some turns of the loop later, and a
    cut has to be in force when the request for it is answered.
    """

    def __init__(self, route: Route, fault: Fault, *, may_move: bool) -> None:
        self.route = route
        self.public_port = route.public_port
        self._fault = fault
        self._loop = asyncio.get_running_loop()
        self._links: set[Link] = set()
        self._socket: socket.socket | None = None
        self._accepting: set[asyncio.Task[None]] = set()
        # Also when cut: a taken port has to show now, not when the cut ends.
        self._open(may_move=may_move)
        if fault.cut:
            self._close()

    def update(self, route: Route, fault: Fault) -> None:
        """Bring target and fault in line; open links keep the target they have."""
        self.route = route
        if fault == self._fault:
            return
        self._fault = fault
        if fault.cut:
            self._close()
        elif self._socket is None:
            self._open(may_move=False)
        for link in list(self._links):
            link.set_fault(fault)

    def close(self) -> None:
        """Close the port and reset every link."""
        self._close()
        for link in list(self._links):
            link.reset()

    def _open(self, *, may_move: bool) -> None:
        self._socket, self.public_port = listen_somewhere(self.public_port, may_move=may_move)
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            assert self._socket is not None
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            connection.setblocking(False)
            link = Link(self.route.target_port, self._fault, self._links.discard)
            self._links.add(link)
            task = self._loop.create_task(self._attach(link, connection))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _attach(self, link: Link, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: link.client, connection)
        except OSError:
            # The client left between the accept and now.
            connection.close()
            link.reset()


def listen_somewhere(wanted: int, *, may_move: bool) -> tuple[socket.socket, int]:
    """Return a socket that listens on the wanted loopback port, and its port; 0 takes a free one.

    `may_move`: when the port is taken, a free one is taken instead. Else raises FaultProxyError.
    """
    port = wanted or free_port()
    for _ in range(ATTEMPTS):
        listener = _listen(port)
        if listener is not None:
            return listener, port
        if wanted and not may_move:
            raise FaultProxyError(f"public port {wanted} is taken by another program; stop that program")
        port = free_port()
    raise FaultProxyError(f"no free public port after {ATTEMPTS} tries; stop what holds them")


def _listen(port: int) -> socket.socket | None:
    """Return a listening socket; None when the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    listener.setblocking(False)
    return listener
