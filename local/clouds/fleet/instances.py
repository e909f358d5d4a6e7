"""A fleet: as many service processes as its group asks for and this machine carries.

Every instance is a process with a port and an id of its own, started as the machine's container would be: with the
environment of the cloud-config and nothing of this process's own. One loop keeps it at the plan (plan.py); an instance
that dies, or whose /health falls silent, is replaced with a growing delay. How many were asked for is kept beside how
many run.
"""

import asyncio
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.clouds.fleet.bound import host_bound
from local.clouds.fleet.plan import InstanceView, next_step, restart_delay_seconds
from local.clouds.fleet.probe import Check, StatusCodes, failure_of
from local.clouds.fleet.template import MachineTemplate
from local.clouds.fleet.upstream import Target
from local.errors import LocalError
from local.supervisor import ManagedProcess, ProcessSpec, ProcessState, Supervisor, free_port

logger = logging.getLogger(__name__)

COMMAND_VARIABLE = "LIFEBOAT_SERVICE_COMMAND"
SERVICE_COMMAND = (sys.executable, "-m", "service.server")
# Of this process's environment an instance gets what any container has.
CONTAINER_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")

# How often an instance is asked while it boots: often at first, so that its time is known, then less, for it may wait long
# for a model that nobody has published.
BOOT_PROBE_SECONDS = 0.05
BOOT_PROBE_GROWTH = 1.05
LAST_BOOT_PROBE_SECONDS = 0.25
STEADY_PROBE_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 2.0
# An instance that was healthy and has not answered /health for so long is replaced, as a group's health check does.
SILENT_LIMIT_SECONDS = 20.0
# A life this long counts as settled: the delay before the next replacement starts small again.
SETTLED_SECONDS = 30.0
STOP_SECONDS = 5.0
# A hand-over does not wait longer than this for requests under way, whatever the group's own delay is.
DRAIN_LIMIT_SECONDS = 10.0
DRAIN_POLL_SECONDS = 0.02
# Over twice the balancers' own refresh, so that none still picks an instance that is about to end.
DRAIN_IDLE_SECONDS = 0.25

HEALTH = Check("/health", StatusCodes.parse("200"), PROBE_TIMEOUT_SECONDS)
READY = Check("/ready", StatusCodes.parse("200"), PROBE_TIMEOUT_SECONDS)


@dataclass(frozen=True)
class FleetSettings:
    """What a group wants: how many machines (`asked`), of which template, and whether a new template rolls out."""

    asked: int
    template: MachineTemplate
    roll: bool
    environment: Mapping[str, str]
    """Added to the template's: endpoints and region, which a real machine has from where it stands."""


@dataclass
class Instance:
    """One running instance and what was measured of it."""

    id: str
    port: int
    template: str
    process: ManagedProcess
    started_seconds: float
    restarts: int
    healthy: bool = False
    ready: bool = False
    healthy_since_seconds: float | None = None
    answered_seconds: float | None = None
    health_ms: int | None = None
    ready_ms: int | None = None
    retiring: bool = False
    watch: asyncio.Task[None] | None = None

    def describe(self) -> dict[str, object]:
        """Return the instance for people and reports; both times run from the start of the process."""
        return {
            "id": self.id,
            "port": self.port,
            "pid": self.process.pid,
            "healthy": self.healthy,
            "ready": self.ready,
            "health_ms": self.health_ms,
            "boot_ms": self.ready_ms,
            "restarts": self.restarts,
            "retiring": self.retiring,
        }


@dataclass
class _Vacancy:
    """A place left by an instance that died, to be filled not before a time."""

    predecessor: str
    restarts: int
    not_before_seconds: float


@dataclass
class _Deaths:
    in_a_row: int = 0
    vacancies: list[_Vacancy] = field(default_factory=list)


