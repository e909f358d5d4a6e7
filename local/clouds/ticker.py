"""Runs what is scheduled when it is due: the part that the schedulers of both clouds have in common.

A tick that is due while the one before it still runs is left out, and so are ticks that passed while the cloud was away: what is
scheduled here looks at the present state and does not count its calls.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local.clouds.api import describe
from local.clouds.clock import Timetable

logger = logging.getLogger(__name__)

# A long wait is looked at anew so often: the machine may have slept meanwhile.
LOOK_SECONDS = 30.0


@dataclass
class _Scheduled:
    timetable: Timetable
    run: Callable[[], Awaitable[None]]
    task: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    runs: int = 0
    failures: int = 0
    next: datetime | None = None
    last_error: str = ""


class Ticker:
    """All schedules of one cloud process; belongs to the main thread's event loop."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._scheduled: dict[str, _Scheduled] = {}

    async def ensure(self, identity: str, timetable: Timetable, run: Callable[[], Awaitable[None]]) -> None:
        """Begin a schedule, or put another in its place."""
        await self.remove(identity)
        entry = _Scheduled(timetable, run)
        entry.task = asyncio.create_task(self._follow(identity, entry), name=f"schedule {identity}")
        self._scheduled[identity] = entry

    async def remove(self, identity: str) -> None:
        """End a schedule; one that is not there is no error."""
        entry = self._scheduled.pop(identity, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()
            await asyncio.gather(entry.task, return_exceptions=True)

    async def tick(self, identity: str) -> bool:
        """Run what is scheduled now, once what runs of it is done; returns whether it succeeded. Raises KeyError."""
        return await self._run(identity, self._scheduled[identity])

    async def stop(self) -> None:
        """End all schedules."""
        for identity in list(self._scheduled):
            await self.remove(identity)

    def statistics(self) -> dict[str, Any]:
        """Return what every schedule has done since this process started."""
        return {
            identity: {
                "runs": entry.runs,
                "failures": entry.failures,
                "next": entry.next.isoformat() if entry.next else None,
                "last_error": entry.last_error,
            }
            for identity, entry in self._scheduled.items()
        }

    async def _follow(self, identity: str, entry: _Scheduled) -> None:
        entry.next = entry.timetable.first(self._now())
        while True:
            while (wait := (entry.next - self._now()).total_seconds()) > 0:
                await asyncio.sleep(min(wait, LOOK_SECONDS))
            await self._run(identity, entry)
            while entry.next <= self._now():
                entry.next = entry.timetable.after(entry.next)

    async def _run(self, identity: str, entry: _Scheduled) -> bool:
        async with entry.lock:
            entry.runs += 1
            try:
                await entry.run()
            except Exception as error:  # noqa: BLE001 - one failed call must not end the schedule; the next one is its retry
                entry.failures += 1
                entry.last_error = describe(error)
                logger.warning("schedule %s: %s", identity, entry.last_error)
                return False
            return True


def tick_route(ticker: Ticker) -> BaseRoute:
    """Return the route that runs a schedule now, as a console's button does: POST /schedules/run with a part of its `id`."""

    async def run(request: Request) -> JSONResponse:
        wanted = str((await request.json()).get("id", ""))
        found = [identity for identity in ticker.statistics() if wanted in identity]
        if len(found) != 1:
            return JSONResponse({"error": f"{wanted!r} names {len(found)} schedules: {found}"}, status_code=404)
        succeeded = await ticker.tick(found[0])
        return JSONResponse(
            {
                "id": found[0],
                "succeeded": succeeded,
                "error": "" if succeeded else ticker.statistics()[found[0]]["last_error"],
            }
        )

    return Route("/schedules/run", run, methods=["POST"])
