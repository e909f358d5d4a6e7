"""Errors of fleets and of the proxies in front of them."""

from local.clouds.errors import ActorError


class FleetError(ActorError):
    """A fleet, its template or its load balancer cannot be made as the program describes it."""


class UpstreamError(Exception):
    """A request could not be answered by the upstream server it was sent to."""


class UpstreamConnectError(UpstreamError):
    """No connection came about, so the upstream has seen nothing and another one may be asked."""


class UpstreamRefusedError(UpstreamConnectError):
    """The upstream refused the connection."""


class UpstreamConnectTimeoutError(UpstreamConnectError):
    """The upstream did not accept the connection in time."""


class UpstreamUnreachableError(UpstreamConnectError):
    """There is no way to the upstream: its name is unknown or no route leads to it."""


class UpstreamResetError(UpstreamError):
    """The upstream closed the connection, or sent no HTTP, before its answer was complete."""


class UpstreamTimeoutError(UpstreamError):
    """The upstream took the request and did not answer in time."""


class ClientGoneError(UpstreamError):
    """The client closed its connection before the answer was complete."""
