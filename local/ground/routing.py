"""The ground's table of public ports and hostnames, kept in `routing.json` so that a ground that starts again is found
where it was: exported environments and noted ports stay good.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from local.faults.client import PublicPorts
from local.faults.state import Fault, ProxyState, Route
from local.names import Cloud

FILE_NAME = "routing.json"
# The ground's own routes; callers' names may not begin with it.
ENDPOINT_PREFIX = "endpoint:"
# No target yet, or not any more: whoever connects sees a dead server.
NO_TARGET = 0

ENDPOINTS = {
    "aws_api": Cloud.AWS,
    "aws": Cloud.AWS,
    "dynamodb": Cloud.AWS,
    "rds_data": Cloud.AWS,
    "postgres": Cloud.AWS,
    "gcp_api": Cloud.GCP,
    "storage": Cloud.GCP,
    "pubsub": Cloud.GCP,
    "bigtable": Cloud.GCP,
    "spanner": Cloud.GCP,
    "cloudflare_api": Cloud.CLOUDFLARE,
    "r2": Cloud.CLOUDFLARE,
}


class Routing:
    """Routes and names as they should be; the fault proxy is brought in line with `state`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._routes: dict[str, Route] = {}
        self._names: dict[str, int] = {}
        self._internet_port = 0
        if self._path.exists():
            # Targets are of processes that are gone; somebody else's server may have their ports by now.
            wanted = ProxyState.decode(json.loads(self._path.read_text()))
            self._routes = {route.name: replace(route, target_port=NO_TARGET) for route in wanted.routes}
            self._names, self._internet_port = dict(wanted.names), wanted.internet_port
        for endpoint, cloud in ENDPOINTS.items():
            self.set_route(ENDPOINT_PREFIX + endpoint, cloud, NO_TARGET)

    @property
    def names(self) -> Mapping[str, int]:
        """Published hostnames and the public ports they point at."""
        return self._names

    @property
    def internet_port(self) -> int:
        """Port of the ground's internet."""
        return self._internet_port

    def public_port(self, name: str) -> int:
        """Return a route's public port; 0 until the proxy has taken one."""
        return self._routes[name].public_port

    def endpoint_port(self, endpoint: str) -> int:
        """Return the public port of one of the ground's own endpoints."""
        return self.public_port(ENDPOINT_PREFIX + endpoint)

    def set_target(self, endpoint: str, target_port: int) -> None:
        """Point one of the ground's own endpoints at a private port."""
        self.set_route(ENDPOINT_PREFIX + endpoint, ENDPOINTS[endpoint], target_port)

    def set_route(self, name: str, cloud: Cloud, target_port: int) -> None:
        """Add a route or give a known one another target; its public port stays."""
        known = self._routes.get(name)
        self._routes[name] = Route(name, cloud, known.public_port if known else 0, target_port)

    def remove_route(self, name: str) -> None:
        """Take a route away; one that is not there is no error."""
        self._routes.pop(name, None)

    def publish(self, hostname: str, port: int) -> None:
        """Point a hostname at a public port."""
        self._names[hostname] = port

    def withdraw(self, hostname: str) -> None:
        """Take a hostname away; one that is not there is no error."""
        self._names.pop(hostname, None)

    def state(self, faults: Mapping[Cloud, Fault], *, may_move: bool) -> ProxyState:
        """Return what the proxy should be."""
        return ProxyState(tuple(self._routes.values()), dict(faults), dict(self._names), self._internet_port, may_move)

    def adopt(self, ports: PublicPorts) -> None:
        """Take over the ports that the proxy took; names follow a route that had to move. Writes the table."""
        self._internet_port = ports.internet
        for name, port in ports.routes.items():
            route = self._routes.get(name)
            if route is None or route.public_port == port:
                continue
            self._routes[name] = replace(route, public_port=port)
            if route.public_port:
                for hostname, target in self._names.items():
                    if target == route.public_port:
                        self._names[hostname] = port
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(self.state({}, may_move=False).encode(), indent=1))
        temporary.replace(self._path)
