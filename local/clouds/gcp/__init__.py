"""Google Cloud of the local ground: what its resources do beyond being recorded.

Buckets, objects, notifications, topics, subscriptions and tables act on the emulators; Cloud Run functions run from
their deployed archives; Pub/Sub's pushes and Eventarc's triggers are driven here, and so is Dataflow's one template.
Instances, networks, identities and the rest of the types are the fleet's or only recorded. Identity is not enforced: a
push carries no token (see envelopes), and no role is checked.
"""

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local.clouds.actor import Actor
from local.clouds.context import CloudContext
from local.clouds.errors import ActorError
from local.clouds.fleet import gcp as fleet
from local.clouds.gcp.runtime import Platform
from local.clouds.ticker import tick_route


def actors(context: CloudContext) -> dict[str, Actor]:
    """Return the actors of this cloud, the fleet's among them."""
    return {**context.part(Platform).actors(), **fleet.actors(context)}


def routes(context: CloudContext) -> list[BaseRoute]:
    """Return the routes that this cloud adds to its control plane."""

    async def statistics(_: Request) -> JSONResponse:
        return JSONResponse(context.part(Platform).statistics())

    async def disturb(request: Request) -> JSONResponse:
        try:
            faults = context.part(Platform).jobs.disturb(await request.json())
        except ActorError as error:
            return JSONResponse({"error": str(error)}, status_code=422)
        return JSONResponse(asdict(faults))

    return [
        Route("/functions/statistics", statistics),
        Route("/dataflow/faults", disturb, methods=["PUT"]),
        tick_route(context.part(Platform).schedules.ticker),
        context.part(Platform).keys.route(),
        *fleet.routes(context),
    ]


async def stop(context: CloudContext) -> None:
    """Stop deliveries and functions in order, then the fleet."""
    await context.part(Platform).stop()
    await fleet.stop(context)
