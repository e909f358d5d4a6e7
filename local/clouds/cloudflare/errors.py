"""Errors of the Cloudflare cloud."""

from local.clouds.errors import ActorError


class FrontDoorError(ActorError):
    """A load balancer, pool or monitor says something that the front door cannot carry out."""


class R2Error(ActorError):
    """A bucket could not be made or taken away."""
