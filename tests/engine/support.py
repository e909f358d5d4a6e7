"""The real engine on a ground of its own: a home, a backend and a recorded ground in one folder.

`Engine` is for every engine test: give it a project folder and run `pulumi` in it. `isolated_engine` is its fixture.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.engine.environment import engine_environment
from local.providers.injections import Injection, add, clear
from local.state import Resource, ResourceStore

COMMAND_SECONDS = 300.0


@dataclass(frozen=True)
class Engine:
    """The `pulumi` command in one project, with its own home, backend and recorded ground."""

    project: Path
    ground: Path
    environment: dict[str, str]
    stack: str

    @classmethod
    def create(cls, folder: Path, project: Path, stack: str = "local") -> "Engine":
        """Make a home and a ground under `folder`, and the stack in them."""
        ground = folder / "ground"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "AWS_"))}
        environment = inherited | engine_environment(folder / "home", None, ground)
        engine = cls(project, ground, environment, stack)
        engine.run("stack", "init", stack).expect(0)
        return engine

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> "Finished":
        """Run one command to its end."""
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.project,
            env=self.environment | (environment or {}),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return Finished(done.returncode, done.stdout + done.stderr)

    def up(self, *arguments: str, environment: dict[str, str] | None = None) -> "Finished":
        """Deploy without a preview."""
        return self.run("up", "--yes", "--skip-preview", *arguments, environment=environment)

    def configure(self, key: str, value: str) -> None:
        """Set a key of the stack's config."""
        self.run("config", "set", key, value).expect(0)

    def outputs(self) -> dict[str, Any]:
        """Return the stack's outputs."""
        outputs: dict[str, Any] = json.loads(self.run("stack", "output", "--json").expect(0).output)
        return outputs

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the state's resources by their name."""
        exported = json.loads(self.run("stack", "export").expect(0).output)
        resources = exported["deployment"].get("resources", [])
        return {resource["urn"].rpartition("::")[2]: resource for resource in resources}

    def rows(self) -> list[Resource]:
        """Return everything that the clouds of the ground hold."""
        store = ResourceStore(self.ground)
        return [row for cloud in ("aws", "gcp", "cloudflare") for row in store.list(cloud)]

    def forget(self, type_token: str) -> None:
        """Take the resources of a type out of the clouds behind the engine's back."""
        store = ResourceStore(self.ground)
        for row in self.rows():
            if row.type == type_token:
                store.delete(row.cloud, row.type, row.id)

    def inject(self, injection: Injection) -> None:
        """Make operations slow or failing."""
        add(self.ground, injection)

    def recover(self) -> None:
        """End all injections."""
        clear(self.ground)

    def interrupt_when(self, text: str, *arguments: str) -> "Finished":
        """Run one command and send it SIGINT, as Ctrl-C does, once its output has the text."""
        log = self.ground / "interrupted.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                ["pulumi", *arguments, "--non-interactive"],
                cwd=self.project,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            try:
                wait_until(lambda: text in log.read_text(), f"{text!r} in the output of pulumi", COMMAND_SECONDS)
                process.send_signal(signal.SIGINT)
                code = process.wait(COMMAND_SECONDS)
            finally:
                process.kill()
                process.wait()
        return Finished(code, log.read_text())


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    output: str

    def expect(self, code: int) -> "Finished":
        """Fail the test with the whole output unless the command ended with the code."""
        assert self.code == code, f"pulumi ended with {self.code}:\n{self.output}"
        return self


def wait_until(condition: Callable[[], bool], what: str, limit_seconds: float) -> None:
    """Return when the condition holds; fail the test, naming it, when it does not within the limit."""
    deadline = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {limit_seconds:g} s"
        time.sleep(0.02)


@pytest.fixture
def isolated_engine(tmp_path: Path) -> Callable[[str], Engine]:
    """Return a maker of engines: give it a program's text, get the engine in a project around it."""

    def make(program: str) -> Engine:
        return Engine.create(tmp_path, write_project(tmp_path / "project", program))

    return make


def write_project(folder: Path, program: str) -> Path:
    """Write a project with one program, laid out as Lifeboat's own."""
    (folder / "infra").mkdir(parents=True)
    (folder / "Pulumi.yaml").write_text("name: tiny\nruntime: python\nmain: infra\n")
    (folder / "infra" / "__main__.py").write_text(program)
    return folder
