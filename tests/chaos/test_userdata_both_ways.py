"""User data written on both sides at once, with everything between them failing by a seed: both come to the same rows.

The change stream's messages come twice and out of order, its job is lost, the process of both functions is killed with SIGKILL
in the middle of its work, a cloud is cut off for a moment, and programs that know no versions write as well.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from functions.errors import PermanentError, TransientError
from functions.userdata.change import key_text
from local.clouds.gcp.spanner_stream import SpannerFaults
from local.ground import user_data
from local.ground.client import GroundClient, start_ground
from local.names import Cloud, FaultMode
from local.paths import ROOT
from tests.local.userdata_sites import UserDataSites, a_user, an_order, make_user_data
from tests.local.userdata_stream import Stream, streaming

pytestmark = pytest.mark.skipif(bool(user_data.missing()), reason=user_data.missing() or "user data can run")

OPERATIONS = 500
# The emulator reads its change stream the slower the longer that is: 38 operations a second in the first two thousand, 7 in the
# next, 4 then. So the long run has more seeds, not longer ones.
OPERATIONS_FULL = 2_000
USERS, ORDERS = 25, 40
SETTLE_SECONDS = 120.0
# Thousands of messages wait at the end of a long run on a busy machine, each of them twice by then.
SETTLE_SECONDS_FULL = 600.0


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GroundClient]:
    """Return a ground of its own, without the clouds' own processes."""
    client = start_ground(tmp_path_factory.mktemp("ground"), owned=True, clouds=())
    yield client
    client.stop()


class Worker:
    """The process of both functions."""

    def __init__(self, sites: UserDataSites, stream: Stream, log: Path) -> None:
        self._command = [
            *(sys.executable, "-m", "tests.chaos.userdata_worker"),
            *(str(sites.ground.folder), sites.database, stream.name),
        ]
        self._log = log
        self.kills = 0
        self._process = self._start()

    def kill(self) -> None:
        """SIGKILL it, wherever it is, and start another."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self.kills += 1
        self._process = self._start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)


class Writers:
    """Programs on both sides that write the same users and orders."""

    def __init__(self, sites: UserDataSites, chance: random.Random) -> None:
        self._sites, self._chance = sites, chance
        self._users = [str(a_user(chance)["id"]) for _ in range(USERS)]
        self._orders = [str(a_user(chance)["id"]) for _ in range(ORDERS)]
        self.done: Counter[str] = Counter()

    def write(self) -> None:
        """Do one thing on one side; what its database refuses, or does not answer, is counted too."""
        chance, sites = self._chance, self._sites
        side = chance.choice([sites.home, sites.far])
        user, order = chance.choice(self._users), chance.choice(self._orders)
        kind = chance.choices(["user", "order", "no user", "no order", "unaware"], weights=[35, 30, 10, 10, 15])[0]
        try:
            match kind:
                case "user":
                    side.put("users", a_user(chance, user))
                case "order":
                    side.put("orders", an_order(chance, user, order))
                case "no user":
                    side.delete("users", key_text([user]))
                case "no order":
                    side.delete("orders", key_text([order]))
                case _:
                    self._unaware(side is sites.home, user, order)
            self.done[kind] += 1
        except PermanentError:
            self.done["refused"] += 1
        except (TransientError, psycopg.Error):
            self.done["unanswered"] += 1

    def _unaware(self, at_home: bool, user: str, order: str) -> None:
        """Write as a program does that has never heard of versions."""
        statement = self._chance.choice(
            [
                f"UPDATE users SET visits = {self._chance.randrange(1000)} WHERE id = '{user}'",
                f"UPDATE orders SET total = {self._chance.randrange(1000)} WHERE id = '{order}'",
                f"DELETE FROM orders WHERE id = '{order}'",
            ]
        )
        if at_home:
            with self._sites.connect() as connection:
                connection.execute(statement.encode())
            return
        self._sites.unaware(statement)


def left(sites: UserDataSites, stream: Stream) -> str:
    """Return what keeps the sides apart, for the message of a failed test."""
    waiting = sites.data_api.execute("SELECT table_name, key, version, content IS NULL FROM lifeboat.outbox LIMIT 5")
    apart = [f"{each.table} {each.rows} {each.differing} differ" for each in sites.prover.prove(repair=False)]
    return f"outbox {sites.outbox()} {waiting}, {apart}, stream {vars(stream.job.counters)}, topic {len(stream.take())}"


def until(condition: Callable[[], bool], limit_seconds: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what()}: not so within {limit_seconds} s"
        time.sleep(0.1)


def run(ground: GroundClient, folder: Path, seed: int, operations: int, settle_seconds: float = SETTLE_SECONDS) -> str:
    """Run one seed to its end and return its counts."""
    chance = random.Random(seed)
    sites = make_user_data(ground)
    with streaming(sites, folder, SpannerFaults(duplicated=0.25, shuffled=True)) as stream:
        worker = Worker(sites, stream, folder / "worker.log")
        try:
            writers = Writers(sites, chance)
            jobs = cuts = 0
            for number in range(operations):
                writers.write()
                event = chance.random()
                if event < 0.008:
                    worker.kill()
                elif event < 0.012:
                    stream.kill_and_start_again()
                    jobs += 1
                elif number % max(100, operations // 5) == 99:
                    lost = chance.choice([Cloud.AWS, Cloud.GCP])
                    ground.fault(lost, FaultMode.BLACK_HOLE)
                    writers.write()
                    ground.restore(lost)
                    cuts += 1
            worker.kill()

            def agreed() -> bool:
                try:
                    return sites.outbox() == 0 and all(each.equal for each in sites.prover.prove(repair=False))
                except TransientError:
                    return False

            until(agreed, settle_seconds, lambda: f"seed {seed}, both sides hold the same rows; {left(sites, stream)}")
            told, beats = stream.job.counters.records, stream.job.counters.heartbeats
            until(lambda: stream.job.counters.heartbeats >= beats + 4, 30, lambda: "heartbeats")
            assert stream.job.counters.records == told, "writes go round in circles"
            tables = sites.prover.prove(repair=False)
            parked = sites.home.parked()
        finally:
            worker.stop()
    for each in tables:
        assert each.rows[0] == each.rows[1] and each.digests[0] == each.digests[1]
    assert parked == 0
    assert writers.done["user"] and writers.done["no user"] and writers.done["unaware"] and worker.kills
    return (
        f"seed {seed}: {operations} operations {dict(writers.done)}, {worker.kills} kills, {jobs} jobs lost, {cuts} cuts;"
        f" {', '.join(f'{each.table} {each.rows[0]} rows {each.tombstones[0]} tombstones' for each in tables)},"
        f" equal digests, {parked} parked"
    )


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.timeout(400)
def test_both_sides_come_to_the_same_rows(
    ground: GroundClient, tmp_path: Path, seed: int, tell: Callable[[str], None]
) -> None:
    tell(run(ground, tmp_path, seed, OPERATIONS))


@pytest.mark.chaos_full
@pytest.mark.parametrize("seed", range(10, 35))
@pytest.mark.timeout(1200)
def test_both_sides_come_to_the_same_rows_at_length(
    ground: GroundClient, tmp_path: Path, seed: int, tell: Callable[[str], None]
) -> None:
    tell(run(ground, tmp_path, seed, OPERATIONS_FULL, SETTLE_SECONDS_FULL))
