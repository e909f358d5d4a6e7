"""What the demo asks the running ground: hosts of the fleets, what they measured, and the front door's view of the pools."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from functions.settings import Site
from local.ground.client import GroundClient
from operate.errors import LifeboatError
from operate.report.result import Quantiles, ServiceFigures

# How often a condition is looked at while it is waited for.
LOOK_SECONDS = 0.1
ASK_SECONDS = 5.0


class NotInTimeError(LifeboatError):
    """A condition did not come true in time; the message says which, and what was last seen."""


def wait_until(condition: Callable[[], tuple[bool, str]], limit_seconds: float, what: str) -> float:
    """Wait for a condition, which also tells what it saw; return the seconds it took. Raises NotInTimeError."""
    began = time.monotonic()
    while True:
        met, seen = condition()
        waited = time.monotonic() - began
        if met:
            return waited
        if waited > limit_seconds:
            raise NotInTimeError(
                f"{what}: not so after {limit_seconds:.0f} s, last seen: {seen}. The logs are in the ground's folder."
            )
        time.sleep(LOOK_SECONDS)


@dataclass(frozen=True)
class FleetState:
    """A site's fleet: hosts asked for by the program, hosts running, hosts that answer /ready, slowest boot."""

    asked: int
    running: int
    ready: int
    boot_ms: float | None


class Ground:
    """Questions to one running ground. Answers of a cloud that is away are None, not errors: that is what is shown."""

    def __init__(self, client: GroundClient) -> None:
        self.client = client
        self._apis = {Site.AWS: client.endpoints.aws_api, Site.GCP: client.endpoints.gcp_api}

    def fleet(self, site: Site) -> FleetState | None:
        """Return a site's fleet, None while its cloud does not answer."""
        fleets = _ask(f"{self._apis[site]}/fleets")
        if not fleets:
            return None
        instances = [each for fleet in fleets for each in fleet["instances"]]
        boots = [each["boot_ms"] for each in instances if each.get("boot_ms") is not None]
        return FleetState(
            asked=sum(fleet["asked"] for fleet in fleets),
            running=sum(fleet["running"] for fleet in fleets),
            ready=sum(bool(each["ready"]) for each in instances),
            boot_ms=max(boots, default=None),
        )

    def hosts(self, site: Site, path: str) -> list[dict[str, Any]]:
        """Return what each running host of a site answers to GET `path`, whatever its status code."""
        fleets = _ask(f"{self._apis[site]}/fleets") or []
        answers = (
            _ask(f"http://127.0.0.1:{instance['port']}{path}", any_status=True)
            for fleet in fleets
            for instance in fleet["instances"]
        )
        return [answer for answer in answers if answer]

    def all_serve(self, version: str, *sites: Site) -> tuple[bool, str]:
        """Say whether every running host of some sites, or both, is ready with this model version, and which are in line."""
        in_line = {}
        for site in sites or Site:
            fleet = self.fleet(site)
            served = {answer["model"]["version"] if answer["model"] else None for answer in self.hosts(site, "/ready")}
            in_line[site.value] = fleet is not None and fleet.ready == fleet.running > 0 and served == {version}
        return all(in_line.values()), f"in line: {in_line}"

    def pools(self) -> dict[str, bool]:
        """Return the front door's pools by name, and whether each is up."""
        state = _ask(f"{self.client.endpoints.cloudflare_api}/front-door/state") or {"balancers": []}
        return {pool["name"]: bool(pool["up"]) for door in state["balancers"] for pool in door["pools"]}

    def order(self) -> list[str]:
        """Return the names of the pools that take traffic now, first one first."""
        state = _ask(f"{self.client.endpoints.cloudflare_api}/front-door/state") or {"balancers": []}
        return [str(name) for door in state["balancers"] for name in door["order"]]

    def statistics(self) -> Mapping[str, Any]:
        """Return the front door's totals: sent, ok, rescued, failed."""
        totals = _ask(f"{self.client.endpoints.cloudflare_api}/front-door/statistics")
        return totals if isinstance(totals, dict) else {}

    def figures(self, site: Site) -> ServiceFigures | None:
        """Return what a site's hosts measured of themselves: the worst host's figures; None when no host answered yet."""
        performance = [answer["performance"] for answer in self.hosts(site, "/version")]
        fleet = self.fleet(site)
        timed = [each for each in performance if each["inference_ms"] and each["feature_read_ms"]]
        if not timed or fleet is None:
            return None

        def worst(name: str) -> Quantiles:
            return Quantiles(p50=max(each[name]["p50"] for each in timed), p99=max(each[name]["p99"] for each in timed))

        return ServiceFigures(
            site=site,
            inference_ms=worst("inference_ms"),
            feature_read_ms=worst("feature_read_ms"),
            model_load_seconds=max(each["model_load_seconds"] for each in timed),
            fleet_asked=fleet.asked,
            fleet_running=fleet.running,
        )


def _ask(url: str, *, any_status: bool = False) -> Any:
    try:
        response = httpx.get(url, timeout=ASK_SECONDS, trust_env=False)
    except httpx.HTTPError:
        return None
    return response.json() if any_status or response.is_success else None
