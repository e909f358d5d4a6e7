"""One site's fleets and load balancers, kept as the program's resources describe them.

A load balancer is spread over several resources (balancer, listener, target group, group; or address, rule, proxy, map,
backend, health check), which arrive one by one. So each change re-reads all of them into a wish (`SiteWish`, made by
pure functions in aws.py and gcp.py) and brings the running things in line with it.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local.clouds.actor import Actor
from local.clouds.context import CloudContext
from local.clouds.fleet.balancer import BalancerSettings, SiteBalancer
from local.clouds.fleet.instances import Fleet, FleetSettings
from local.clouds.fleet.template import MachineTemplate
from local.clouds.fleet.upstream import Target
from local.state import Resource

Rows = Mapping[tuple[str, str], Resource]


@dataclass(frozen=True)
class FleetWish:
    """A group as the program describes it; `environment` is what its machines know from where they stand."""

    name: str
    asked: int
    template: MachineTemplate
    roll: bool
    environment: tuple[tuple[str, str], ...]
    new_id: Callable[[str | None], str]


@dataclass(frozen=True)
class BalancerWish:
    """A load balancer as the program describes it: its public names and the groups behind it."""

    name: str
    hostnames: tuple[str, ...]
    settings: BalancerSettings
    fleets: tuple[str, ...]


@dataclass(frozen=True)
class SiteWish:
    """All groups and load balancers of a site."""

    fleets: tuple[FleetWish, ...]
    balancers: tuple[BalancerWish, ...]


def properties(resource: Resource) -> dict[str, Any]:
    """Return what is known of a resource: outputs where there are some, inputs for the rest."""
    return {**resource.inputs, **{key: value for key, value in resource.outputs.items() if value is not None}}


def of_type(rows: Rows, token: str) -> list[Resource]:
    """Return the resources of a type in order of arrival."""
    return [resource for (kind, _), resource in rows.items() if kind == token]


class Site:
    """Fleets and load balancers of one cloud. `read` turns the cloud's resources into a wish."""

    def __init__(self, context: CloudContext, read: Callable[[Rows], SiteWish]) -> None:
        self._context = context
        self._read = read
        self._rows: dict[tuple[str, str], Resource] = {}
        self._fleets: dict[str, Fleet] = {}
        self._balancers: dict[str, SiteBalancer] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._wishes: dict[str, BalancerWish] = {}
        self._lock = asyncio.Lock()

    def actor(self) -> Actor:
        """Return the actor for every resource type that the wish is read from."""
        return _SiteActor(self)

    def routes(self) -> list[BaseRoute]:
        """Return the routes that show fleets and balancers."""

        async def fleets(_: Request) -> JSONResponse:
            return JSONResponse([fleet.describe() for fleet in self._fleets.values()])

        async def balancers(_: Request) -> JSONResponse:
            return JSONResponse(
                [
                    {**balancer.describe(), "hostnames": self._wishes[name].hostnames}
                    for name, balancer in self._balancers.items()
                ]
            )

        return [Route("/fleets", fleets), Route("/balancers", balancers)]

    async def put(self, resource: Resource) -> None:
        """Take a new or changed resource. A resource that cannot be read is refused and leaves all as it was."""
        key = (resource.type, resource.id)
        async with self._lock:
            wish = self._read({**self._rows, key: resource})
            self._rows[key] = resource
            await self._bring_in_line(wish)

    async def drop(self, resource: Resource) -> None:
        """Forget a resource and what existed because of it."""
        async with self._lock:
            if self._rows.pop((resource.type, resource.id), None) is not None:
                await self._bring_in_line(self._read(self._rows))

    async def stop(self) -> None:
        """Stop every balancer and instance; names and routes stay for the next start."""
        async with self._lock:
            await asyncio.gather(*(b.stop() for b in self._balancers.values()))
            await asyncio.gather(*(f.stop() for f in self._fleets.values()))

    async def _bring_in_line(self, wish: SiteWish) -> None:
        for wanted in wish.balancers:
            await self._use_balancer(wanted)
        for name in self._balancers.keys() - {wanted.name for wanted in wish.balancers}:
            await self._remove_balancer(name)
        for group in wish.fleets:
            self._use_fleet(group)
        for name in self._fleets.keys() - {group.name for group in wish.fleets}:
            await self._fleets.pop(name).stop()

    def _use_fleet(self, wish: FleetWish) -> None:
        environment = {**self._context.ground.environment(), **dict(wish.environment)}
        settings = FleetSettings(wish.asked, wish.template, wish.roll, environment)
        if wish.name in self._fleets:
            self._fleets[wish.name].use(settings)
            return
        folder = self._context.folder / "instances"
        fleet = Fleet(wish.name, settings, self._context.supervisor, folder, wish.new_id, self._in_flight)
        self._fleets[wish.name] = fleet
        fleet.start()

    async def _use_balancer(self, wish: BalancerWish) -> None:
        self._wishes[wish.name] = wish
        balancer = self._balancers.get(wish.name)
        if balancer is None:
            balancer = SiteBalancer(wish.name, wish.settings, functools.partial(self._targets, wish.name))
            await balancer.start()
            self._balancers[wish.name] = balancer
        elif balancer.settings != wish.settings:
            balancer.use(wish.settings)
        if self._names.get(wish.name) != wish.hostnames:
            await asyncio.to_thread(self._publish, wish, balancer.port)

    def _publish(self, wish: BalancerWish, port: int) -> None:
        ground = self._context.ground
        public = ground.route(self._route(wish.name), self._context.cloud, port)
        for hostname in wish.hostnames:
            ground.publish_name(hostname, public)
        for hostname in set(self._names.get(wish.name, ())) - set(wish.hostnames):
            ground.withdraw_name(hostname)
        self._names[wish.name] = wish.hostnames

    async def _remove_balancer(self, name: str) -> None:
        await asyncio.to_thread(self._withdraw, name)
        await self._balancers.pop(name).stop()
        del self._wishes[name]

    def _withdraw(self, name: str) -> None:
        for hostname in self._names.pop(name, ()):
            self._context.ground.withdraw_name(hostname)
        self._context.ground.remove_route(self._route(name))

    def _route(self, name: str) -> str:
        return f"{self._context.cloud.value}-balancer-{name}"

    def _targets(self, balancer: str) -> list[Target]:
        wish = self._wishes.get(balancer)
        names = wish.fleets if wish else ()
        return [target for name in names if name in self._fleets for target in self._fleets[name].targets()]

    def _in_flight(self, port: int) -> int:
        return sum(balancer.in_flight(port) for balancer in self._balancers.values())


class _SiteActor:
    """Every type's actor: the site decides from all its resources together."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def ensure(self, resource: Resource) -> None:
        """Take the resource; instances come up in the background, as they do in a group that is not waited for."""
        await self._site.put(resource)

    async def remove(self, resource: Resource) -> None:
        """Forget the resource."""
        await self._site.drop(resource)
