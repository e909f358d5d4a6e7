"""The Cloudflare cloud: the front door in front of both sites, its monitors, and R2 buckets."""

from starlette.routing import BaseRoute

from local.clouds.actor import Actor
from local.clouds.cloudflare.bucket import BUCKET, R2BucketActor
from local.clouds.cloudflare.edge import Edge
from local.clouds.cloudflare.settings import BALANCER, MONITOR, POOL
from local.clouds.context import CloudContext


def actors(context: CloudContext) -> dict[str, Actor]:
    """Return the actors of everything that Cloudflare makes real."""
    edge = context.part(Edge)
    return {MONITOR: edge, POOL: edge, BALANCER: edge, BUCKET: context.part(R2BucketActor)}


def routes(context: CloudContext) -> list[BaseRoute]:
    """Return GET /front-door/statistics, /front-door/requests?since= and /front-door/state."""
    return context.part(Edge).routes()


async def start(context: CloudContext) -> None:
    """Start what the front door needs before the stored resources come back."""
    await context.part(Edge).start()


async def stop(context: CloudContext) -> None:
    """Stop the front door."""
    await context.part(Edge).stop()
