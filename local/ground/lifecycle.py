"""Start a ground's daemon and wait for it; wait for its end.

Who starts a daemon reads its progress, its error or its readiness from a pipe, so nothing here guesses by time. Two starts
in one folder race for the daemon's lock: the loser's starter waits for the winner's ground.
"""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from local.errors import GroundBusyError, GroundNotRunningError, GroundStartError
from local.ground.lock import GroundLock
from local.ground.record import GroundRecord, read_record
from local.names import Cloud
from local.paths import ROOT

START_SECONDS = 180.0
# The daemon stops its children stage by stage, each within its own limit; this is more than all of them.
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02

# Daemons that this process has started. Kept so that they are collected when they end, and because the pipe of an owned
# one must stay open for as long as this process lives.
_started: dict[Path, subprocess.Popen[bytes]] = {}


def launch(
    folder: Path, progress: Callable[[str], None] | None, *, owned: bool, clouds: Collection[Cloud]
) -> GroundRecord:
    """Return the record of the ready ground of the folder, starting it when it does not run.

    An owned ground ends with this process, however that ends. Raises GroundBusyError when a ground to be owned runs
    already, GroundStartError with the daemon's reason when it cannot start.
    """
    deadline = time.monotonic() + START_SECONDS
    report = progress or (lambda _: None)
    while True:
        running = _running(folder)
        if running is not None:
            if owned:
                raise GroundBusyError(folder)
            report(f"ground {folder} runs already as pid {running.pid}")
        elif not _spawn(folder, report, owned=owned, clouds=clouds, deadline=deadline):
            if owned:
                raise GroundBusyError(folder)
            report(f"another process starts the ground {folder}; waiting for it")
        record = _ready(folder, deadline)
        if record is not None:
            return record
        # The other starter's ground ended before it was ready: this one's turn.


def wait_until_gone(folder: Path, record: GroundRecord) -> None:
    """Wait until a ground's daemon has ended. Raises GroundStartError when it does not."""
    deadline = time.monotonic() + STOP_SECONDS
    child = _started.get(folder)
    while record.alive():
        if time.monotonic() > deadline:
            raise GroundStartError(f"ground {folder}, pid {record.pid}, did not end within {STOP_SECONDS:g} s: kill it")
        time.sleep(POLL_SECONDS)
    if child is not None:
        _collect(folder, child)


def _running(folder: Path) -> GroundRecord | None:
    try:
        return read_record(folder)
    except GroundNotRunningError:
        return None


def _ready(folder: Path, deadline: float) -> GroundRecord | None:
    """Return the record once it is ready; None when nothing starts in the folder any more."""
    # The winner of a race writes its record only when its ports are known: its absence says nothing before that.
    seen = False
    while time.monotonic() < deadline:
        record = _running(folder)
        if record is not None and record.ready:
            return record
        if record is None and (seen or not GroundLock(folder).held()):
            return None
        seen = seen or record is not None
        time.sleep(POLL_SECONDS)
    raise GroundStartError(
        f"ground {folder} was not ready within {START_SECONDS:g} s: see {folder / 'logs' / 'ground.log'}"
    )


def _spawn(
    folder: Path, report: Callable[[str], None], *, owned: bool, clouds: Collection[Cloud], deadline: float
) -> bool:
    """Start a daemon and wait until it is ready; False when another holds the folder."""
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "local.ground", str(folder), "--clouds", ",".join(clouds)]
    with (logs / "ground.log").open("ab") as log:
        child = subprocess.Popen(
            command + (["--owned"] if owned else []),
            stdin=subprocess.PIPE if owned else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    _started[folder] = child
    try:
        for message in _messages(child, deadline):
            if "progress" in message:
                report(message["progress"])
            elif "error" in message:
                raise GroundStartError(message["error"])
            else:
                return "ready" in message
        raise GroundStartError(
            f"the ground's daemon ended with exit code {child.wait()} before it was ready; the last lines of"
            f" {logs / 'ground.log'}:\n" + "\n".join((logs / "ground.log").read_text().splitlines()[-20:])
        )
    except BaseException:
        # Also at Ctrl-C: a half-started ground is of no use to anybody.
        child.terminate()
        _collect(folder, child)
        raise
    finally:
        if child.stdout is not None:
            child.stdout.close()


def _messages(child: subprocess.Popen[bytes], deadline: float) -> Iterator[dict[str, str]]:
    """Yield the daemon's messages, one JSON object a line, until its pipe ends or the time is over."""
    assert child.stdout is not None
    descriptor, rest = child.stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(descriptor, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield json.loads(line)
    yield {"error": f"the ground was not ready within {START_SECONDS:g} s; its logs are beside its folder's ground.log"}


def _collect(folder: Path, child: subprocess.Popen[bytes]) -> None:
    """Wait for a daemon that is ending, by force after the limit."""
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdin is not None:
        child.stdin.close()
    if _started.get(folder) is child:
        del _started[folder]
