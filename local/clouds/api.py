"""The control plane of a cloud: resources over HTTP, stored as rows, made real through actors.

An actor acts before the row is written. A process that dies between the two leaves a real thing without a row, which
the repeated create adopts; the other order would leave a row that answers the repeated create with "exists".
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local.clouds.actor import Actor, RevealingActor
from local.clouds.context import CloudContext
from local.clouds.errors import CloudError
from local.state import Resource, ResourceExistsError, ResourceGoneError

logger = logging.getLogger(__name__)

# A start does not wait longer than this for stored resources: health must answer while an emulator is still cut off.
FIRST_PASS_LIMIT_SECONDS = 20.0
RETRY_FIRST_SECONDS = 0.5
RETRY_LIMIT_SECONDS = 10.0


@dataclass(frozen=True)
class ResourceRequest:
    """The body of every call, as the provider plugins send it."""

    resource: Resource

    @classmethod
    async def read(cls, request: Request, context: CloudContext) -> "ResourceRequest":
        """Parse the body. Raises CloudError when a field is missing."""
        body = await request.json()
        try:
            resource = Resource(
                cloud=context.cloud.value,
                type=body["type"],
                id=body["id"],
                name=body.get("name", ""),
                urn=body.get("urn", ""),
                inputs=body.get("inputs") or {},
                outputs=body.get("outputs") or {},
            )
        except (KeyError, TypeError) as error:
            raise CloudError(f"resource request lacks {error}; send type, id, name, urn, inputs, outputs") from error
        return cls(resource)


class ControlPlane:
    """Create, read, update and delete of one cloud's resources; one call at a time for each resource."""

    def __init__(self, context: CloudContext, actors: Mapping[str, Actor]) -> None:
        self._context = context
        self._actors = actors
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._retrying: asyncio.Task[None] | None = None

    def _lock(self, resource: Resource) -> asyncio.Lock:
        return self._locks.setdefault((resource.type, resource.id), asyncio.Lock())

    async def create(self, resource: Resource) -> Resource:
        """Make a resource real, then store it. Raises ResourceExistsError; a failure leaves no row."""
        async with self._lock(resource):
            if self._stored(resource) is not None:
                raise ResourceExistsError(f"{resource.type} {resource.id} exists already in {resource.cloud}")
            actor = self._actors.get(resource.type)
            if actor is not None:
                try:
                    await actor.ensure(resource)
                    resource = await _revealed(actor, resource)
                except Exception:
                    await self._undo(actor.remove(resource), resource)
                    raise
            self._context.store.create(resource)
            return resource

    async def update(self, resource: Resource) -> Resource:
        """Bring a resource in line, then store it. Raises ResourceGoneError; a failure keeps the old row."""
        async with self._lock(resource):
            old = self._context.store.read(resource.cloud, resource.type, resource.id)
            changed = replace(resource, name=resource.name or old.name, urn=resource.urn or old.urn)
            actor = self._actors.get(resource.type)
            if actor is not None:
                try:
                    await actor.ensure(changed)
                    changed = await _revealed(actor, changed)
                except Exception:
                    await self._undo(actor.ensure(old), old)
                    raise
            self._context.store.update(changed)
            return changed

    async def delete(self, resource: Resource) -> None:
        """Take a resource away; one that is not there is no error."""
        async with self._lock(resource):
            stored = self._stored(resource)
            if stored is None:
                return
            actor = self._actors.get(resource.type)
            if actor is not None:
                await actor.remove(stored)
            self._context.store.delete(stored.cloud, stored.type, stored.id)

    def read(self, resource: Resource) -> Resource:
        """Return the stored resource. Raises ResourceGoneError when there is none."""
        return self._context.store.read(resource.cloud, resource.type, resource.id)

    def listed(self) -> list[Resource]:
        """Return all stored resources in order of creation."""
        return self._context.store.list(self._context.cloud.value)

    async def start(self) -> None:
        """Make every stored resource real again in order of creation; what fails is retried in the background."""
        first = asyncio.create_task(self._ensure_all(self.listed()))
        done, _ = await asyncio.wait({first}, timeout=FIRST_PASS_LIMIT_SECONDS)
        if first in done and not first.result():
            return
        self._retrying = asyncio.create_task(self._retry(first))

    async def stop(self) -> None:
        """End the background retries."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)

    async def _ensure_all(self, resources: list[Resource]) -> list[Resource]:
        failed = []
        for resource in resources:
            actor = self._actors.get(resource.type)
            if actor is None:
                continue
            async with self._lock(resource):
                if self._stored(resource) is None:
                    continue
                try:
                    await actor.ensure(resource)
                except Exception as error:  # noqa: BLE001 - one broken resource must not keep the others down
                    logger.warning("%s %s is not up yet: %s", resource.type, resource.id, describe(error))
                    failed.append(resource)
        return failed

    async def _retry(self, first: asyncio.Task[list[Resource]]) -> None:
        failed = await first
        pause = RETRY_FIRST_SECONDS
        while failed:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
            pause = min(pause * 2, RETRY_LIMIT_SECONDS)
            # A row may have changed since it failed, so the rows are read again.
            current = [stored for stored in map(self._stored, failed) if stored is not None]
            failed = await self._ensure_all(current)

    async def _undo(self, undoing: Any, resource: Resource) -> None:
        try:
            await undoing
        except Exception as error:  # noqa: BLE001 - the first failure is the one to report
            logger.warning("%s %s could not be undone: %s", resource.type, resource.id, describe(error))

    def _stored(self, resource: Resource) -> Resource | None:
        try:
            return self._context.store.read(resource.cloud, resource.type, resource.id)
        except ResourceGoneError:
            return None


async def _revealed(actor: Actor, resource: Resource) -> Resource:
    if not isinstance(actor, RevealingActor):
        return resource
    return replace(resource, outputs={**resource.outputs, **await actor.reveal(resource)})


def describe(error: BaseException) -> str:
    """Return an error's own text, or its type's name where it has none (timeouts)."""
    return str(error) or type(error).__name__


def control_routes(plane: ControlPlane, context: CloudContext) -> list[BaseRoute]:
    """Return the routes that the provider plugins call."""

    async def operation(request: Request) -> JSONResponse:
        name = request.path_params["operation"]
        try:
            resource = (await ResourceRequest.read(request, context)).resource
            if name == "create":
                return JSONResponse({"outputs": (await plane.create(resource)).outputs})
            if name == "update":
                return JSONResponse({"outputs": (await plane.update(resource)).outputs})
            if name == "read":
                return JSONResponse({"outputs": plane.read(resource).outputs})
            if name == "delete":
                await plane.delete(resource)
                return JSONResponse({"outputs": {}})
        except ResourceExistsError as error:
            return JSONResponse({"error": str(error)}, status_code=409)
        except ResourceGoneError as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        except CloudError as error:
            return JSONResponse({"error": str(error)}, status_code=422)
        except Exception as error:
            logger.exception("%s of %s failed", name, request.url.path)
            return JSONResponse({"error": describe(error)}, status_code=500)
        return JSONResponse({"error": f"no operation {name}"}, status_code=404)

    async def resources(_: Request) -> JSONResponse:
        rows = plane.listed()
        return JSONResponse([{"type": row.type, "id": row.id, "name": row.name, "urn": row.urn} for row in rows])

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"cloud": context.cloud.value})

    return [
        Route("/resources/{operation}", operation, methods=["POST"]),
        Route("/resources", resources),
        Route("/health", health),
    ]
