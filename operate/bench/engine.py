"""How long the engine takes: a first `up`, an empty second one, and a flip of the active site.

Twice: for stack `local`, with everything live behind it, and for stack `prod` on record, where only the engine, the program and
the plugins work. Medians over the runs, each of which begins with nothing and destroys what it made.
"""

import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from functions.settings import Site
from local.engine.environment import engine_environment
from local.ground.client import start_ground
from operate import access
from operate.demo.clock import now_ms
from operate.demo.models import Workshop, publish_and_follow
from operate.demo.sites import Ground, wait_until
from operate.host import host
from operate.report.result import Host
from operate.stacks import Stack
from operate.workspace import make_project
from service.train import TrainingPlan

# Small, so that the bench measures the engine and not the training.
PLAN = TrainingPlan(user_rows=2_000, product_rows=1_000, embedding_size=32, interactions=20_000)
READY_SECONDS = 60.0
ON_RECORD = "a bench on record: nothing runs that a gate could ask"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class EngineFigures:
    """Medians in seconds of one stack."""

    stack: str
    resources: int
    up_seconds: float
    noop_seconds: float
    flip_seconds: float
    runs: int


@dataclass(frozen=True)
class EngineBench:
    """What `bench engine` found: the local stack with everything live, and prod on record."""

    local: EngineFigures
    record: EngineFigures
    host: Host


def run(runs: int, tell: Progress) -> EngineBench:
    """Measure both stacks, `runs` times each."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-bench-") as folder:
        record = _on_record(Path(folder) / "record", runs, tell)
        local = _live(Path(folder) / "live", runs, tell)
    return EngineBench(local, record, host())


def _on_record(folder: Path, runs: int, tell: Progress) -> EngineFigures:
    stack = Stack(
        make_project(folder / "project"), "prod", engine_environment(folder / "engine", None, folder / "record")
    )
    stack.set_config("lifeboat:gateOverride", ON_RECORD)
    stack.set_config("lifeboat:lost", "none")
    stack.set_config("lifeboat:protectData", "false")
    return _measure(stack, runs, lambda: None, tell)


def _live(folder: Path, runs: int, tell: Progress) -> EngineFigures:
    client = start_ground(folder / "ground", owned=True)
    try:
        environment = engine_environment(folder / "engine", client, None)
        os.environ.update(client.environment())
        os.environ.setdefault(access.AWS_REGION, "us-west-2")
        stack = Stack(make_project(folder / "project"), "local", environment)
        workshop = Workshop(folder / "models", PLAN)
        version = workshop.first()

        def make_ready() -> None:
            outputs, ground = stack.outputs(), Ground(client)
            clients = access.clients(outputs, os.environ)
            artifact = publish_and_follow(clients, Site.AWS, str(outputs["model"]), version, None, now_ms)
            wait_until(lambda: ground.all_serve(artifact.version), READY_SECONDS, "every host serves the model")

        return _measure(stack, runs, make_ready, tell)
    finally:
        client.stop()


def _measure(stack: Stack, runs: int, make_ready: Callable[[], None], tell: Progress) -> EngineFigures:
    ups, noops, flips = [], [], []
    resources = 0
    for number in range(1, runs + 1):
        tell(f"stack {stack.name}, run {number} of {runs}; up")
        stack.set_config("lifeboat:active", Site.AWS)
        up = stack.up()
        ups.append(up.seconds)
        resources = up.resources
        tell(f"stack {stack.name}, run {number} of {runs}; empty second up")
        noops.append(stack.up().seconds)
        make_ready()
        tell(f"stack {stack.name}, run {number} of {runs}; flip")
        stack.set_config("lifeboat:active", Site.GCP)
        flips.append(stack.up().seconds)
        tell(f"stack {stack.name}, run {number} of {runs}; destroy")
        stack.destroy()
    up_seconds, noop_seconds, flip_seconds = (round(statistics.median(each), 2) for each in (ups, noops, flips))
    return EngineFigures(stack.name, resources, up_seconds, noop_seconds, flip_seconds, runs)
