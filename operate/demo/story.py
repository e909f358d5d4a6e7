"""Tells a run step by step: what happens, why, how long it took, and what was checked."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.markup import escape

# A long step says that it still works this often where there is no terminal to move a spinner on.
LOG_SECONDS = 15.0


class Story:
    """Writes steps to a stream and keeps the checks, by name, that the run made."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._number = 0
        self.began = time.monotonic()
        self.checks: dict[str, bool] = {}

    @contextmanager
    def step(self, title: str, why: str) -> Iterator["Step"]:
        """Tell a step: its title and reason at once, then its results and its time when the block ends."""
        self._number += 1
        self._console.print(f"\n[bold]{self._number}. {escape(title)}[/]  [dim]{escape(why)}[/]")
        step = Step(self._console)
        if self._console.is_terminal:
            with self._console.status("working ..."):
                yield step
        else:
            yield step
        self._console.print(f"   [dim]{step.seconds:.1f} s[/]")

    def check(self, name: str, passed: bool, detail: str = "") -> None:
        """Keep and tell the result of a check; a name is checked once."""
        self.checks[name] = passed
        mark = "[green]✓[/]" if passed else "[red]✗[/]"
        self._console.print(f"   {mark} {escape(name)}{f' [dim]({escape(detail)})[/]' if detail else ''}")

    @property
    def passed(self) -> bool:
        """Return whether every check passed."""
        return all(self.checks.values())

    @property
    def seconds(self) -> float:
        """Return the seconds since the story began."""
        return time.monotonic() - self.began

    def end(self, text: str) -> None:
        """Write the last line."""
        self._console.print(f"\n[bold]{escape(text)}[/]")


class Step:
    """One step under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._told = self._began

    @property
    def seconds(self) -> float:
        """Return the seconds since the step began."""
        return time.monotonic() - self._began

    def tell(self, text: str) -> None:
        """Write a line of what happened."""
        self._console.print(f"   {escape(text)}")

    def working(self, text: str) -> None:
        """Say now and then, where no terminal shows it, that the step still works."""
        if not self._console.is_terminal and time.monotonic() - self._told > LOG_SECONDS:
            self._told = time.monotonic()
            self._console.print(f"   [dim]{self.seconds:.0f} s: {escape(text)}[/]")
