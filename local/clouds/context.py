"""What every actor of a cloud process is given: the ground, the cloud's rows, its data folder and the supervisor."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from local.ground.client import GroundClient
from local.names import Cloud
from local.state import ResourceStore
from local.supervisor import Supervisor

Part = TypeVar("Part")


@dataclass(frozen=True)
class CloudContext:
    """One cloud process's surroundings; `folder` is the cloud's own and outlives the process.

    Children are started through `supervisor`, and only from the main thread: the kernel ties a child's life to the
    thread that started it.
    """

    cloud: Cloud
    ground: GroundClient
    store: ResourceStore
    folder: Path
    supervisor: Supervisor
    _parts: dict[Callable[..., Any], object] = field(default_factory=dict, repr=False)

    def part(self, make: "Callable[[CloudContext], Part]") -> Part:
        """Return the one object that `make` (a class or a function of this context) gives, made at the first call.

        So `actors(context)`, `routes(context)` and `start(context)` of a cloud share their hosts without globals.
        """
        if make not in self._parts:
            self._parts[make] = make(self)
        return cast(Part, self._parts[make])
