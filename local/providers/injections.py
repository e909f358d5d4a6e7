"""Slow and failing operations on demand, for tests: a file in the ground's folder that every plugin reads.

`delay_seconds` holds the operation up before it starts; `error` makes it fail with that text; `times` says how often
the injection applies (for ever when left out).
"""

import fcntl
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from local.providers.errors import CancelledError, InjectedError

FILE_NAME = "injections.json"


@dataclass(frozen=True)
class Injection:
    """What happens to an operation (`create`, `read`, `update`, `delete`) on a type; `*` stands for every type."""

    type: str
    operation: str
    error: str | None = None
    delay_seconds: float = 0.0
    times: int | None = None

    def matches(self, token: str, operation: str) -> bool:
        """Tell whether this injection is for the operation."""
        return self.type in (token, "*") and self.operation == operation and self.times != 0


def add(folder: Path, injection: Injection) -> None:
    """Add an injection to a ground; it applies from the next operation on, also of plugins that run already."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _write(folder, [*_read(folder), injection])


def clear(folder: Path) -> None:
    """Remove all injections of a ground."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def apply(folder: Path, token: str, operation: str, cancelled: threading.Event) -> None:
    """Hold up or fail an operation as the ground's injections say.

    Raises InjectedError, or CancelledError when the engine cancels during a delay.
    """
    if not (folder / FILE_NAME).exists():
        return
    with _locked(folder):
        injections = _read(folder)
        found = next((item for item in injections if item.matches(token, operation)), None)
        if found is None:
            return
        if found.times is not None:
            index = injections.index(found)
            injections[index] = Injection(**{**asdict(found), "times": found.times - 1})
            _write(folder, injections)
    if found.delay_seconds and cancelled.wait(found.delay_seconds):
        raise CancelledError(f"{operation} of {token} was cancelled while an injected delay held it up")
    if found.error is not None:
        raise InjectedError(found.error)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / f"{FILE_NAME}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _read(folder: Path) -> list[Injection]:
    file = folder / FILE_NAME
    return [Injection(**item) for item in json.loads(file.read_text())] if file.exists() else []


def _write(folder: Path, injections: list[Injection]) -> None:
    temporary = folder / f"{FILE_NAME}.new"
    temporary.write_text(json.dumps([asdict(item) for item in injections]))
    temporary.replace(folder / FILE_NAME)
