"""How old rows are when they can be read on the other side: the local stack, a steady load on DynamoDB, a watch on Bigtable."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from functions.features.apply import percentile
from functions.features.client import FeatureStore
from functions.settings import Site
from local.engine.environment import engine_environment
from local.ground.client import start_ground
from operate import access
from operate.demo.features import LagWatch, Writer
from operate.stacks import Stack
from operate.workspace import make_project

ROWS_A_SECOND = 500.0
WRITERS = 10
SECONDS = 20.0
VECTOR = 8

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LagFigures:
    """Milliseconds from the acknowledged write to the read on the other side; `rows_s` is the load that was really reached."""

    p50: float
    p99: float
    rows_s: float
    rows: int


def measure_lag(folder: Path, tell: Progress) -> LagFigures:
    """Bring up the local stack in `folder`, write at a steady rate at site aws, and return the lag at site gcp."""
    client = start_ground(folder, owned=True)
    try:
        os.environ.update(client.environment())
        os.environ.setdefault(access.AWS_REGION, "us-west-2")
        stack = Stack(make_project(folder / "project"), "local", engine_environment(folder / "engine", client, None))
        tell("the local stack comes up")
        stack.up()
        clients = access.clients(stack.outputs(), os.environ)
        began = time.monotonic()
        with ExitStack() as ends:
            watches = []
            for number in range(WRITERS):
                store = FeatureStore(clients.rows(Site.AWS), Site.AWS, _now_ms)
                writer = Writer(Site.AWS, store, VECTOR, ROWS_A_SECOND / WRITERS, number)
                watch = LagWatch(writer, Site.GCP, clients.rows(Site.GCP), began)
                writer.start()
                watch.start()
                ends.callback(watch.stop)
                ends.callback(writer.stop)
                watches.append((writer, watch))
            tell(f"{ROWS_A_SECOND:.0f} rows a second are written and watched for {SECONDS:.0f} s")
            time.sleep(SECONDS)
        lags = [round(sample.lag_ms) for _, watch in watches for sample in watch.samples]
        written = sum(len(writer.acknowledged) for writer, _ in watches)
    finally:
        client.stop()
    return LagFigures(percentile(lags, 0.5), percentile(lags, 0.99), round(written / SECONDS, 1), len(lags))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
