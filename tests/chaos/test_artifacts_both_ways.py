"""Versions published on both sides in turn while everything between them fails by a seed: both end with the same versions.

The functions that encode and rebuild are killed with SIGKILL in the middle of their work, a cloud's process is killed with all
that runs in it, a cloud is cut off, and events are lost for good. What retries do not repair the sweeper does.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from functions.artifacts.publish import Published
from functions.artifacts.sweep import QUIET_MS, Sweeper
from functions.errors import TransientError
from functions.settings import Site
from functions.stores.errors import StoreError
from local.ground.client import start_ground
from local.names import Cloud, FaultMode
from tests.local.artifact_ways import ArtifactWays
from tests.local.aws_cloud import REGION
from tests.local.replication_sites import CHUNK_BYTES, sdk_variables, variables

SEEDS = (1, 2)
VERSIONS = 8
SETTLE_SECONDS = 240.0
# Rows of a tensor: a file of about 25 MB, so that it crosses in three batches and is put together from parts.
ROWS = 700


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtifactWays]:
    """Return both directions on a ground of their own: whole clouds are killed here."""
    ground = start_ground(tmp_path_factory.mktemp("ground"), owned=True)
    region = {"AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}
    with variables({**sdk_variables(ground), **region}):
        made = ArtifactWays(ground, tmp_path_factory.mktemp("ways"), LIFEBOAT_CHUNK_BYTES=str(CHUNK_BYTES))
        yield made
    ground.stop()


class Trouble(threading.Thread):
    """Kills and cuts until it is stopped."""

    def __init__(self, ways: ArtifactWays, seed: int) -> None:
        super().__init__(daemon=True)
        self._ways = ways
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        while not self._over.wait(self._chance.uniform(0.1, 0.6)):
            self._strike()

    def stop(self) -> None:
        self._over.set()
        self.join(60)
        for cloud in (Cloud.AWS, Cloud.GCP):
            self._ways.ground.restore(cloud)

    def _strike(self) -> None:
        what = self._chance.choices(["function", "events", "cut", "cloud"], [12, 3, 2, 1])[0]
        if what == "function":
            self.done["functions killed"] += self._kill_function(
                self._chance.choice(["artifact_encode", "artifact_rebuild"])
            )
        elif what == "events":
            self.done["events lost"] += self._lose_events()
        else:
            cloud = self._chance.choice([Cloud.AWS, Cloud.GCP])
            mode = FaultMode.KILL if what == "cloud" else self._chance.choice([FaultMode.BLACK_HOLE, FaultMode.HANG])
            self._ways.ground.fault(cloud, mode)
            self._over.wait(self._chance.uniform(0.2, 1.0))
            self._ways.ground.restore(cloud)
            self.done[f"{cloud} {mode}"] += 1

    def _kill_function(self, step: str) -> int:
        killed = 0
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                mine = str(self._ways.ground.folder) in command or str(self._ways.ground.folder) in str(
                    process.environ()
                )
                if (
                    "sealed.py" in command
                    and mine
                    and (step in command or process.environ().get("FUNCTION_TARGET") == step)
                ):
                    os.kill(process.pid, signal.SIGKILL)
                    killed += 1
            except (psutil.Error, ProcessLookupError):
                continue
        return killed

    def _lose_events(self) -> int:
        """Take what lies on AWS's queue of events and forget it."""
        try:
            url = self._ways.aws.client("sqs").get_queue_url(QueueName=f"{self._ways.name}-events")["QueueUrl"]
            found = (
                self._ways.aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            )
            for message in found:
                self._ways.aws.client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        except Exception:  # noqa: BLE001 - AWS is cut off at the moment
            return 0
        return len(found)


def sweep(ways: ArtifactWays, later_ms: int) -> None:
    """Let both sites sweep, as if so much later."""
    clients = ways.made_clients()
    for site in Site:
        sweeper = Sweeper(
            site=site,
            here=clients.objects(site),
            there=clients.objects(site.peer),
            jobs=clients.artifact_jobs(site),
            rebuilds=clients.artifact_rebuilds(site),
            chunk_bytes=CHUNK_BYTES,
            clock_ms=lambda: time.time_ns() // 1_000_000 + later_ms,
            trust=clients.trust,
        )
        sweeper.run()


def published(ways: ArtifactWays, site: Site, folder: Path, **more: object) -> Published:
    """Publish through the trouble: what a publish has done before it broke off is not done again."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            return ways.publish(site, folder, **more)
        except (TransientError, StoreError):
            assert time.monotonic() < deadline, "the publish never came through"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_both_sites_end_with_the_same_versions(
    ways: ArtifactWays, tmp_path: Path, seed: int, tell: Callable[[str], None]
) -> None:
    chance, numbers = random.Random(seed), np.random.default_rng(seed)
    tensors = {f"layer{number}": numbers.standard_normal((ROWS, 1_000), np.float32) for number in range(9)}
    trouble = Trouble(ways, seed)
    trouble.start()
    versions: list[tuple[Site, Published]] = []
    try:
        for number in range(VERSIONS):
            folder = tmp_path / str(number)
            folder.mkdir()
            name = f"layer{chance.randrange(9)}"
            tensors[name] = tensors[name] * np.float32(1.001)
            save_file(tensors, folder / "model.safetensors")
            (folder / "config.json").write_text(f'{{"number": {number}, "seed": {seed}}}')
            site = chance.choice(list(Site))
            parents = [each.version for where, each in versions if where is site]
            parent = parents[-1] if parents and chance.random() < 0.8 else None
            made = published(ways, site, folder, parent=parent, alias=f"from-{site}", epoch=1)
            versions.append((site, made))
    finally:
        trouble.stop()
    began = time.monotonic()
    rounds = 0
    while not all(ways.arrived_version(each.version, site.peer) for site, each in versions) or ways.different():
        assert time.monotonic() - began < SETTLE_SECONDS, f"seed {seed}: {ways.different()}, {ways.dead_letters()}"
        # Function processes that were killed come back only when their message does: what is redelivered comes first.
        if time.monotonic() - began > 25 * (rounds + 1):
            rounds += 1
            sweep(ways, rounds * (QUIET_MS + 1))
        time.sleep(0.5)
    seconds = time.monotonic() - began
    tell(f"seed {seed}: {len(versions)} versions, {dict(trouble.done)}; equal after {seconds:.1f} s, {rounds} sweeps")
    assert trouble.done["functions killed"]
    for site in Site:
        mine = [each for where, each in versions if where is site]
        if mine:
            assert ways.arrived(mine[-1], site.peer)
