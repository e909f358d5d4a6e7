"""How commands speak: results on standard output, as a table for people or JSON for machines; progress on standard error."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

Progress = Callable[[str], None]

# Where standard error is a file or a CI log: how often a long step says that it still works.
LOG_SECONDS = 15.0


def write_json(data: object) -> None:
    """Write one JSON document to standard output; dataclasses, pydantic models, enums and paths are understood."""
    sys.stdout.write(json.dumps(data, default=_plain, indent=2, ensure_ascii=False) + "\n")


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if callable(dump := getattr(value, "model_dump", None)):
        # A pydantic model; importing its library for the test of type would slow every command's start.
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Write a table to standard output; cells may hold rich markup."""
    from rich.console import Console
    from rich.table import Table

    # A log or a pipe has no width of its own, and a path that is cut is of no use.
    console = Console(width=None if sys.stdout.isatty() else 200)
    if title:
        console.print(title, soft_wrap=True, markup=False, highlight=False)
    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def say(text: str) -> None:
    """Write one line for people to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a function that is told what is being done and why; each step is shown with its time.

    What follows the first "; " of a message is a detail of the same step: a count, a name.
    """
    if sys.stderr.isatty():
        with _bars() as bars:
            steps = _LiveSteps(bars)
            yield steps.tell
            steps.finish()
    else:
        lines = _LoggedSteps()
        yield lines.tell
        lines.finish()


def _bars() -> "RichProgress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


class _LiveSteps:
    """One line a step on a terminal, the last one moving."""

    def __init__(self, bars: "RichProgress") -> None:
        self._bars = bars
        self._head = ""
        self._task: TaskID | None = None

    def tell(self, message: str) -> None:
        head = message.partition("; ")[0]
        if self._task is not None and head == self._head:
            self._bars.update(self._task, description=message)
            return
        self.finish()
        self._head = head
        self._task = self._bars.add_task(message, total=None)

    def finish(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, description=self._head, total=1, completed=1)


class _LoggedSteps:
    """A line when a step starts, one now and then while it goes on, one when it is done."""

    def __init__(self) -> None:
        self._head = ""
        self._started = 0.0
        self._said = 0.0

    def tell(self, message: str) -> None:
        head = message.partition("; ")[0]
        now = time.monotonic()
        if head != self._head:
            self.finish()
            self._head, self._started, self._said = head, now, now
            say(f"{head} ...")
        elif now - self._said >= LOG_SECONDS:
            self._said = now
            say(f"  {now - self._started:.0f} s: {message.partition('; ')[2] or head}")

    def finish(self) -> None:
        if self._head:
            say(f"  done in {time.monotonic() - self._started:.1f} s")
            self._head = ""
