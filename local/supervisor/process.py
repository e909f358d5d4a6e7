"""One supervised process through all its lives: spawn, wait until ready, watch, start again, stop."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from local.errors import LocalError, ProcessExitedError, ProcessNotReadyError, ProgramMissingError
from local.supervisor.spec import ProcessSpec, ProcessState

TRAMPOLINE = Path(__file__).with_name("trampoline.py")
TAIL_LINES = 20
TAIL_BYTES = 8192
# The probe interval grows from first to last: most servers answer at once, slow ones must not be slowed further.
FIRST_PROBE_SECONDS = 0.01
LAST_PROBE_SECONDS = 0.1
PROBE_GROWTH = 1.3
# A probe that hangs (a port that accepts and never answers) must not eat the whole limit.
ONE_PROBE_SECONDS = 2.0


class ManagedProcess:
    """A process under a supervisor. Made by Supervisor.start; every method belongs to the supervisor's event loop."""

    def __init__(self, spec: ProcessSpec, log: Path, register: Callable[[str, int], None]) -> None:
        self.spec = spec
        self.log = log
        self.state = ProcessState.STARTING
        self.restarts = 0
        self.exit_code: int | None = None
        self.pid: int | None = None
        """Process id, also of its process group; None when none of its lives is running."""
        self._register = register
        self._child: asyncio.subprocess.Process | None = None
        self._log_start = 0
        self._stopping = False
        self._watcher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        """Name of the process."""
        return self.spec.name

    @property
    def alive(self) -> bool:
        """True unless it has ended for good."""
        return self.state not in (ProcessState.EXITED, ProcessState.STOPPED)

    def tail(self) -> str:
        """Return the last lines that its present or last life wrote to the log."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, size - TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-TAIL_LINES:])

    async def start(self) -> None:
        """Spawn it and wait until its probe answers; then watch it.

        Raises ProgramMissingError, ProcessExitedError or ProcessNotReadyError; nothing of it runs after an error.
        """
        try:
            await self._live()
        except BaseException:
            # Also on cancellation: a half-started process has no other owner.
            await self.stop()
            raise
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def stop(self) -> None:
        """End it for good: stop signal, limit, SIGKILL, then SIGKILL to what is left of its group."""
        await self._end(self.spec.stop_signal)

    async def kill(self) -> None:
        """End it for good with SIGKILL to its group, as a crash of the machine would."""
        await self._end(signal.SIGKILL)

    async def wait_state(self, *states: ProcessState) -> ProcessState:
        """Wait until it is in one of the states; bound the time with asyncio.timeout."""
        while self.state not in states:
            await self._changed.wait()
        return self.state

    async def _end(self, number: signal.Signals) -> None:
        self._stopping = True
        if self._watcher is not None and self._watcher is not asyncio.current_task():
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
        if self._child is not None:
            await self._end_child(self._child, number)
        if self.state is not ProcessState.STOPPED:
            self._enter(ProcessState.STOPPED)

    async def _end_child(self, child: asyncio.subprocess.Process, number: signal.Signals) -> None:
        _signal_group(child.pid, number)
        try:
            async with asyncio.timeout(self.spec.stop_seconds):
                await child.wait()
        except TimeoutError:
            _signal_group(child.pid, signal.SIGKILL)
            await child.wait()
        self._ended(child)

    async def _live(self) -> None:
        """Spawn and wait until ready, once."""
        self._child = await self._spawn()
        self.pid = self._child.pid
        self._register("+", self.pid)
        self._enter(ProcessState.STARTING)
        if self.spec.ready is not None:
            await self._wait_ready(self._child)
        self._enter(ProcessState.READY)

    async def _spawn(self) -> asyncio.subprocess.Process:
        spec = self.spec
        environment = ({**os.environ} if spec.inherit_environment else {}) | dict(spec.env)
        program = shutil.which(spec.command[0], path=environment.get("PATH"))
        if program is None:
            raise ProgramMissingError(spec.name, spec.command[0])
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(TRAMPOLINE), str(os.getpid()), program, *spec.command[1:]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=spec.cwd,
                env=environment,
                # Ctrl-C reaches the whole foreground group; ours are stopped in order instead.
                start_new_session=True,
            )

    async def _wait_ready(self, child: asyncio.subprocess.Process) -> None:
        probe, spec = self.spec.ready, self.spec
        assert probe is not None
        deadline = time.monotonic() + spec.ready_seconds
        interval = FIRST_PROBE_SECONDS
        exited = asyncio.ensure_future(child.wait())
        try:
            while True:
                ready = False
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ONE_PROBE_SECONDS):
                        ready = await probe.ready()
                if exited.done():
                    raise ProcessExitedError(spec.name, exited.result(), self.log, self.tail())
                if ready:
                    return
                if time.monotonic() > deadline:
                    raise ProcessNotReadyError(spec.name, str(probe), spec.ready_seconds, self.log, self.tail())
                await asyncio.wait({exited}, timeout=interval)
                interval = min(interval * PROBE_GROWTH, LAST_PROBE_SECONDS)
        finally:
            exited.cancel()

    async def _watch(self) -> None:
        """Follow its lives until the policy says that it is enough."""
        policy = self.spec.restart
        tries, delay = 0, policy.first_delay_seconds
        while True:
            since = time.monotonic()
            if self._child is not None:
                await self._child.wait()
                self._ended(self._child)
            if time.monotonic() - since >= policy.settled_seconds:
                tries, delay = 0, policy.first_delay_seconds
            if policy.limit is not None and tries >= policy.limit:
                self._enter(ProcessState.EXITED)
                return
            self._enter(ProcessState.RESTARTING)
            await asyncio.sleep(delay)
            tries, delay = tries + 1, min(delay * 2, policy.longest_delay_seconds)
            self.restarts += 1
            try:
                await self._live()
            except (LocalError, OSError) as error:
                await self._discard(error)

    async def _discard(self, error: Exception) -> None:
        """Clean up a life that did not become ready, and leave the reason in its log."""
        if self._child is not None:
            await self._end_child(self._child, signal.SIGKILL)
            self._child = None
        with self.log.open("a") as log:
            log.write(f"supervisor: start {self.restarts} failed: {str(error).splitlines()[0]}\n")

    def _ended(self, child: asyncio.subprocess.Process) -> None:
        self.exit_code = child.returncode
        # Whatever it started and left behind shares its group.
        _signal_group(child.pid, signal.SIGKILL)
        if self.pid is not None:
            self._register("-", child.pid)
        self.pid = None

    def _enter(self, state: ProcessState) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        if self.spec.on_change is not None:
            self.spec.on_change(self)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # PermissionError is what macOS answers when only zombies are left in the group.
        os.killpg(group, number)
