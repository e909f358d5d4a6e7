"""Who serves, how large each fleet is and in which order the front door asks: config in, frozen description out.

Pure: it knows no cloud's SDK, so every rule about roles is tested by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from functions.settings import Site
from infra.settings import Mode, Settings


class Role(StrEnum):
    """What a site does now."""

    ACTIVE = "active"
    STANDBY = "standby"


class Steering(StrEnum):
    """How the front door picks a pool: OFF takes the first healthy one in order, RANDOM draws by weight."""

    OFF = "off"
    RANDOM = "random"


@dataclass(frozen=True)
class SitePlan:
    """One site's part: its role, its fleet's size, and the largest size that a role could ask for."""

    site: Site
    role: Role
    fleet_size: int
    fleet_limit: int


@dataclass(frozen=True)
class Topology:
    """The stack's shape. `pool_order` begins with the site that traffic goes to first."""

    active: Site
    mode: Mode
    sites: Mapping[Site, SitePlan]
    pool_order: tuple[Site, ...]
    steering: Steering
    weights: Mapping[Site, float]

    def serving(self) -> frozenset[Site]:
        """Return the sites that users' requests may reach while both are healthy."""
        return frozenset(site for site, plan in self.sites.items() if plan.role is Role.ACTIVE)


def topology(settings: Settings) -> Topology:
    """Work out the shape that a config asks for."""
    both = settings.mode is Mode.ACTIVE_ACTIVE
    plans = {}
    for site in Site:
        role = Role.ACTIVE if both or site is settings.active else Role.STANDBY
        sizes = settings.fleets.of(site)
        size = sizes.active if role is Role.ACTIVE else sizes.standby
        plans[site] = SitePlan(site, role, size, max(sizes.active, sizes.standby))
    total = sum(plan.fleet_size for plan in plans.values() if plan.role is Role.ACTIVE)
    weights = {site: plan.fleet_size / total if plan.role is Role.ACTIVE else 0.0 for site, plan in plans.items()}
    return Topology(
        active=settings.active,
        mode=settings.mode,
        sites=MappingProxyType(plans),
        pool_order=(settings.active, settings.active.peer),
        steering=Steering.RANDOM if both else Steering.OFF,
        weights=MappingProxyType(weights),
    )
