"""The wanted state of the fault proxy, sent to it whole at every change.

Whole, not as a change: a proxy that was started again, or missed an answer, is in line after the next request.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from local.names import Cloud, FaultMode

# Both look alike from outside the cloud; they differ in whether its processes live on.
CUT_MODES = frozenset({FaultMode.KILL, FaultMode.BLACK_HOLE})


@dataclass(frozen=True)
class Fault:
    """What a cloud's connections suffer. `latency_ms` counts each way and only under SLOW."""

    mode: FaultMode = FaultMode.NONE
    latency_ms: int = 0

    @property
    def cut(self) -> bool:
        """True when nothing may be connected."""
        return self.mode in CUT_MODES

    @property
    def frozen(self) -> bool:
        """True when connections stay open and no byte passes."""
        return self.mode is FaultMode.HANG

    @property
    def delay_seconds(self) -> float:
        """Delay of every byte, each way."""
        return self.latency_ms / 1000 if self.mode is FaultMode.SLOW else 0.0


@dataclass(frozen=True)
class Route:
    """A public loopback port that forwards to a private one. Public port 0: the proxy takes a free one."""

    name: str
    cloud: Cloud
    public_port: int
    target_port: int


@dataclass(frozen=True)
class ProxyState:
    """Everything the proxy does: routes, faults by cloud, and the names of the ground's internet."""

    routes: tuple[Route, ...] = ()
    faults: Mapping[Cloud, Fault] = field(default_factory=dict)
    names: Mapping[str, int] = field(default_factory=dict)
    internet_port: int = 0
    may_move: bool = False
    """A route whose public port is taken gets another one; else that is an error."""

    def encode(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> "ProxyState":
        """Return it from JSON types. Raises KeyError, TypeError or ValueError when they are not what `encode` gives."""
        return cls(
            routes=tuple(Route(**{**route, "cloud": Cloud(route["cloud"])}) for route in fields["routes"]),
            faults={
                Cloud(cloud): Fault(FaultMode(fault["mode"]), int(fault["latency_ms"]))
                for cloud, fault in fields["faults"].items()
            },
            names=dict(fields["names"]),
            internet_port=int(fields["internet_port"]),
            may_move=bool(fields["may_move"]),
        )
