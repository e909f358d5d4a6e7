"""Processes that live exactly as long as whoever started them: start, readiness, restart, ordered stop."""

from local.supervisor.ports import free_port
from local.supervisor.probes import CallProbe, HttpProbe, Probe, TcpProbe
from local.supervisor.process import ManagedProcess
from local.supervisor.signals import stopped_by_signals
from local.supervisor.spec import NEVER, ProcessSpec, ProcessState, RestartPolicy
from local.supervisor.supervisor import Supervisor

__all__ = [
    "NEVER",
    "CallProbe",
    "HttpProbe",
    "ManagedProcess",
    "Probe",
    "ProcessSpec",
    "ProcessState",
    "RestartPolicy",
    "Supervisor",
    "TcpProbe",
    "free_port",
    "stopped_by_signals",
]
