"""How old rows are when they can be read on the other side: a steady load on one site, a watch on the other, CPU by process.

The ground holds the feature path alone, both directions live (operate/bench/feature_path). Every row has a key of its own, so
none is overtaken and forgotten, and at the end every single one must be there. Reading is not free either: one row in five is
watched, chosen before it is written. The load comes from a process of its own: a writer that waits for the watch would show as
lag.
"""

import json
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from functions import settings
from functions.errors import FunctionError
from functions.features.apply import percentile
from functions.features.client import FeatureStore
from functions.settings import Site
from functions.stores.clients import Clients
from functions.stores.protocols import RowStore
from local.engine.environment import engine_environment
from local.ground.client import GroundClient, start_ground
from local.paths import ROOT
from operate import access
from operate.bench.features_load import features
from operate.bench.processes import cpu_seconds, spent
from operate.errors import LifeboatError
from operate.stacks import Stack
from operate.workspace import make_project

ROWS_A_SECOND = 500.0
WRITERS = 16
SECONDS = 20.0
WARM_SECONDS = 5.0
# One in so many rows is watched; the far side is asked for those on their way this often, so many at once.
WATCHED = 5
WATCH_SECONDS = 0.02
READ_KEYS = 100
# Rows that are not there this long after the last write are not coming.
LIMIT_SECONDS = 60.0
_READY_SECONDS = 60.0
_PROGRAM = ROOT / "operate" / "bench" / "feature_path"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LagFigures:
    """Milliseconds from the acknowledged write to the read on the other side, of the `watched` rows among `rows`.

    `rows_s` is the load that was really reached; `drained_ms`: how long after the last write all rows were there. CPU is that of
    all processes, the writer's and the watch's own included, until then, by process and for each row.
    """

    p50: float
    p99: float
    most: float
    rows_s: float
    rows: int
    watched: int
    drained_ms: int
    load_average: float
    cpu_ms_a_row: float
    cpu_by_process: Mapping[str, float]


@dataclass(frozen=True)
class _Written:
    """What the writer tells at the end: all keys with their versions, and its processor seconds."""

    versions: Mapping[str, int]
    cpu_seconds: float


def measure_lag(
    folder: Path, tell: Progress, rows_a_second: float = ROWS_A_SECOND, seconds: float = SECONDS
) -> Mapping[Site, LagFigures]:
    """Bring up the feature path in `folder` and return the lag of each direction, by the site that is written to."""
    ground = start_ground(folder, owned=True)
    try:
        os.environ.update(ground.environment())
        os.environ.setdefault(access.AWS_REGION, "us-west-2")
        tell("the feature path comes up")
        environment = {**os.environ, **_deploy(folder, ground)}
        found = {}
        for site in Site:
            # Once for nothing: functions start, connections open, Java compiles.
            tell(f"warming up {site} to {site.peer}")
            lag_of(ground, environment, site, rows_a_second / 2, WARM_SECONDS)
            tell(
                f"{rows_a_second:.0f} rows a second are written at {site} and watched at {site.peer} for {seconds:.0f} s"
            )
            found[site] = lag_of(ground, environment, site, rows_a_second, seconds)
        return found
    finally:
        ground.stop()


def _deploy(folder: Path, ground: GroundClient) -> dict[str, str]:
    """Deploy the program of the feature path and return the settings that open its stores."""
    project = make_project(folder / "project")
    (project / "infra").unlink()
    (project / "infra").symlink_to(_PROGRAM)
    stack = Stack(project, "local", engine_environment(folder / "engine", ground, None))
    stack.up()
    outputs = stack.outputs()
    return {
        settings.SITE: Site.AWS.value,
        settings.ARTIFACT_BUCKETS: json.dumps(outputs["buckets"]),
        settings.FEATURE_TABLES: json.dumps(outputs["tables"]),
    }


