"""The interfaces between a cloud's control plane and the things it makes real."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from local.state import Resource


class Actor(Protocol):
    """Makes resources of one type real. Both verbs are idempotent and raise with a text for the user when they fail."""

    async def ensure(self, resource: Resource) -> None:
        """Create the real thing or bring it in line with the resource.

        Called for a create and an update before the row is written, and for every stored row, in order of creation,
        when the cloud's process starts. Rows of other resources are in the store; the row of this one may not be.
        """
        ...

    async def remove(self, resource: Resource) -> None:
        """Take the real thing away; one that is not there is no error."""
        ...


@runtime_checkable
class RevealingActor(Actor, Protocol):
    """An actor whose real thing knows outputs that nobody can compute from the inputs: what a call answered."""

    async def reveal(self, resource: Resource) -> Mapping[str, Any]:
        """Return those outputs; called after `ensure` of a create or an update."""
        ...
