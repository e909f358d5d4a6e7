"""Makes `.venv` and keeps it in line with requirements.txt; run by the launcher under whatever Python the machine has.

Decided here: what "ready" means. The stamp `.venv/.lifeboat-ready` holds the repository's folder, requirements.txt and
pyproject.toml byte for byte and is written last, so whatever stopped an earlier set-up, the next start sees it. A marker says
that pip is at work: an environment that still carries it was left half made and is built anew, because a half-written package
can look installed. An environment whose requirements have only changed is brought in line in place.

This module imports the standard library alone (nothing is installed yet) and removes no `.venv` but unfinished, moved or
broken ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MINIMUM_PYTHON = (3, 11)
READY = ".lifeboat-ready"
UNFINISHED = ".lifeboat-unfinished"

# pip is silent while it writes files: a line that moves tells a slow disk from a hang.
PROGRESS_SECONDS = 0.2
# Where standard error is a file or a CI log, one line in a while is enough.
PROGRESS_SECONDS_LOG = 15.0
# What pip gets to tidy up after Ctrl-C before it is killed.
STOP_SECONDS = 5.0


class SetupError(Exception):
    """The environment cannot be made; the message names the thing, the cause and the next step."""


@dataclass(frozen=True)
class Layout:
    """The files of one repository that a set-up reads and writes."""

    root: Path

    @property
    def environment(self) -> Path:
        """Return the folder of the virtual environment."""
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        """Return the environment's own interpreter."""
        return self.environment / "bin" / "python"

    @property
    def requirements(self) -> Path:
        """Return the list of pinned packages."""
        return self.root / "requirements.txt"

    @property
    def log(self) -> Path:
        """Return the file that holds everything pip said during the last set-up."""
        return self.root / ".lifeboat" / "setup.log"

    def stamp(self) -> bytes:
        """Return what the ready stamp must hold; the launcher compares the same bytes without starting Python.

        The folder is part of it because scripts and the editable install hold absolute paths: a copied environment
        would quietly run the code of the place it was copied from.
        """
        return (
            str(self.root).encode()
            + b"\n"
            + self.requirements.read_bytes()
            + (self.root / "pyproject.toml").read_bytes()
        )


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[int]:
    """Hold a lock between processes; call `waiting` once when another process holds it.

    Yields the lock's file descriptor: a child that inherits it keeps the lock held when this process is killed, so
    nobody else starts on files that the child still writes. The system drops the lock when the last holder ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def say(text: str) -> None:
    """Write one line to standard error; standard output belongs to the command that follows."""
    sys.stderr.write(f"lifeboat: {text}\n")
    sys.stderr.flush()


class ProgressLine:
    """One line on standard error that says what is being done and for how long; it rewrites itself on a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._detail = ""
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._live = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProgressLine:
        say(self._what)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._live:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def detail(self, text: str) -> None:
        """Say what is being worked on right now."""
        self._detail = text

    def _run(self) -> None:
        period = PROGRESS_SECONDS if self._live else PROGRESS_SECONDS_LOG
        while not self._stop.wait(period):
            line = f"  {time.monotonic() - self._started:4.0f} s  {self._detail}"
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\033[K{line[:width]}" if self._live else f"{line}\n")
            sys.stderr.flush()


def is_ready(layout: Layout) -> bool:
    """Tell whether the environment is complete and belongs to these requirements in this folder."""
    try:
        return os.access(layout.python, os.X_OK) and (layout.environment / READY).read_bytes() == layout.stamp()
    except OSError:
        return False


def must_rebuild(layout: Layout) -> str | None:
    """Return why the environment that is there cannot be kept; None when it can be brought in line, or there is none."""
    environment = layout.environment
    if not environment.exists():
        return None
    if (environment / UNFINISHED).exists():
        return "an earlier set-up was stopped half way"
    if not _python_runs(layout.python):
        return "its Python no longer runs or is older than 3.11"
    with contextlib.suppress(OSError):
        if (environment / READY).read_bytes().split(b"\n", 1)[0] != str(layout.root).encode():
            return "it was made for another folder"
    return None


def count_pins(requirements: str) -> int:
    """Count the packages that a requirements file names."""
    lines = (line.split("#", 1)[0].strip() for line in requirements.splitlines())
    return sum(1 for line in lines if line)


def explain(output: str, log: Path) -> str:
    """Turn what pip said into cause and next step."""
    text = output.lower()
    last_error = next((line.strip() for line in reversed(output.splitlines()) if line.strip().startswith("ERROR")), "")
    if "no space left on device" in text or "disk quota exceeded" in text:
        return "the disk is full. Free about 2 GB and run this again: it goes on from what is cached."
    unreachable = (
        "failed to establish a new connection",
        "name or service not known",
        "temporary failure in name resolution",
        "network is unreachable",
        "read timed out",
        "connecttimeout",
        "connection refused",
        "max retries exceeded",
        "proxyerror",
    )
    if any(sign in text for sign in unreachable):
        return (
            "the Python package index cannot be reached. Check the network, the proxy (HTTPS_PROXY) or the index "
            f"(pip config list), then run this again. Details: {log}"
        )
    if "certificate verify failed" in text:
        return f"the package index's certificate is not trusted here. Set PIP_CERT to your CA bundle. Details: {log}"
    if "no matching distribution found" in text:
        # pip says the same of an index that is down, and of one that lacks the package.
        wanted = text.rpartition("no matching distribution found for ")[2].split()[0]
        return (
            f"{wanted} was not to be had: the Python package index cannot be reached or lacks it. Check the network, the proxy "
            f"(HTTPS_PROXY) and the index (pip config list), then run this again. Details: {log}"
        )
    return f"{last_error or 'pip failed'} Details: {log}"


def set_up(layout: Layout) -> None:
    """Make the environment, or repair it, or do nothing when it is ready. Raises SetupError."""

    def waiting() -> None:
        say("another start is setting this folder up; waiting for it.")

    try:
        with exclusive(layout.root / ".lifeboat" / "setup.lock", waiting) as lock:
            if is_ready(layout):
                return
            reason = must_rebuild(layout)
            if reason:
                say(f"removing {layout.environment}: {reason}.")
                shutil.rmtree(layout.environment)
            _make(layout, lock)
            _install(layout, lock)
            # The stamp comes last and by rename: it is there whole or not at all.
            fresh = layout.environment / f"{READY}.new"
            fresh.write_bytes(layout.stamp())
            fresh.replace(layout.environment / READY)
            (layout.environment / UNFINISHED).unlink()
    except OSError as error:
        raise SetupError(
            f"set-up of {layout.environment} failed: {error}. Make sure that the folder is yours and that the disk has 2 GB "
            "free, then run this again."
        ) from error


def _make(layout: Layout, lock: int) -> None:
    unfinished = layout.environment / UNFINISHED
    if layout.environment.exists():
        (layout.environment / READY).unlink(missing_ok=True)
        unfinished.touch()
        return
    layout.environment.mkdir()
    unfinished.touch()
    say(f"making {layout.environment} with Python {sys.version.split()[0]}.")
    command = [sys.executable, "-I", "-m", "venv", str(layout.environment)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=(lock,))
    if done.returncode != 0:
        said = f"{done.stdout}\n{done.stderr}"
        if "ensurepip" in said:
            cause = (
                "this Python has no ensurepip. Install it (Debian: apt-get install python3-venv), then run this again."
            )
        elif "no space left" in said.lower():
            cause = explain(said, layout.log)
        else:
            last = said.strip().splitlines()[-1:] or ["no reason given"]
            cause = f"{last[0]}. Run this again with another Python first on PATH."
        raise SetupError(f"python -m venv {layout.environment} failed: {cause}")


def _install(layout: Layout, lock: int) -> None:
    total = count_pins(layout.requirements.read_text(encoding="utf-8"))
    command = [
        *(str(layout.python), "-I", "-u", "-m", "pip", "install"),
        # Compiled now, once: imports of the provider packages cost seconds in every run without it.
        "--compile",
        *("--no-input", "--disable-pip-version-check", "--progress-bar", "off", "-r", str(layout.requirements)),
    ]
    what = (
        f"installing {total} Python packages into .venv (engine, cloud libraries, test tools; about a minute, 1.4 GB)."
    )
    layout.log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=80)
    # PIP_USER and PIP_TARGET in the user's own environment would put the packages somewhere else.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONDONTWRITEBYTECODE", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_HASHES"}
    }
    with ProgressLine(what) as progress, layout.log.open("w", encoding="utf-8") as log:
        # A group of its own: Ctrl-C reaches this process alone, which then stops pip and everything pip started.
        process = subprocess.Popen(
            command,
            cwd=layout.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
            pass_fds=(lock,),
        )
        try:
            _follow(process, progress, log.write, tail, total)
        except BaseException:
            _stop(process)
            raise
    if process.returncode != 0:
        raise SetupError(f"installing the Python packages failed: {explain(chr(10).join(tail), layout.log)}")


def _follow(
    process: subprocess.Popen[str], progress: ProgressLine, log: Callable[[str], object], tail: deque[str], total: int
) -> None:
    seen = 0
    for line in process.stdout or ():
        log(line)
        tail.append(line.rstrip())
        if line.startswith(("Collecting ", "Requirement already satisfied")):
            seen += 1
            name = line.removeprefix("Collecting ").split(" (", 1)[0].strip()
            progress.detail(f"{min(seen, total)} of {total}: {name}")
        elif line.startswith("Installing collected packages"):
            progress.detail("writing and compiling files")
    process.wait()


def _stop(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _python_runs(python: Path) -> bool:
    check = f"import sys; sys.exit(sys.version_info < {MINIMUM_PYTHON})"
    try:
        return (
            subprocess.run([str(python), "-I", "-c", check], capture_output=True, check=False, timeout=30).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Set the repository up that this file belongs to; return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        set_up(Layout(Path(__file__).resolve().parents[2]))
    except SetupError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("set-up stopped; the next start begins again with what is already downloaded.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
