"""The processes of one version of one function: one stays warm, more start on demand up to the limit."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from local.clouds.aws.lambda_host.counters import FunctionCounters
from local.clouds.aws.lambda_host.runtime import Invocation, InvocationStatus, RuntimeProcess, error_payload
from local.clouds.aws.lambda_host.settings import FunctionSettings
from local.clouds.errors import FunctionInitError, ThrottledError
from local.supervisor import Supervisor

logger = logging.getLogger(__name__)

# A start costs about a second of a core that the busy processes need too, so a short queue is waited out first.
SCALE_OUT_PATIENCE_SECONDS = 0.1
IDLE_LIMIT_SECONDS = 60.0


class FunctionPool:
    """Runs events of one version of a function.

    `limit` is how many run at once. Raises FunctionInitError from `warm`, ThrottledError from `invoke`.
    """

    def __init__(
        self,
        settings: FunctionSettings,
        task_root: Path,
        environment: Mapping[str, str],
        limit: int,
        log: Path,
        supervisor: Supervisor,
        counters: FunctionCounters,
    ) -> None:
        self.settings = settings
        self.limit = limit
        self._task_root = task_root
        self._environment = environment
        self._log = log
        self._supervisor = supervisor
        self._counters = counters
        self._processes: set[RuntimeProcess] = set()
        self._idle: list[RuntimeProcess] = []
        self._waiters: deque[asyncio.Future[RuntimeProcess]] = deque()
        self._slots = asyncio.Semaphore(limit)
        self._in_flight = 0
        self._all_done = asyncio.Event()
        self._all_done.set()
        self._closing = False
        self._starts: set[asyncio.Task[None]] = set()
        self._warmings: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        """Invocations that run or wait for a process."""
        return self._in_flight

    @property
    def size(self) -> int:
        """Processes, starting ones too."""
        return len(self._processes)

    async def warm(self) -> None:
        """Start the first process and wait until it is ready. Raises FunctionInitError; then nothing runs."""
        if self.limit and not self._processes:
            await self._start()

    def warm_soon(self, turns: asyncio.Semaphore) -> None:
        """Start the first process in its turn; an event does not wait for that turn, and each tries again after a failure."""
        warming = asyncio.create_task(self._warm_in_turn(turns), name=f"warm {self.settings.name}")
        self._warmings.add(warming)
        warming.add_done_callback(self._warmings.discard)

    async def invoke(self, payload: bytes, patience_seconds: float) -> Invocation:
        """Run one event; wait for a free slot at most `patience_seconds`. Raises ThrottledError when none came free."""
        self._in_flight += 1
        self._all_done.clear()
        try:
            await self._take_slot(patience_seconds)
            try:
                return await self._run(payload)
            finally:
                self._slots.release()
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._all_done.set()

    async def drain(self, limit_seconds: float) -> None:
        """Let running invocations end, for at most `limit_seconds`, then end the processes."""
        try:
            async with asyncio.timeout(limit_seconds):
                await self._all_done.wait()
        except TimeoutError:
            self._all_done.set()
        await self.stop()

    async def stop(self) -> None:
        """End every process; invocations still running fail."""
        self._closing = True
        begun = [*self._warmings, *self._starts]
        for start in begun:
            start.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        await asyncio.gather(*(process.stop() for process in list(self._processes)))
        self._processes.clear()
        self._idle.clear()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(FunctionInitError(f"function {self.settings.name} was taken away"))

    async def reap(self) -> None:
        """End processes that had nothing to do for a while; one stays warm."""
        now = time.monotonic()
        old = [p for p in self._idle if now - p.idle_since > IDLE_LIMIT_SECONDS]
        for process in old[: max(len(self._processes) - 1, 0)]:
            self._idle.remove(process)
            self._processes.discard(process)
            await process.stop()

    async def _take_slot(self, patience_seconds: float) -> None:
        if self.limit and not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            if not self.limit:
                raise TimeoutError
            async with asyncio.timeout(patience_seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            self._counters.throttles += 1
            raise ThrottledError(
                f"function {self.settings.name}: rate exceeded, {self.limit} concurrent invocations are in use;"
                " retry, or raise reservedConcurrentExecutions"
            ) from error

    async def _run(self, payload: bytes) -> Invocation:
        try:
            process = await self._take()
        except FunctionInitError as error:
            body = error_payload("Runtime.InitError", str(error))
            return Invocation("", InvocationStatus.INIT_FAILED, body, duration_ms=0.0)
        # Who asked may be gone before the function is: its time limit holds all the same.
        running = asyncio.create_task(process.invoke(payload), name=f"invoke {self.settings.name}")
        return await asyncio.shield(running)

    async def _take(self) -> RuntimeProcess:
        """Return a waiting process, starting one when none comes free soon. Raises FunctionInitError."""
        while self._idle:
            process = self._idle.pop()
            if process.waiting:
                return process
        waiter: asyncio.Future[RuntimeProcess] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            patience = SCALE_OUT_PATIENCE_SECONDS if self._processes else 0.0
            await asyncio.wait({waiter}, timeout=patience)
            if not waiter.done():
                self._start_for_waiters()
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._became_idle(waiter.result())
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _start_for_waiters(self) -> None:
        if self._closing or len(self._processes) + len(self._starts) >= self.limit:
            return
        start = asyncio.create_task(self._start_one(), name=f"start {self.settings.name}")
        self._starts.add(start)
        start.add_done_callback(self._starts.discard)

    async def _warm_in_turn(self, turns: asyncio.Semaphore) -> None:
        async with turns:
            if self.limit and not self._processes and not self._closing:
                await self._start_one()

    async def _start_one(self) -> None:
        try:
            await self._start()
        except FunctionInitError as error:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_exception(error)
                    return
            logger.warning("%s", error)

    async def _start(self) -> None:
        process = RuntimeProcess(
            self.settings, self._task_root, self._log, self._supervisor, self._became_idle, self._ended
        )
        self._processes.add(process)
        self._counters.cold_starts += 1
        try:
            await process.start(self._environment)
        except BaseException:
            self._processes.discard(process)
            raise

    def _became_idle(self, process: RuntimeProcess) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(process)
                return
        # A process asks again when its connection broke; it is still the same one.
        if process not in self._idle:
            self._idle.append(process)

    def _ended(self, process: RuntimeProcess) -> None:
        self._processes.discard(process)
        if process in self._idle:
            self._idle.remove(process)
        # Whoever waits counted on this process; and one process stays warm, as after a deployment.
        if self._waiters or not self._processes:
            self._start_for_waiters()