def lag_of(
    ground: GroundClient, environment: Mapping[str, str], site: Site, rows_a_second: float, seconds: float
) -> LagFigures:
    """Write at one site at a steady rate and return the lag at the other. Raises LifeboatError if rows do not arrive."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (dict(environment), site, rows_a_second, seconds, theirs)
    process = context.Process(target=_write, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_READY_SECONDS):
            raise LifeboatError(f"the writers of site {site} did not begin within {_READY_SECONDS:.0f} s")
        ours.recv()
        before, own = cpu_seconds(ground.pid), time.process_time()
        far = _clients(environment).rows(site.peer)
        lags, written = _watch(ours, site, far)
        ended = time.monotonic()
        _all_there(written.versions, site, far)
        drained = time.monotonic() - ended
        cpu = spent(before, cpu_seconds(ground.pid))
        cpu |= {"bench: writer": written.cpu_seconds, "bench: watch": time.process_time() - own}
        rows = len(written.versions)
        return LagFigures(
            p50=percentile(lags, 0.5),
            p99=percentile(lags, 0.99),
            most=max(lags),
            rows_s=round(rows / seconds, 1),
            rows=rows,
            watched=len(lags),
            drained_ms=round(drained * 1000),
            load_average=round(os.getloadavg()[0], 1),
            cpu_ms_a_row=round(sum(cpu.values()) / rows * 1000, 2),
            cpu_by_process={name: round(spent_here / rows * 1000, 2) for name, spent_here in cpu.items()},
        )
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()


def _watch(told: Connection, site: Site, far: RowStore) -> tuple[list[int], _Written]:
    """Return the lags of the watched rows once all of them have been seen, and what the writer told at its end."""
    waiting: dict[str, tuple[int, float]] = {}
    lags: list[int] = []
    written: _Written | None = None
    limit = float("inf")
    while written is None or waiting:
        if time.monotonic() > limit:
            raise LifeboatError(
                f"{len(waiting)} watched rows of {site} are not at {site.peer}; look at its functions' logs"
            )
        while written is None and told.poll():
            message = told.recv()
            if isinstance(message, _Written):
                written, limit = message, time.monotonic() + LIMIT_SECONDS
            else:
                key, version, at = message
                waiting[key] = (version, at)
        asked = list(waiting)[:READ_KEYS]
        found = far.read(asked) if asked else {}
        now = time.monotonic()
        for key, row in found.items():
            version, at = waiting[key]
            if row.version >= version:
                del waiting[key]
                lags.append(round((now - at) * 1000))
        if len(found) < READ_KEYS:
            threading.Event().wait(WATCH_SECONDS)
    return lags, written


def _all_there(versions: Mapping[str, int], site: Site, far: RowStore) -> None:
    """Wait until the far side holds every row that was written."""
    missing: Sequence[str] = list(versions)
    limit = time.monotonic() + LIMIT_SECONDS
    while missing:
        found = far.read(missing)
        missing = [key for key in missing if key not in found or found[key].version < versions[key]]
        if missing and time.monotonic() > limit:
            raise LifeboatError(
                f"{len(missing)} of {len(versions)} rows of {site} are not at {site.peer}; look at its functions' logs"
            )
        if missing:
            threading.Event().wait(WATCH_SECONDS)


def _clients(environment: Mapping[str, str]) -> Clients:
    return Clients(settings.read(environment), environment)


def _write(environment: Mapping[str, str], site: Site, rows_a_second: float, seconds: float, told: Connection) -> None:
    """Write from some threads at a steady rate together, and tell of each watched row when it is acknowledged."""
    os.environ.update(environment)
    clients = _clients(environment)
    lock = threading.Lock()
    run = f"{time.time_ns():x}"
    versions: dict[str, int] = {}

    def work(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - a load, not a secret
        store = FeatureStore(clients.rows(site), site, lambda: time.time_ns() // 1_000_000)
        due = began + number / rows_a_second
        turn = 0
        while due < began + seconds:
            threading.Event().wait(max(0.0, due - time.monotonic()))
            # A store that was slow must not be followed by a burst.
            due = max(due + WRITERS / rows_a_second, time.monotonic() - WRITERS / rows_a_second)
            turn += 1
            key = f"lag#{run}#{number}#{turn}"
            try:
                version = store.set(key, features(chance, 0))
            except FunctionError:
                continue
            at = time.monotonic()
            with lock:
                versions[key] = version
                if (turn + number) % WATCHED == 0:
                    told.send((key, version, at))

    told.send("ready")
    own = time.process_time()
    began = time.monotonic() + 0.5
    threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.send(_Written(versions, time.process_time() - own))
