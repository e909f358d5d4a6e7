"""Features both ways at once over the local clouds: change stream, template, push, function, and the way back."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from gcp_toys import wait_for
from replication_sites import sdk_variables, variables
from two_ways import ROUGH, TwoWays, quiet, summary

from functions.features.envelope import decode
from functions.settings import Site
from local.ground.client import GroundClient
from local.names import Cloud, FaultMode

SEED = 11


@pytest.fixture(scope="module")
def ways(ground: GroundClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoWays]:
    with variables(sdk_variables(ground)):
        made = TwoWays(ground, tmp_path_factory.mktemp("ways"))
        yield made
        made.clear()


def test_rows_and_deletes_of_google_arrive_on_aws_byte_for_byte(ways: TwoWays) -> None:
    store = ways.store(Site.GCP)
    store.set("user#1", {"clicks": 7, "name": "ada", "tags": frozenset({"x"})}, event_ms=5)
    store.set("user#2", {"clicks": 1})
    store.delete("user#2")
    store.set("user#3", {"n": 1}, expires=4_000_000_000)
    ways.settle(20)
    assert set(ways.rows(Site.AWS)) == {"user#1", "user#2", "user#3"}
    there = ways.store(Site.AWS)
    assert set(there.get_many(["user#1", "user#2", "user#3"])) == {"user#1", "user#3"}
    quiet(ways)


def test_both_sides_write_the_same_keys_and_end_equal(ways: TwoWays, tell: Callable[[str], None]) -> None:
    ways.disturb(**ROUGH)
    done = ways.write(SEED, operations=1_200, keys=60, writers=6, skew_ms=2_000, rate=150)
    settled = ways.settle(60)
    quiet(ways)
    ways.disturb()
    tell(summary(done, ways.job_statistics(), settled))
    assert done.operations == 1_200
    assert not ways.parked()
    rows = ways.rows(Site.GCP)
    assert 0 < sum(decode(row.envelope).deleted for row in rows.values()) < len(rows)


def test_a_row_deleted_outright_on_google_is_deleted_on_aws(ways: TwoWays) -> None:
    ways.store(Site.GCP).set("gone#mine", {"n": 1})
    ways.store(Site.AWS).set("gone#theirs", {"n": 1})
    wait_for(lambda: {"gone#mine", "gone#theirs"} <= set(ways.rows(Site.GCP)), "both rows on Google")
    ways.settle(20)
    time.sleep(1.1)  # a deletion within a second of the write may be told before it, and then the write stays
    for key in ("gone#mine", "gone#theirs"):
        ways.delete_outright(key)
    wait_for(
        lambda: all(decode(ways.rows(Site.AWS)[key].envelope).deleted for key in ("gone#mine", "gone#theirs")),
        "tombstones",
    )
    ways.settle(20)
    quiet(ways)


def test_what_was_told_while_aws_was_away_arrives_when_it_is_back(ways: TwoWays, no_faults: None) -> None:
    ways.ground.fault(Cloud.AWS, FaultMode.BLACK_HOLE)
    store = ways.store(Site.GCP)
    for number in range(20):
        store.set(f"away#{number}", {"n": number})
    wait_for(lambda: ways.gcp.statistics()["subscriptions"][ways.subscription]["failed_attempts"], "a refused push")
    ways.ground.restore(Cloud.AWS)
    ways.settle(60)
    assert len([key for key in ways.rows(Site.AWS) if key.startswith("away#")]) == 20


def test_a_kill_of_google_in_the_middle_loses_nothing(
    ways: TwoWays, no_faults: None, tell: Callable[[str], None]
) -> None:
    ways.disturb(**ROUGH)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(ways.write, SEED + 1, operations=600, keys=40, writers=4, skew_ms=500, rate=100)
        time.sleep(2)  # in the middle of the writes
        ways.ground.fault(Cloud.GCP, FaultMode.KILL)
        time.sleep(1)  # long enough that writes are refused and pushes are cut
        ways.ground.restore(Cloud.GCP)
        done = writing.result()
    settled = ways.settle(90)
    quiet(ways)
    ways.disturb()
    tell(summary(done, ways.job_statistics(), settled))
    assert not ways.parked()