class Fleet:
    """Keeps a group's instances at its settings.

    `new_id` gives an instance its id; it is told the id that it follows, or None for one more. `in_flight` says how many
    requests a port is answering, so that an instance leaves after its last answer.
    """

    def __init__(
        self,
        name: str,
        settings: FleetSettings,
        supervisor: Supervisor,
        folder: Path,
        new_id: Callable[[str | None], str],
        in_flight: Callable[[int], int],
    ) -> None:
        self.name = name
        self._settings = settings
        self._supervisor = supervisor
        self._folder = folder
        self._new_id = new_id
        self._in_flight = in_flight
        self._instances: dict[str, Instance] = {}
        self._deaths = _Deaths()
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._replaced = 0
        self._error: str | None = None

    # what others see

    @property
    def wanted(self) -> int:
        """How many instances run when the fleet is at its settings: what was asked, within the host's bound."""
        return min(self._settings.asked, host_bound())

    def targets(self) -> list[Target]:
        """Return the instances that a load balancer may check: those in service, whatever they answer now."""
        return [
            Target(instance.id, instance.port)
            for instance in self._instances.values()
            if instance.healthy_since_seconds is not None and not instance.retiring
        ]

    def describe(self) -> dict[str, object]:
        """Return size and instances for people and reports."""
        return {
            "name": self.name,
            "asked": self._settings.asked,
            "bound": host_bound(),
            "running": len(self._instances),
            "ready": sum(1 for i in self._instances.values() if i.ready and not i.retiring),
            "replaced": self._replaced,
            "error": self._error,
            "template": self._settings.template.digest,
            "instances": [instance.describe() for instance in self._instances.values()],
        }

    # what its owner does

    def start(self) -> None:
        """Begin to keep the fleet at its settings."""
        self._running = asyncio.create_task(self._run(), name=f"fleet {self.name}")

    def use(self, settings: FleetSettings) -> None:
        """Take new settings; the fleet moves there in the background."""
        if settings.template.digest != self._settings.template.digest:
            self._deaths.in_a_row = 0  # The new template may be the cure.
            for vacancy in self._deaths.vacancies:
                vacancy.not_before_seconds = 0.0
        self._settings = settings
        self._changed.set()

    async def stop(self) -> None:
        """Stop every instance, at once and in order."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await asyncio.gather(*(self._end(instance) for instance in list(self._instances.values())))

    # the loop

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                self._replace_silent()
                pause = await self._step()
                self._error = None
            except Exception as error:  # a fleet that stops being kept would look like one that is
                logger.exception("fleet %s cannot be brought to its size", self.name)
                self._error, pause = str(error) or type(error).__name__, STEADY_PROBE_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _step(self) -> float:
        """Act once; returns how long to wait if nothing happens, in seconds."""
        now = time.monotonic()
        views = [
            InstanceView(i.id, i.template, i.started_seconds, i.ready, i.healthy_since_seconds)
            for i in self._instances.values()
            if not i.retiring
        ]
        step = next_step(views, self.wanted, self._settings.template.digest, self._settings.roll, now)
        for identity in step.retire:
            self._retire(self._instances[identity])
        vacancies = self._deaths.vacancies
        del vacancies[max(0, step.launch) :]
        for _ in range(step.launch):
            vacancy = vacancies[0] if vacancies else None
            if vacancy is not None and vacancy.not_before_seconds > now:
                return vacancy.not_before_seconds - now
            if vacancies:
                vacancies.pop(0)
            await self._launch(vacancy)
        return STEADY_PROBE_SECONDS

    async def _launch(self, vacancy: _Vacancy | None) -> None:
        settings = self._settings
        identity = self._new_id(vacancy.predecessor if vacancy else None)
        port = free_port()
        folder = self._folder / identity
        folder.mkdir(parents=True, exist_ok=True)
        spec = ProcessSpec(
            name=f"instance {identity}",
            command=_command(),
            env={
                **{name: os.environ[name] for name in CONTAINER_VARIABLES if name in os.environ},
                **settings.template.environment,
                **settings.environment,
                "PORT": str(port),
                "LIFEBOAT_INSTANCE": identity,
            },
            inherit_environment=False,
            cwd=folder,
            log=folder / "service.log",
            stop_seconds=STOP_SECONDS,
            on_change=lambda process: self._process_changed(identity, process),
        )
        started = time.monotonic()
        restarts = vacancy.restarts + 1 if vacancy else 0
        try:
            process = await self._supervisor.start(spec)
        except (LocalError, OSError) as error:
            logger.warning("fleet %s: instance %s did not start: %s", self.name, identity, error)
            self._vacate(identity, restarts, started)
            return
        instance = Instance(identity, port, settings.template.digest, process, started, restarts)
        self._instances[identity] = instance
        instance.watch = asyncio.create_task(self._watch(instance), name=f"watch {identity}")
        if not process.alive:
            self._process_changed(identity, process)

    def _process_changed(self, identity: str, process: ManagedProcess) -> None:
        instance = self._instances.get(identity)
        if process.state is not ProcessState.EXITED or instance is None or instance.process is not process:
            return
        logger.warning("fleet %s: instance %s died (exit code %s)", self.name, identity, process.exit_code)
        self._forget(instance)
        self._leave(self._supervisor.stop(process.name))
        if not instance.retiring:
            self._vacate(identity, instance.restarts, instance.started_seconds)

    def _vacate(self, identity: str, restarts: int, started_seconds: float) -> None:
        now = time.monotonic()
        settled = now - started_seconds >= SETTLED_SECONDS
        self._deaths.in_a_row = 1 if settled else self._deaths.in_a_row + 1
        self._replaced += 1
        delay = restart_delay_seconds(self._deaths.in_a_row)
        self._deaths.vacancies.append(_Vacancy(identity, restarts, now + delay))
        self._changed.set()

    def _forget(self, instance: Instance) -> None:
        self._instances.pop(instance.id, None)
        if instance.watch is not None:
            instance.watch.cancel()

    def _replace_silent(self) -> None:
        now = time.monotonic()
        for instance in list(self._instances.values()):
            answered = instance.answered_seconds
            if answered is None or instance.retiring or now - answered < SILENT_LIMIT_SECONDS:
                continue
            logger.warning("fleet %s: instance %s is silent and is replaced", self.name, instance.id)
            instance.retiring = True
            self._vacate(instance.id, instance.restarts, instance.started_seconds)
            self._leave(self._end(instance))

    def _retire(self, instance: Instance) -> None:
        instance.retiring = True
        self._leave(self._drain(instance))

    def _leave(self, leaving: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(leaving)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _drain(self, instance: Instance) -> None:
        # Balancers learn of it at their next look; after that only requests under way are left.
        deadline = time.monotonic() + DRAIN_LIMIT_SECONDS
        idle_looks = 0
        while time.monotonic() < deadline and idle_looks * DRAIN_POLL_SECONDS < DRAIN_IDLE_SECONDS:
            idle_looks = idle_looks + 1 if self._in_flight(instance.port) == 0 else 0
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        await self._end(instance)

    async def _end(self, instance: Instance) -> None:
        if instance.watch is not None:
            instance.watch.cancel()
        if self._instances.get(instance.id) is instance:
            await instance.process.stop()
            self._forget(instance)
        self._changed.set()

    async def _watch(self, instance: Instance) -> None:
        target, boot_pause = Target(instance.id, instance.port), BOOT_PROBE_SECONDS
        while True:
            healthy = await failure_of(target, HEALTH) is None
            ready = healthy and await failure_of(target, READY) is None
            self._record(instance, healthy, ready, time.monotonic())
            await asyncio.sleep(STEADY_PROBE_SECONDS if instance.ready_ms is not None else boot_pause)
            boot_pause = min(boot_pause * BOOT_PROBE_GROWTH, LAST_BOOT_PROBE_SECONDS)

    def _record(self, instance: Instance, healthy: bool, ready: bool, now: float) -> None:
        if healthy:
            instance.answered_seconds = now
        if healthy and instance.healthy_since_seconds is None:
            instance.healthy_since_seconds = now
            instance.health_ms = round((now - instance.started_seconds) * 1000)
        if ready and instance.ready_ms is None:
            instance.ready_ms = round((now - instance.started_seconds) * 1000)
        if (healthy, ready) != (instance.healthy, instance.ready):
            instance.healthy, instance.ready = healthy, ready
            self._changed.set()


def _command() -> tuple[str, ...]:
    configured = os.environ.get(COMMAND_VARIABLE)
    return tuple(shlex.split(configured)) if configured else SERVICE_COMMAND
