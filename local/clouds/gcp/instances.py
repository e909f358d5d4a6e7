"""The instances of one function revision: processes of functions-framework, requests spread over them.

As on Cloud Run an instance takes at most `concurrency` requests at once, more instances start while all are busy, and
the extra ones end after a quiet time. Two things differ and are stated: the number of instances is bounded by the
host's processors, and one instance is always kept warm. An instance that overran its time limit is replaced, since a
thread that hangs cannot be ended from outside.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from local.clouds import sealed
from local.clouds.fleet.errors import UpstreamError
from local.clouds.fleet.upstream import ConnectionPool, Target
from local.clouds.gcp.errors import FunctionStartError, InvocationError
from local.clouds.gcp.function_settings import FunctionSettings
from local.errors import ProcessError
from local.supervisor import ManagedProcess, ProcessSpec, ProcessState, RestartPolicy, Supervisor, TcpProbe

logger = logging.getLogger(__name__)

START_SECONDS = 60.0
STOP_SECONDS = 6.0
# An instance beyond the warm one ends after so long without a request.
IDLE_SECONDS = 30.0
# How long a request waits for a free place before the platform refuses it
# (https://cloud.google.com/run/docs/about-instance-autoscaling names 10 seconds and 429).
QUEUE_SECONDS = 10.0
CONNECT_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 1.0
RESTART = RestartPolicy(first_delay_seconds=0.1, longest_delay_seconds=10.0)
HOST_INSTANCES = max(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class FunctionRequest:
    """One HTTP request to a function; `path` carries the query too."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class FunctionResponse:
    """What the function answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Counters:
    """What happened to a function's requests since the cloud's process started."""

    invocations: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    crashed: int = 0
    refused: int = 0


@dataclass(eq=False)
class Instance:
    """One process of the revision."""

    process: ManagedProcess
    port: int
    in_flight: int = 0
    retired: bool = False
    idle: asyncio.TimerHandle | None = field(default=None, repr=False)

    def takes(self, concurrency: int) -> bool:
        """Tell whether it is up and has a free place."""
        return not self.retired and self.process.state is ProcessState.READY and self.in_flight < concurrency


class RevisionInstances:
    """All processes of one revision. Belongs to the main thread's event loop."""

    def __init__(
        self,
        settings: FunctionSettings,
        revision: str,
        archive: Path,
        environment: Mapping[str, str],
        supervisor: Supervisor,
        log: Path,
        counters: Counters,
    ) -> None:
        self.settings = settings
        self.revision = revision
        self.archive = archive
        self._environment = environment
        self._supervisor = supervisor
        self._log = log
        self._counters = counters
        # Gunicorn closes an idle connection after 2 s; one that is used again just then would look like a crash.
        self._connections = ConnectionPool(KEEP_ALIVE_SECONDS)
        self._instances: list[Instance] = []
        self._waiting: deque[asyncio.Future[Instance]] = deque()
        self._starting: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        self._serial = 0
        self._closed = False

    @property
    def maximum(self) -> int:
        """How many instances may run at once on this host."""
        return min(self.settings.maximum_instances, HOST_INSTANCES)

    @property
    def capacity(self) -> int:
        """How many requests may run at once."""
        return self.maximum * self.settings.concurrency

    @property
    def in_flight(self) -> int:
        """How many requests run now or wait for a place."""
        return sum(instance.in_flight for instance in self._instances) + len(self._waiting)

    @property
    def size(self) -> int:
        """How many instances there are now."""
        return len(self._instances)

    async def start(self) -> None:
        """Start the warm instance. Raises FunctionStartError with the function's last lines."""
        try:
            self._instances.append(await self._spawn())
        except ProcessError as error:
            raise FunctionStartError(f"function {self.settings.name} does not start: {error}") from error

    async def invoke(self, request: FunctionRequest) -> FunctionResponse:
        """Run one request. Raises InvocationError: 429 no place, 503 the instance died, 504 over the time limit."""
        self._counters.invocations += 1
        instance = await self._place()
        try:
            answer = await self._send(instance, request)
        finally:
            self._release(instance)
        if answer.status < HTTPStatus.BAD_REQUEST:
            self._counters.succeeded += 1
        else:
            self._counters.failed += 1
        return answer

    async def retire(self) -> None:
        """Let what runs and waits finish within the time limit, then end all instances."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.timeout_seconds + QUEUE_SECONDS):
                while self.in_flight:
                    self._quiet.clear()
                    await self._quiet.wait()
        await self.stop()

    async def stop(self) -> None:
        """End all instances now."""
        self._closed = True
        tasks = [task for task in (self._starting, *self._ending) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # First, because gunicorn waits for connections that are kept alive.
        self._connections.close()
        await asyncio.gather(*(self._end(instance) for instance in list(self._instances)))

    async def _place(self) -> Instance:
        """Return an instance with a place taken on it, in order of arrival."""
        instance = None if self._waiting else self._free()
        if instance is not None:
            instance.in_flight += 1
            return instance
        waiting: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._grow()
        try:
            await asyncio.wait({waiting}, timeout=QUEUE_SECONDS)
        except asyncio.CancelledError:
            if waiting.done():
                self._release(waiting.result())
            else:
                self._waiting.remove(waiting)
            raise
        if waiting.done():
            return waiting.result()
        self._waiting.remove(waiting)
        self._counters.refused += 1
        raise InvocationError(
            f"function {self.settings.name}: no place within {QUEUE_SECONDS:g} s, {self.in_flight} requests at"
            f" {self.size} instances of {self.settings.concurrency}; see {self._log}",
            HTTPStatus.TOO_MANY_REQUESTS,
        )

    async def _send(self, instance: Instance, request: FunctionRequest) -> FunctionResponse:
        limit = self.settings.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await self._exchange(Target(instance.process.name, instance.port), request)
        except TimeoutError:
            self._counters.timed_out += 1
            self._replace(instance)
            raise InvocationError(
                f"function {self.settings.name} ran over its time limit of {limit} s", HTTPStatus.GATEWAY_TIMEOUT
            ) from None
        except UpstreamError as error:
            self._counters.crashed += 1
            raise InvocationError(
                f"function {self.settings.name}: its instance ended during the request ({error}); see {self._log}",
                HTTPStatus.SERVICE_UNAVAILABLE,
            ) from error

    async def _exchange(self, target: Target, request: FunctionRequest) -> FunctionResponse:
        connection = await self._connections.connect(target, CONNECT_SECONDS)
        try:
            await connection.send(_head(request), head_only=request.method == "HEAD")
            if request.body:
                await connection.send_body(request.body)
            connection.request_sent()
            # The time limit is the caller's; silence alone is no fault of a function that works.
            head = await connection.head(self.settings.timeout_seconds)
            body, more = await connection.read(self.settings.timeout_seconds)
            while more:
                part, more = await connection.read(self.settings.timeout_seconds)
                body += part
        except BaseException:
            # Also when the request is taken back: its answer must not be the next one's.
            connection.abort()
            raise
        self._connections.release(target, connection)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
        return FunctionResponse(head.status, headers, body)

    def _release(self, instance: Instance) -> None:
        instance.in_flight -= 1
        self._serve_waiting()
        if not self.in_flight:
            self._quiet.set()
        if not instance.in_flight and instance.retired:
            self._in_background(self._end(instance))
        elif not instance.in_flight and not self._closed:
            if instance.idle is not None:
                instance.idle.cancel()
            instance.idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._shrink, instance)

    def _running(self) -> list[Instance]:
        return [instance for instance in self._instances if not instance.retired]

    def _free(self) -> Instance | None:
        free = [instance for instance in self._instances if instance.takes(self.settings.concurrency)]
        return min(free, key=lambda instance: instance.in_flight, default=None)

    def _serve_waiting(self) -> None:
        while self._waiting and (instance := self._free()) is not None:
            instance.in_flight += 1
            self._waiting.popleft().set_result(instance)

    def _changed(self, _: ManagedProcess) -> None:
        self._serve_waiting()

    def _grow(self) -> None:
        """Start one more instance, unless one is starting or the bound is reached."""
        if self._closed or len(self._running()) >= self.maximum:
            return
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._add())

    async def _add(self) -> None:
        while len(running := self._running()) < self.maximum and (self._waiting or not running):
            try:
                self._instances.append(await self._spawn())
            except ProcessError as error:
                logger.warning("function %s: a further instance did not start: %s", self.settings.name, error)
                return
            self._serve_waiting()

    def _replace(self, instance: Instance) -> None:
        """Take an instance with a hanging thread out of service; it ends when its other requests have."""
        if not instance.retired:
            instance.retired = True
            self._grow()

    def _shrink(self, instance: Instance) -> None:
        running = self._running()
        if not self._closed and instance in running and len(running) > 1 and not instance.in_flight:
            instance.retired = True
            self._in_background(self._end(instance))

    async def _spawn(self) -> Instance:
        process, port = await self._supervisor.start_on_free_port(self._spec)
        return Instance(process, port)

    def _spec(self, port: int) -> ProcessSpec:
        self._serial += 1
        return ProcessSpec(
            name=f"function-{self.revision}-{self._serial}",
            command=(sys.executable, "-P", sealed.__file__, "function", str(self.archive)),
            ready=TcpProbe(port),
            ready_seconds=START_SECONDS,
            env={**self._environment, "PORT": str(port)},
            inherit_environment=False,
            cwd=self.archive,
            log=self._log,
            restart=RESTART,
            stop_seconds=STOP_SECONDS,
            on_change=self._changed,
        )

    async def _end(self, instance: Instance) -> None:
        if instance in self._instances:
            self._instances.remove(instance)
            if instance.idle is not None:
                instance.idle.cancel()
            await self._supervisor.stop(instance.process.name)

    def _in_background(self, ending: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _head(request: FunctionRequest) -> bytes:
    """Return the request's first line and headers as they go over the wire."""
    lines = [f"{request.method} {request.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if not any(name.lower() == "host" for name in request.headers):
        lines.append("host: 127.0.0.1")
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {len(request.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
