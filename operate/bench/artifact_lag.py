"""How old a version is when the other side serves it: the local stack, the demo's model trained on in small steps.

The time begins when the publish returns, manifest and alias written, and ends when the alias on the other site names the version,
which it does only after every file has been proven there.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from functions.artifacts import alias as aliases
from functions.features.apply import percentile
from functions.settings import DEFAULT_MODEL, Site
from local.engine.environment import engine_environment
from local.ground.client import start_ground
from operate import access
from operate.demo.sites import wait_until
from operate.host import host
from operate.publish import Request, publish_folder
from operate.report.result import Host
from operate.stacks import Stack
from operate.workspace import make_project
from service import model, train

ALIAS = "bench"
# New interactions before each version: one in a hundred of the first training's.
STEP_SHARE = 100
LIMIT_SECONDS = 120.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class LagBench:
    """Seconds from published to served on the other side, over `versions` versions; the first of all is not counted."""

    versions: int
    bytes_raw: int
    p50: float
    p99: float
    most: float
    site: Site
    host: Host


def run(versions: int, site: Site, tell: Tell) -> LagBench:
    """Bring up the local stack and publish so many versions at a site, one after the other."""
    with TemporaryDirectory() as name:
        return _run(Path(name), versions, site, tell)


def _run(folder: Path, versions: int, site: Site, tell: Tell) -> LagBench:
    client = start_ground(folder / "ground", owned=True)
    try:
        os.environ.update(client.environment())
        os.environ.setdefault(access.AWS_REGION, "us-west-2")
        project = make_project(folder / "project")
        stack = Stack(project, "local", engine_environment(folder / "engine", client, None))
        tell("the local stack comes up")
        stack.up()
        clients = access.clients(stack.outputs(), os.environ)
        far = clients.objects(site.peer)
        plan = train.TrainingPlan()
        market = train.market(plan)
        tell("training the first version")
        trained = train.first(plan, market.draw(plan.interactions, seed=plan.seed + 10))
        parent, seconds, size = None, [], 0
        for number in range(versions + 1):
            at = folder / f"v{number}"
            model.write(train.with_golden(trained.model), at)
            request = Request(at, DEFAULT_MODEL, site.value, parent, ALIAS)
            published = publish_folder(clients, request, lambda _: None)

            def served(version: str = published.version) -> tuple[bool, str]:
                moved = aliases.current(far, DEFAULT_MODEL, ALIAS)
                return moved is not None and moved.version == version, f"alias there: {moved}"

            began = time.monotonic()
            wait_until(served, LIMIT_SECONDS, f"{published.version[:12]} on {site.peer}")
            if number:
                # The first goes whole, and functions start for it.
                seconds.append(time.monotonic() - began)
                tell(f"version {number} of {versions}: {seconds[-1]:.2f} s")
            parent, size = published.version, published.bytes_raw
            newer = market.draw(plan.interactions // STEP_SHARE, seed=plan.seed + 100 + number)
            trained = train.further(trained, plan, newer)
        milliseconds = [round(1000 * each) for each in seconds]
        return LagBench(
            versions,
            size,
            percentile(milliseconds, 0.5) / 1000,
            percentile(milliseconds, 0.99) / 1000,
            max(milliseconds) / 1000,
            site,
            host(),
        )
    finally:
        client.stop()
