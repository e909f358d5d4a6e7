"""Thin over Pulumi's Automation API: the real CLI with our environment, its events turned into figures people ask for."""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulumi import automation
from pulumi.automation.events import EngineEvent

from operate.errors import EngineFailedError

Progress = Callable[[str], None]

# Operations of the engine that leave a resource as it is.
UNCHANGED = frozenset({"same", "read", "refresh"})
# Lines of the engine's own output that an error quotes where no resource reported one.
QUOTED_LINES = 25
# The engine marks colours in its messages like <{%reset%}>.
COLOUR = re.compile(r"<\{%[^%]*%\}>")


@dataclass(frozen=True)
class Mark:
    """An engine event with the seconds since the operation began."""

    seconds: float
    kind: str
    urn: str
    operation: str


@dataclass(frozen=True)
class Log:
    """A line that the program wrote with `pulumi.log`, with the seconds since the operation began."""

    seconds: float
    message: str


@dataclass(frozen=True)
class Outcome:
    """What an operation did: resources in the stack, changed ones by operation, seconds, its events and log lines in order."""

    seconds: float
    resources: int
    changes: Mapping[str, int]
    marks: tuple[Mark, ...] = field(repr=False)
    logs: tuple[Log, ...] = field(repr=False)

    @property
    def changed(self) -> int:
        """Return how many resources were created, updated, replaced or deleted."""
        return sum(count for operation, count in self.changes.items() if operation not in UNCHANGED)


class Stack:
    """One stack of a project folder, operated through the CLI with a given environment."""

    def __init__(self, project: Path, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        # The Automation API looks the CLI up on this process's own PATH before it looks at the environment it is given.
        os.environ["PATH"] = environment["PATH"]
        self._stack = automation.create_or_select_stack(
            stack_name=name,
            work_dir=str(project),
            opts=automation.LocalWorkspaceOptions(env_vars=dict(environment)),
        )

    @property
    def engine_version(self) -> str:
        """Return the version of the Pulumi CLI in use."""
        return str(self._stack.workspace.pulumi_version)

    def set_config(self, key: str, value: str) -> None:
        """Set a config key, `namespace:key`, as `pulumi config set` does."""
        self._stack.set_config(key, automation.ConfigValue(value=value))

    def up(self, on_line: Progress | None = None) -> Outcome:
        """Update the stack. Raises EngineFailedError with the engine's words."""
        return self._run(self._stack.up, on_line)

    def preview(self, on_line: Progress | None = None) -> Outcome:
        """Preview an update. Raises EngineFailedError with the engine's words."""
        return self._run(self._stack.preview, on_line)

    def destroy(self, on_line: Progress | None = None) -> Outcome:
        """Delete everything in the stack. Raises EngineFailedError with the engine's words."""
        return self._run(self._stack.destroy, on_line)

    def cancel(self) -> None:
        """Release the lock that a killed operation left."""
        self._stack.cancel()

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs as plain values."""
        return {name: output.value for name, output in self._stack.outputs().items()}

    def resources(self) -> int:
        """Return how many resources the stack holds, the stack itself and its providers included."""
        deployment = self._stack.export_stack().deployment or {}
        return len(deployment.get("resources") or [])

    def _run(self, operation: Callable[..., Any], on_line: Progress | None) -> Outcome:
        began = time.monotonic()
        marks: list[Mark] = []
        changes: dict[str, int] = {}
        lines: list[str] = []
        errors: list[str] = []
        logs: list[Log] = []

        def on_event(event: EngineEvent) -> None:
            said = event.diagnostic_event
            if said is not None and said.severity == "error":
                errors.append(f"{_short(said.urn)}{COLOUR.sub('', said.message).strip()}")
            elif said is not None:
                logs.append(Log(time.monotonic() - began, COLOUR.sub("", said.message).strip()))
            for kind, body in (("begin", event.resource_pre_event), ("end", event.res_outputs_event)):
                if body is not None:
                    operated = str(getattr(body.metadata.op, "value", body.metadata.op))
                    marks.append(Mark(time.monotonic() - began, kind, body.metadata.urn, operated))
            if event.summary_event is not None:
                changes.update({str(name): count for name, count in event.summary_event.resource_changes.items()})

        def on_output(line: str) -> None:
            lines.append(line)
            if on_line is not None:
                on_line(line)

        try:
            operation(on_output=on_output, on_event=on_event)
        except automation.CommandError as error:
            said = "\n".join(errors) or "\n".join(lines[-QUOTED_LINES:]) or str(error)
            raise EngineFailedError(f"pulumi on stack {self.name} failed:\n{said}") from error
        seconds = time.monotonic() - began
        return Outcome(seconds, self.resources(), changes, tuple(marks), tuple(logs))


def _short(urn: str | None) -> str:
    """Return "name: " for a resource's URN, "" for the stack itself."""
    if not urn or "pulumi:pulumi:Stack" in urn:
        return ""
    return f"{urn.rsplit('::', 1)[-1]}: "
