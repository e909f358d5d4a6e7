"""The supervisor: owner of a set of processes, none of which outlives it.

Two things hold them to it. The kernel kills direct children when the supervisor dies (see trampoline), and a small
reaper process kills their groups when its pipe ends, which also happens at SIGKILL. The death signal is tied to the
*thread* that started a child, so start processes from a thread that lives as long as the process: the main one.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from local.errors import ProcessExitedError, ProcessNameTakenError, UnknownProcessError
from local.supervisor.ports import free_port
from local.supervisor.process import ManagedProcess
from local.supervisor.spec import ProcessSpec

REAPER = Path(__file__).with_name("reaper.py")
REAPER_EXIT_SECONDS = 5.0
# What servers write when their port is taken: Go and Python, Java, and the C library's own words.
PORT_TAKEN = ("address already in use", "address in use", "failed to bind")


class Supervisor:
    """Starts processes and ends them all when it ends. Use as an async context manager, from the main thread.

    `logs` is the folder that takes one log file a process.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._processes: dict[str, ManagedProcess] = {}
        self._reaper: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_all()

    def processes(self) -> list[ManagedProcess]:
        """Return every process in order of first start, ended ones too."""
        return list(self._processes.values())

    def process(self, name: str) -> ManagedProcess:
        """Return one process. Raises UnknownProcessError."""
        try:
            return self._processes[name]
        except KeyError:
            raise UnknownProcessError(name, list(self._processes)) from None

    async def start(self, spec: ProcessSpec) -> ManagedProcess:
        """Start a process and return when it is ready.

        Raises ProgramMissingError, ProcessExitedError (with exit code and last log lines) or ProcessNotReadyError, and
        then nothing of it is left; ProcessNameTakenError when a live one has the name.
        """
        known = self._processes.get(spec.name)
        if known is not None and known.alive:
            raise ProcessNameTakenError(spec.name, known.pid)
        process = ManagedProcess(spec, spec.log or self._logs / f"{spec.name}.log", self._register)
        self._processes[spec.name] = process
        try:
            await process.start()
        except BaseException:
            del self._processes[spec.name]
            raise
        return process

    async def start_on_free_port(self, make: Callable[[int], ProcessSpec]) -> tuple[ManagedProcess, int]:
        """Start the process that `make` describes for a port, and once more if that port was taken meanwhile."""
        port = free_port()
        try:
            return await self.start(make(port)), port
        except ProcessExitedError as error:
            if not any(words in error.tail.lower() for words in PORT_TAKEN):
                raise
        port = free_port()
        return await self.start(make(port)), port

    async def stop(self, name: str) -> None:
        """Stop a process in order and forget it. Raises UnknownProcessError."""
        await self.process(name).stop()
        del self._processes[name]

    async def kill(self, name: str) -> None:
        """SIGKILL a process and its group and forget it. Raises UnknownProcessError."""
        await self.process(name).kill()
        del self._processes[name]

    async def stop_all(self) -> None:
        """Stop everything, highest stage first, and the reaper last; a cancellation waits until that is done."""
        stopping = asyncio.ensure_future(self._stop_all())
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            await stopping
            raise

    async def _stop_all(self) -> None:
        for stage in sorted({process.spec.stage for process in self._processes.values()}, reverse=True):
            await asyncio.gather(*(p.stop() for p in self.processes() if p.spec.stage == stage))
        self._processes.clear()
        if self._reaper is not None:
            reaper, self._reaper = self._reaper, None
            assert reaper.stdin is not None
            reaper.stdin.close()
            await asyncio.to_thread(reaper.wait, REAPER_EXIT_SECONDS)

    def _register(self, sign: str, group: int) -> None:
        """Tell the reaper about a group; start it, or start it again, when it is not there."""
        if self._reaper is not None and self._tell(self._reaper, f"{sign}{group}\n"):
            return
        self._reaper = subprocess.Popen(
            (sys.executable, "-I", "-S", str(REAPER)), stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        groups = {process.pid for process in self._processes.values() if process.pid is not None}
        if sign == "+":
            groups.add(group)
        self._tell(self._reaper, "".join(f"+{number}\n" for number in groups))

    @staticmethod
    def _tell(reaper: subprocess.Popen[bytes], text: str) -> bool:
        assert reaper.stdin is not None
        try:
            os.write(reaper.stdin.fileno(), text.encode())
        except BrokenPipeError:
            return False
        return True
