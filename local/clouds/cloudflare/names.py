"""The ground's internet as the front door sees it: which public port stands for a hostname or an address."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from local.clouds.cloudflare.settings import Origin
from local.clouds.fleet.upstream import Target
from local.errors import LocalError

logger = logging.getLogger(__name__)

# A name that appears or moves is known this much later at most, as with a very short time to live in the DNS.
REFRESH_SECONDS = 0.5


class Names:
    """A copy of the ground's names that is renewed in the background, so that no request waits for a look-up."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read
        self._ports: dict[str, int] = {}
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the names once if the ground answers, then follow them."""
        await self._refresh()
        self._following = asyncio.create_task(self._follow(), name="names")

    async def stop(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following

    def resolve(self, origin: Origin) -> Target | None:
        """Return where an endpoint's address leads; None for a name that nobody published.

        The endpoint's own port is not used: locally a name stands for exactly one port.
        """
        port = self._ports.get(origin.address)
        return None if port is None else Target(origin.address, port)

    async def _refresh(self) -> None:
        try:
            self._ports = dict(await asyncio.to_thread(self._read))
        except LocalError as error:
            # The ground answers late or is ending; the names known so far still hold.
            logger.warning("names were not renewed: %s", error)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh()
