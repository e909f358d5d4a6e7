"""An existing Feast DynamoDB store, read by Feast's Bigtable store: Feast's own code at both ends, only the copy is ours.

Feast wants other versions of what this project pins, so it lives in an environment of its own. Name an interpreter that has
`feast[aws,gcp]` in LIFEBOAT_TEST_FEAST, or set it to `install` to have one made from the package index, which takes minutes.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from replication_sites import PROJECT, Sites, make_sites, sdk_variables, variables
from test_feature_path import _as_lambda

from functions.features.feast.layout import FeastView
from functions.features.feast.stores import FeastBigtableRows, FeastCopy, FeastDynamoRows
from functions.features.plan import Outcome
from functions.parking import ObjectParkingLot
from functions.settings import BigtableTable, Site
from functions.stores.wire import open_channel
from local.ground.client import GroundClient

CHOICE = os.environ.get("LIFEBOAT_TEST_FEAST", "")
SESSION = Path(__file__).with_name("feast_session.py")
REQUIREMENT = "feast[aws,gcp]==0.67.0"

pytestmark = [
    pytest.mark.network,
    pytest.mark.timeout(1_200),
    pytest.mark.skipif(
        not CHOICE, reason="LIFEBOAT_TEST_FEAST names no interpreter with feast, nor asks to install one"
    ),
]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> str:
    if CHOICE != "install":
        return CHOICE
    folder = tmp_path_factory.mktemp("feast")
    subprocess.run((sys.executable, "-m", "venv", str(folder)), check=True)
    python = str(folder / "bin" / "python")
    subprocess.run((python, "-m", "pip", "install", "-q", REQUIREMENT), check=True)
    return python


@pytest.fixture(scope="module")
def sites(ground: GroundClient) -> Iterator[Sites]:
    with variables(sdk_variables(ground)):
        yield make_sites(ground)


class Feast:
    """Feast in its own process, and our copy between its two stores."""

    def __init__(self, interpreter: str, sites: Sites, entities: int) -> None:
        self._interpreter, self._sites = interpreter, sites
        environment = sites.environment
        made = self.call("make", entities)
        view = FeastView("shop", "driver_stats", tuple(made["entities"]), tuple(made["rows"]["0"]))
        assert (view.dynamodb_table, view.bigtable_table) == (made["dynamodb"], made["bigtable"])
        self.rows, self.ids = made["rows"], made["ids"]
        table = BigtableTable(PROJECT, sites.name, "", "replication")
        channel = open_channel(environment["BIGTABLE_EMULATOR_HOST"], "", None)
        bucket = sites.clients(Site.AWS).objects(Site.AWS)
        self.home = FeastDynamoRows(boto3.client("dynamodb"), made["dynamodb"])
        self.far = FeastBigtableRows(channel, table, view)
        self.copy = FeastCopy(self.home, self.far, ObjectParkingLot(bucket, "features"), now_ms)
        self.table = made["dynamodb"]

    def call(self, what: str, asked: Any) -> Any:
        environment = self._sites.environment
        command = (self._interpreter, str(SESSION), what, "us-east-1", environment["AWS_ENDPOINT_URL_DYNAMODB"])
        found = subprocess.run(
            (*command, PROJECT, self._sites.name),
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            env={**os.environ, **environment, "FEAST_USAGE": "False"},
            timeout=300,
        )
        assert found.returncode == 0, found.stderr[-2_000:]
        return json.loads(found.stdout)


def test_what_feast_wrote_there_feast_reads_here(interpreter: str, sites: Sites) -> None:
    feast = Feast(interpreter, sites, 40)
    early = {number: feast.rows[number] for number in list(feast.rows)[:25]}
    feast.call("write", early)
    done = feast.copy.bootstrap()
    assert (done[Outcome.APPLIED], done[Outcome.PARKED], done[Outcome.FAILED]) == (25, 0, 0)

    streams = boto3.client("dynamodbstreams")
    # Feast makes its tables without a stream; switching it on is the one thing that is asked of their owner.
    specification = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    arn = boto3.client("dynamodb").update_table(TableName=feast.table, StreamSpecification=specification)[
        "TableDescription"
    ]["LatestStreamArn"]
    shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    place = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
    late = {**{number: feast.rows[number] for number in list(feast.rows)[20:]}}
    changed = dict(feast.rows["0"], trips=feast.rows["1"]["trips"])
    del changed["raw"]
    feast.call("write", {**late, "0": changed})
    boto3.client("dynamodb").delete_item(TableName=feast.table, Key={"entity_id": {"S": feast.ids["3"]}})
    for _ in range(2):
        answer = streams.get_records(ShardIterator=place)
        place = answer["NextShardIterator"]
        records = [json.loads(json.dumps(_as_lambda(record, arn))) for record in answer["Records"]]
        assert feast.copy.run(records).failed is None
        # A replay changes nothing.
        assert feast.copy.run(records).failed is None

    read = feast.call("read", list(range(40)))
    expected = {number: dict(row) for number, row in feast.rows.items()} | {"0": changed}
    for number in range(40):
        if number == 3:
            assert read[number] is None
            continue
        assert read[number].pop("event") == "2026-11-24T10:00:00.123456+00:00"
        assert read[number] == expected[str(number)], f"entity {number}"
    there = {row.key for row in feast.far.scan()}
    assert there == {feast.ids[str(number)] for number in range(40) if number != 3}
