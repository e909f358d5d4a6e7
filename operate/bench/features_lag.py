"""How old rows are when they can be read on the other side: the local stack, a steady load on one site, a watch on the other.

Every row has a key of its own, so each write is waited for until it is seen; none is overtaken and forgotten. The load comes
from a process of its own: a writer that waits for the watch's turn would show in the figures as lag.
"""

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from functions.errors import FunctionError
from functions.features.apply import percentile
from functions.features.client import FeatureStore
from functions.settings import Site
from functions.stores.clients import Clients
from local.engine.environment import engine_environment
from local.ground.client import start_ground
from operate import access
from operate.bench.features_load import features
from operate.errors import LifeboatError
from operate.stacks import Stack
from operate.workspace import make_project

ROWS_A_SECOND = 500.0
WRITERS = 16
SECONDS = 20.0
# How exact a lag is: the far side is asked for the rows on their way this often, this many at once.
WATCH_SECONDS = 0.01
READ_KEYS = 100
# Rows that are not there this long after the last write are not coming.
LIMIT_SECONDS = 60.0
_READY_SECONDS = 60.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LagFigures:
    """Milliseconds from the acknowledged write to the read on the other side; `rows_s` is the load that was really reached."""

    p50: float
    p99: float
    most: float
    rows_s: float
    rows: int


def measure_lag(folder: Path, tell: Progress) -> Mapping[Site, LagFigures]:
    """Bring up the local stack in `folder` and return the lag of each direction, by the site that is written to."""
    client = start_ground(folder, owned=True)
    try:
        os.environ.update(client.environment())
        os.environ.setdefault(access.AWS_REGION, "us-west-2")
        stack = Stack(make_project(folder / "project"), "local", engine_environment(folder / "engine", client, None))
        tell("the local stack comes up")
        stack.up()
        outputs = stack.outputs()
        clients = access.clients(outputs, os.environ)
        found = {}
        for site in Site:
            # Once for nothing: functions start, connections open.
            lag_of(outputs, site, clients, ROWS_A_SECOND, 2.0)
            tell(
                f"{ROWS_A_SECOND:.0f} rows a second are written at {site} and watched at {site.peer} for {SECONDS:.0f} s"
            )
            found[site] = lag_of(outputs, site, clients, ROWS_A_SECOND, SECONDS)
        return found
    finally:
        client.stop()


def lag_of(
    outputs: Mapping[str, object], site: Site, clients: Clients, rows_a_second: float, seconds: float
) -> LagFigures:
    """Write at one site at a steady rate and return the lag at the other. Raises LifeboatError if rows do not arrive."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_write, args=(outputs, site, rows_a_second, seconds, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_READY_SECONDS):
            raise LifeboatError(f"the writers of site {site} did not begin within {_READY_SECONDS:.0f} s")
        ours.recv()
        return _watch(ours, site, clients, seconds)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()


def _watch(written: Connection, site: Site, clients: Clients, seconds: float) -> LagFigures:
    far = clients.rows(site.peer)
    waiting: dict[str, tuple[int, float]] = {}
    lags: list[int] = []
    total, ended = 0, 0.0
    while not ended or waiting:
        if ended and time.monotonic() - ended > LIMIT_SECONDS:
            raise LifeboatError(
                f"{len(waiting)} of {total} rows of {site} are not at {site.peer}; look at its functions' logs"
            )
        while not ended and written.poll():
            acknowledged = written.recv()
            if acknowledged is None:
                ended = time.monotonic()
                break
            waiting[acknowledged[0]] = acknowledged[1:]
            total += 1
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
    return LagFigures(percentile(lags, 0.5), percentile(lags, 0.99), max(lags), round(total / seconds, 1), total)


def _write(outputs: Mapping[str, object], site: Site, rows_a_second: float, seconds: float, told: Connection) -> None:
    """Write from some threads at a steady rate together, and tell of each row when it is acknowledged."""
    clients = access.clients(outputs, os.environ)
    lock = threading.Lock()
    run = f"{time.time_ns():x}"

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
                told.send((key, version, at))

    told.send("ready")
    began = time.monotonic() + 0.5
    threads = [threading.Thread(target=work, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told.send(None)
