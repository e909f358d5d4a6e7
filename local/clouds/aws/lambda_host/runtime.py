"""One runtime process: its start, its life between events, its end."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from local.clouds import sealed
from local.clouds.aws.lambda_host.runtime_api import Answer, RuntimeApi
from local.clouds.aws.lambda_host.settings import FunctionSettings
from local.clouds.errors import FunctionInitError
from local.supervisor import ManagedProcess, ProcessSpec, ProcessState, Supervisor

# Lambda allows 10 s; importing both clouds' SDKs on a busy small host has taken more.
INIT_LIMIT_SECONDS = 60.0
# docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: synchronous payloads, either way.
PAYLOAD_BYTES_LIMIT = 6 * 1024 * 1024


class InvocationStatus(StrEnum):
    """How one invocation ended."""

    SUCCEEDED = "succeeded"
    FUNCTION_ERROR = "function-error"
    TIMED_OUT = "timed-out"
    EXITED = "exited"
    INIT_FAILED = "init-failed"


@dataclass(frozen=True)
class Invocation:
    """The result of one invocation; `payload` is the function's answer or Lambda's error object, both JSON."""

    request_id: str
    status: InvocationStatus
    payload: bytes
    duration_ms: float

    @property
    def succeeded(self) -> bool:
        """True when the function returned an answer."""
        return self.status is InvocationStatus.SUCCEEDED


def error_payload(kind: str, message: str) -> bytes:
    """Return the error object that Lambda answers with."""
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


class RuntimeProcess:
    """A process that runs the handler for one event at a time.

    `on_idle` is called each time it waits for an event, `on_exit` once when it has ended by itself or was killed for its
    time limit. Start it from the main thread.
    """

    def __init__(
        self,
        settings: FunctionSettings,
        task_root: Path,
        log: Path,
        supervisor: Supervisor,
        on_idle: Callable[["RuntimeProcess"], None],
        on_exit: Callable[["RuntimeProcess"], None],
    ) -> None:
        self.name = f"{settings.name}-{uuid.uuid4().hex[:8]}"
        self.idle_since = time.monotonic()
        self._settings = settings
        self._task_root = task_root
        self._log = log
        self._supervisor = supervisor
        self._on_idle = on_idle
        self._on_exit = on_exit
        self._api = RuntimeApi(self._next, self._lost, self._init_failed)
        self._process: ManagedProcess | None = None
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._exited: asyncio.Future[int | None] = loop.create_future()
        self._waiting = False
        self._stopping = False
        self._forgetting: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> bool:
        """True while it waits for an event."""
        return self._waiting and not self._exited.done()

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start it and return when it waits for its first event. Raises FunctionInitError."""
        address = await self._api.start()
        spec = ProcessSpec(
            name=self.name,
            command=(sys.executable, "-I", sealed.__file__, "lambda", str(self._task_root), self._settings.handler),
            env={**environment, "AWS_LAMBDA_RUNTIME_API": address},
            inherit_environment=False,
            cwd=self._task_root,
            log=self._log,
            on_change=self._changed,
            stop_seconds=1.0,
        )
        try:
            process = self._process = await self._supervisor.start(spec)
            async with asyncio.timeout(INIT_LIMIT_SECONDS):
                await _first(self._ready, self._exited)
            if not self._ready.done():
                raise FunctionInitError(
                    f"function {self._settings.name} ended while it started (exit status {self._exited.result()});"
                    f" its log {self._log} ends with:\n{process.tail()}"
                )
            self._ready.result()
        except TimeoutError as error:
            await self.stop()
            raise FunctionInitError(
                f"function {self._settings.name} did not start within {INIT_LIMIT_SECONDS:.0f} s; see its log {self._log}"
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def invoke(self, payload: bytes) -> Invocation:
        """Run the handler on one event. The process must be waiting; it may be dead afterwards."""
        request_id = str(uuid.uuid4())
        limit = self._settings.timeout_seconds
        started = time.monotonic()
        self._waiting = False
        deadline_ms = int((time.time() + limit) * 1000)
        answer = self._api.hand_over(request_id, payload, self._settings.arn, deadline_ms)
        await _first(answer, self._exited, limit_seconds=limit)
        duration_ms = (time.monotonic() - started) * 1000
        if answer.done():
            return self._answered(request_id, answer.result(), duration_ms)
        if self._exited.done():
            text = f"RequestId: {request_id} Error: Runtime exited with error: exit status {self._exited.result()}"
            payload = error_payload("Runtime.ExitError", text)
            return Invocation(request_id, InvocationStatus.EXITED, payload, duration_ms)
        await self.stop()
        self._on_exit(self)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        payload = error_payload("Sandbox.Timedout", f"{now} {request_id} Task timed out after {limit:.2f} seconds")
        return Invocation(request_id, InvocationStatus.TIMED_OUT, payload, duration_ms)

    async def stop(self) -> None:
        """End the process at once: Lambda freezes and discards a sandbox without asking it."""
        self._stopping = True
        self._waiting = False
        # The process first: one whose API goes away writes a traceback into the function's log.
        if self._process is not None:
            self._process = None
            await self._supervisor.kill(self.name)
        self._api.stop()
        if not self._exited.done():
            self._exited.set_result(None)

    def _answered(self, request_id: str, answer: Answer, duration_ms: float) -> Invocation:
        if answer.failed:
            return Invocation(request_id, InvocationStatus.FUNCTION_ERROR, answer.payload, duration_ms)
        if len(answer.payload) > PAYLOAD_BYTES_LIMIT:
            text = (
                f"Response payload size ({len(answer.payload)} bytes) exceeded"
                f" maximum allowed payload size ({PAYLOAD_BYTES_LIMIT} bytes)."
            )
            payload = error_payload("Function.ResponseSizeTooLarge", text)
            return Invocation(request_id, InvocationStatus.FUNCTION_ERROR, payload, duration_ms)
        return Invocation(request_id, InvocationStatus.SUCCEEDED, answer.payload, duration_ms)

    def _next(self) -> None:
        if self._stopping:
            return
        self._waiting = True
        self.idle_since = time.monotonic()
        if not self._ready.done():
            self._ready.set_result(None)
        self._on_idle(self)

    def _lost(self) -> None:
        self._waiting = False

    def _init_failed(self, text: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(FunctionInitError(f"function {self._settings.name} cannot start: {text}"))

    def _changed(self, process: ManagedProcess) -> None:
        if process.state is not ProcessState.EXITED or self._exited.done():
            return
        self._exited.set_result(process.exit_code)
        self._waiting = False
        self._api.stop()
        # The state changes inside the supervisor's own watcher, which must end before its entry can be dropped.
        self._forgetting = asyncio.create_task(self._forget(), name=f"forget {self.name}")
        if not self._stopping:
            self._on_exit(self)

    async def _forget(self) -> None:
        if self._process is not None:
            self._process = None
            await self._supervisor.stop(self.name)


async def _first(*futures: asyncio.Future[Any], limit_seconds: float | None = None) -> None:
    """Return when one of the futures is done or the time is over; cancels none of them."""
    await asyncio.wait(futures, timeout=limit_seconds, return_when=asyncio.FIRST_COMPLETED)
