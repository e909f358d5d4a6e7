"""Small processes to supervise, and waiting for conditions."""

import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from local.supervisor import CallProbe, ProcessSpec

WAIT_SECONDS = 20.0
POLL_SECONDS = 0.01

SLEEPER = "import signal; signal.pause()"
LISTENER = """
    import socket, sys, signal
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    signal.pause()
"""
# Starts a child that ignores SIGTERM and prints its pid.
GRANDPARENT = """
    import subprocess, sys, signal
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", code])
    print(child.pid, flush=True)
    signal.pause()
"""


def until(condition: Callable[[], bool], what: str, limit_seconds: float = WAIT_SECONDS) -> None:
    """Wait until the condition holds; fail with `what` was waited for when it does not within the limit."""
    deadline = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit_seconds:g} s for {what}")
        time.sleep(POLL_SECONDS)


def gone(pid: int) -> bool:
    """Say whether no such process runs; a zombie that nobody collects runs nothing."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def python(name: str, code: str, *arguments: str, **fields: object) -> ProcessSpec:
    """Return a process that runs a piece of Python."""
    return ProcessSpec(name, (sys.executable, "-c", textwrap.dedent(code), *arguments), **fields)  # type: ignore[arg-type]


def family_probe(log: Path) -> CallProbe:
    """Return a probe that holds once GRANDPARENT has printed its child's pid."""

    async def printed() -> bool:
        return log.read_text().endswith("\n")

    return CallProbe("the grandchild's pid", printed)
