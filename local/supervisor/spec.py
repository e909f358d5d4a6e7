"""What to run and how to treat it."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from local.supervisor.probes import Probe

if TYPE_CHECKING:
    from local.supervisor.process import ManagedProcess


class ProcessState(StrEnum):
    """Where a managed process is in its life."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"  # it died and waits for its next start
    EXITED = "exited"  # it died and is not started again
    STOPPED = "stopped"  # it was told to end


@dataclass(frozen=True)
class RestartPolicy:
    """How often and how fast a process that died is started again."""

    limit: int | None = None
    """Starts after a death before it is given up; None: never given up."""
    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 5.0
    settled_seconds: float = 10.0
    """A process that was ready for so long begins again at the first delay and with its count of tries at nought."""


NEVER = RestartPolicy(limit=0)


@dataclass(frozen=True)
class ProcessSpec:
    """One process to run under a supervisor."""

    name: str
    command: tuple[str, ...]
    ready: Probe | None = None
    """None: ready as soon as it is started."""
    ready_seconds: float = 30.0
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the inherited environment, or all of it when `inherit_environment` is off."""
    inherit_environment: bool = True
    cwd: Path | None = None
    log: Path | None = None
    """None: NAME.log in the supervisor's folder of logs."""
    restart: RestartPolicy = NEVER
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 5.0
    """Time between the stop signal and SIGKILL."""
    stage: int = 0
    """`stop_all` ends the highest stage first, and all of one stage at once."""
    on_change: Callable[["ManagedProcess"], None] | None = None
    """Called in the event loop after every change of state."""
