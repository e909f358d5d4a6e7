"""Dataflow jobs by the template that they run: each template has an actor of its own."""

from collections.abc import Mapping

from local.clouds.actor import Actor
from local.clouds.errors import UnsupportedError
from local.clouds.gcp.resources import required
from local.state import Resource


class TemplateActor:
    """gcp.dataflow.FlexTemplateJob, handed on by the last part of its container's path."""

    def __init__(self, actors: Mapping[str, Actor]) -> None:
        self._actors = actors

    async def ensure(self, resource: Resource) -> None:
        """Run the job. Raises UnsupportedError for a template that is not known here."""
        await self._actor(resource).ensure(resource)

    async def remove(self, resource: Resource) -> None:
        """Cancel the job; one that is not there is no error."""
        await self._actor(resource).remove(resource)

    def _actor(self, resource: Resource) -> Actor:
        path = str(required(resource, "containerSpecGcsPath"))
        actor = self._actors.get(path.rpartition("/flex/")[2])
        if actor is None:
            known = ", ".join(sorted(self._actors))
            raise UnsupportedError(f"job {resource.name}: the local cloud runs the templates {known}, not {path}")
        return actor
