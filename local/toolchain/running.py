"""Runs the commands that make tools: with a limit, stoppable, the last of what they said kept for the error."""

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# What a stopped command gets to remove its own temporary files.
STOP_SECONDS = 5.0
KEPT_LINES = 40


@dataclass(frozen=True)
class Outcome:
    """How a command ended and the last lines it said."""

    exit_code: int
    tail: str
    timed_out: bool


def run(
    command: list[str],
    *,
    environment: Mapping[str, str],
    seconds: float,
    on_line: Callable[[str], None] | None = None,
    keep_open: int | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Run a command to its end, or stop it and its children after `seconds` or when this process is interrupted.

    `keep_open` is a descriptor that the command inherits: the lock on the cache, which so outlives us if we are killed.
    """
    tail: deque[str] = deque(maxlen=KEPT_LINES)
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=() if keep_open is None else (keep_open,),
    )
    with _limit(process, seconds) as timed_out:
        try:
            for line in process.stdout or ():
                tail.append(line.rstrip())
                if on_line:
                    on_line(line.rstrip())
            process.wait()
        except BaseException:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            _signal(process, signal.SIGKILL)
            process.wait()
            raise
    return Outcome(process.returncode, "\n".join(tail), timed_out.is_set())


@contextlib.contextmanager
def _limit(process: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    timed_out = threading.Event()

    def stop() -> None:
        timed_out.set()
        _signal(process, signal.SIGKILL)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield timed_out
    finally:
        timer.cancel()


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def cause_of(outcome: Outcome) -> str:
    """Return why a command failed, in words where the reason is a common one, else its last line."""
    text = outcome.tail.lower()
    if outcome.timed_out:
        return "it took too long"
    if "no space left on device" in text:
        return "the disk is full (5 GB are needed while building)"
    network = (
        "no such host",
        "connection refused",
        "i/o timeout",
        "network is unreachable",
        "unknown host",
        "connection timed out",
        "temporary failure",
    )
    if any(sign in text for sign in network):
        return "the package source cannot be reached"
    lines = [line.strip() for line in outcome.tail.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {outcome.exit_code} and no word"
