"""All load balancers of the Cloudflare cloud: resources in, front doors and monitors out."""

import asyncio
import dataclasses
from random import SystemRandom

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local.clouds.cloudflare.front_door import FrontDoor
from local.clouds.cloudflare.monitors import MonitorBoard
from local.clouds.cloudflare.names import Names
from local.clouds.cloudflare.settings import BALANCER, Balancer, read_balancer
from local.clouds.cloudflare.statistics import Statistics
from local.clouds.context import CloudContext
from local.names import Cloud
from local.state import Resource

# One answer of the request log; a reader goes on from `next`.
REQUESTS_LIMIT = 20_000


class Edge:
    """Keeps a front door for every load balancer and one board of monitors for all pools in use."""

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._rows: dict[tuple[str, str], Resource] = {}
        self._names = Names(context.ground.names)
        self._board = MonitorBoard(self._names.resolve)
        self._doors: dict[str, FrontDoor] = {}
        self._hostnames: dict[str, str] = {}
        self._statistics = Statistics()
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Begin to follow the ground's names."""
        await self._names.start()

    async def stop(self) -> None:
        """Stop front doors and monitors; names and routes stay for the next start."""
        async with self._lock:
            await self._board.stop()
            await asyncio.gather(*(door.stop() for door in self._doors.values()))
            await self._names.stop()

    async def ensure(self, resource: Resource) -> None:
        """Take a new or changed balancer, pool or monitor; one that cannot be read leaves all as it was."""
        key = (resource.type, resource.id)
        async with self._lock:
            await self._bring_in_line({**self._rows, key: resource})

    async def remove(self, resource: Resource) -> None:
        """Forget a balancer, pool or monitor. Raises FrontDoorError while something still uses it."""
        async with self._lock:
            rows = {key: row for key, row in self._rows.items() if key != (resource.type, resource.id)}
            await self._bring_in_line(rows)

    async def _bring_in_line(self, rows: dict[tuple[str, str], Resource]) -> None:
        wanted = {
            row.id: read_balancer({**row.outputs, **row.inputs}, rows.values())
            for row in rows.values()
            if row.type == BALANCER
        }
        self._rows = rows
        # Monitors first: a request that meets new settings finds the health of new endpoints being asked for.
        self._board.use({pool.id: pool for balancer in wanted.values() for pool in balancer.pools.values()}.values())
        for identity in self._doors.keys() - wanted.keys():
            await self._close(identity)
        for identity, balancer in wanted.items():
            await self._open(identity, balancer)

    async def _open(self, identity: str, balancer: Balancer) -> None:
        door = self._doors.get(identity)
        if door is None:
            door = FrontDoor(balancer, self._board, self._names.resolve, self._statistics, SystemRandom())
            await door.start()
            self._doors[identity] = door
        else:
            door.use(balancer)
        if self._hostnames.get(identity) != balancer.name:
            await asyncio.to_thread(self._publish, identity, balancer.name, door.port)

    def _publish(self, identity: str, hostname: str, port: int) -> None:
        ground = self._context.ground
        ground.publish_name(hostname, ground.route(_route(identity), Cloud.CLOUDFLARE, port))
        if identity in self._hostnames:
            ground.withdraw_name(self._hostnames[identity])
        self._hostnames[identity] = hostname

    async def _close(self, identity: str) -> None:
        await asyncio.to_thread(self._withdraw, identity)
        await self._doors.pop(identity).stop()

    def _withdraw(self, identity: str) -> None:
        if identity in self._hostnames:
            self._context.ground.withdraw_name(self._hostnames.pop(identity))
        self._context.ground.remove_route(_route(identity))

    def routes(self) -> list[BaseRoute]:
        """Return the routes that show statistics, requests and state."""

        async def statistics(_: Request) -> JSONResponse:
            return JSONResponse(self._statistics.totals())

        async def requests(request: Request) -> JSONResponse:
            try:
                since = int(request.query_params.get("since", "0"))
                limit = int(request.query_params.get("limit", str(REQUESTS_LIMIT)))
            except ValueError:
                return JSONResponse({"error": "since and limit are whole numbers"}, status_code=422)
            return JSONResponse(self._statistics.since(since, max(0, min(limit, REQUESTS_LIMIT))))

        async def state(_: Request) -> JSONResponse:
            return JSONResponse(
                {
                    "balancers": [door.describe() for door in self._doors.values()],
                    "transitions": [dataclasses.asdict(transition) for transition in self._board.transitions],
                }
            )

        return [
            Route("/front-door/statistics", statistics),
            Route("/front-door/requests", requests),
            Route("/front-door/state", state),
        ]


def _route(identity: str) -> str:
    return f"cloudflare-front-door-{identity}"
