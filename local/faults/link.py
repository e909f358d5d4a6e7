"""One proxied connection: two sockets, the bytes between them, and what a fault does to both.

Order is kept in every change of fault: bytes that wait out a delay go before bytes that came after the delay ended, and
bytes held by a hang go on when it ends.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import cast

from local.faults.state import Fault

# Sent in place of data: the other side has ended its half of the connection.
END = b""
# Bytes under way in one direction of a slow link. At 100 ms this still passes 160 MB/s.
DELAYED_BYTES_LIMIT = 16 << 20
# More than the default 64 KiB: a 64 MiB body then stalls its sender a few times instead of a thousand.
WRITE_BUFFER_BYTES = 1 << 20
CLOSE_WITH_RESET = struct.pack("ii", 1, 0)


class Side(asyncio.Protocol):
    """One socket of a link."""

    def __init__(self, link: "Link") -> None:
        self.link = link
        self.transport: asyncio.Transport | None = None
        self.ended = False  # it has sent its last byte
        self.passed_on = False  # and the other side was told so
        self._delayed: deque[tuple[float, bytes]] = deque()
        self._delayed_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reading = True
        self._writable = True

    @property
    def peer(self) -> "Side":
        """The other socket of the link."""
        return self.link.upstream if self is self.link.client else self.link.client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket into the link."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.link.side_ready(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, at once or after the fault's delay."""
        delay = self.link.fault.delay_seconds
        peer = self.peer.transport
        if delay or self._delayed or self.link.fault.frozen or peer is None:
            self._delay(data, delay)
        else:
            peer.write(data)

    def eof_received(self) -> bool:
        """Pass the end of one direction on; the other direction stays open."""
        self.ended = True
        self._delay(END, self.link.fault.delay_seconds)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """End the link. A peer that still has bytes to send gets them sent, unless the loss was an error."""
        self.transport = None
        self.link.side_lost(self, abrupt=error is not None)

    def pause_writing(self) -> None:
        """Stop reading at the peer: this socket takes no more."""
        self._writable = False
        self.peer.steer_reading()

    def resume_writing(self) -> None:
        """Read at the peer again."""
        self._writable = True
        self.peer.steer_reading()

    def steer_reading(self) -> None:
        """Read exactly when what is read can go somewhere."""
        if self.transport is None or self.ended:
            return
        reading = (
            not self.link.fault.frozen
            and self.peer.transport is not None
            and self.peer._writable
            and self._delayed_bytes < DELAYED_BYTES_LIMIT
        )
        if reading != self._reading:
            self._reading = reading
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

    def flush(self) -> None:
        """Send what has waited long enough, and set the timer for the rest. Nothing moves while frozen."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        peer = self.peer.transport
        if peer is None or self.link.fault.frozen:
            return
        loop = self.link.loop
        now = loop.time()
        # A delay that was taken away no longer holds back what it caught.
        immediately = not self.link.fault.delay_seconds
        while self._delayed and (immediately or self._delayed[0][0] <= now):
            _, data = self._delayed.popleft()
            self._delayed_bytes -= len(data)
            if data:
                peer.write(data)
            else:
                self._end_peer(peer)
        if self._delayed:
            self._timer = loop.call_at(self._delayed[0][0], self.flush)
        self.steer_reading()

    def discard(self) -> None:
        """Drop what waits, close the socket with a reset."""
        self._delayed.clear()
        if self._timer is not None:
            self._timer.cancel()
        transport, self.transport = self.transport, None
        if transport is not None:
            raw = transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_WITH_RESET)
            transport.abort()

    def close(self) -> None:
        """Close the socket after the bytes written to it."""
        if self.transport is not None:
            self.transport.close()

    def _delay(self, data: bytes, delay_seconds: float) -> None:
        due = self.link.loop.time() + delay_seconds
        self._delayed.append((max(due, self._delayed[-1][0]) if self._delayed else due, data))
        self._delayed_bytes += len(data)
        if self._timer is None:
            self.flush()
        self.steer_reading()

    def _end_peer(self, peer: asyncio.Transport) -> None:
        self.passed_on = True
        if self.peer.passed_on:
            self.link.close()
        elif peer.can_write_eof():
            peer.write_eof()


class Link:
    """A client's connection and the one made for it to the target."""

    def __init__(self, target_port: int, fault: Fault, on_end: Callable[["Link"], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.fault = fault
        self.client = Side(self)
        self.upstream = Side(self)
        self._target_port = target_port
        self._on_end = on_end
        self._connecting: asyncio.Task[None] | None = None
        self._over = False

    def set_fault(self, fault: Fault) -> None:
        """Bring the link under another fault: reset it, freeze it, or let it go on."""
        self.fault = fault
        if fault.cut:
            self.reset()
            return
        if not fault.frozen:
            self._connect()
        for side in (self.client, self.upstream):
            side.flush()
            side.steer_reading()

    def side_ready(self, side: Side) -> None:
        """Go on with a socket that is there now; called by its sides."""
        if self._over:
            side.discard()
            return
        if side is self.client:
            side.steer_reading()
            if not self.fault.frozen:
                self._connect()
            return
        for each in (self.client, self.upstream):
            each.flush()
            each.steer_reading()

    def side_lost(self, side: Side, *, abrupt: bool) -> None:
        """End the link when a socket of it is gone; called by its sides."""
        if abrupt:
            self.reset()
        else:
            side.peer.close()
            self._end()

    def close(self) -> None:
        """Close both sockets after the bytes written to them."""
        self.client.close()
        self.upstream.close()

    def reset(self) -> None:
        """Cut the link as a cable is cut, except that both ends learn of it."""
        if self._connecting is not None:
            self._connecting.cancel()
        self.client.discard()
        self.upstream.discard()
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._on_end(self)

    def _connect(self) -> None:
        if self._connecting is None and not self._over:
            self._connecting = self.loop.create_task(self._connect_upstream())

    async def _connect_upstream(self) -> None:
        try:
            await self.loop.create_connection(lambda: self.upstream, "127.0.0.1", self._target_port)
        except OSError:
            # Nothing listens behind the public port: the client sees a dead server, which it is.
            self.reset()
