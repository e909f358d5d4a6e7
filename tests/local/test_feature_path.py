"""A feature row's way from DynamoDB's stream through the deployed handler into Bigtable, on real events."""

import base64
import json
import random
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from replication_sites import Sites, make_sites, sdk_variables, variables

from functions import entry_aws
from functions.features.client import FeatureStore
from functions.features.envelope import Envelope, Vector, decode, encode
from functions.features.version import stamp
from functions.settings import SITE, Site
from functions.stores.protocols import Row
from local.ground.client import GroundClient
from local.names import Cloud, FaultMode


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Path:
    """One test's two tables, and the stream between them as an event source mapping reads it."""

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        clients = sites.clients(Site.AWS)
        self.home, self.far, self.bucket = clients.adopting_rows, clients.rows(Site.GCP), clients.objects(Site.AWS)
        self.store = FeatureStore(self.home, Site.AWS, now_ms)
        self.table = boto3.resource("dynamodb").Table(f"{sites.name}-features")
        self._streams = boto3.client("dynamodbstreams")
        shard = self._streams.describe_stream(StreamArn=sites.stream_arn)["StreamDescription"]["Shards"][0]["ShardId"]
        self._iterator: str = self._streams.get_shard_iterator(
            StreamArn=sites.stream_arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]

    def records(self) -> list[dict[str, Any]]:
        """Return the change records since the last call, in the shape in which Lambda passes them."""
        answer = self._streams.get_records(ShardIterator=self._iterator, Limit=1_000)
        self._iterator = answer["NextShardIterator"]
        return [json.loads(json.dumps(_as_lambda(record, self.sites.stream_arn))) for record in answer["Records"]]

    def apply(self, records: list[dict[str, Any]]) -> list[str]:
        answer = entry_aws.features_apply({"Records": records}, None)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def far_attributes(self, key: str) -> dict[str, Any] | None:
        found = self.far.read([key]).get(key)
        return dict(decode(found.envelope).attributes) if found else None

    def parked(self) -> list[dict[str, Any]]:
        return [json.loads(self.bucket.get(info.key, 1 << 20)[0]) for info in self.bucket.list("parked/features/")]


def _as_lambda(record: dict[str, Any], arn: str) -> dict[str, Any]:
    """Binary as base64 and times as numbers: what the poller does before it calls a function."""

    def image(value: Any) -> Any:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, dict):
            return {name: image(inner) for name, inner in value.items()}
        return [image(inner) for inner in value] if isinstance(value, list) else value

    change = {name: image(value) for name, value in record["dynamodb"].items() if name != "ApproximateCreationDateTime"}
    return {
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "eventSource": "aws:dynamodb",
        "eventSourceARN": arn,
        "dynamodb": change,
    }


@pytest.fixture
def path(ground: GroundClient) -> Iterator[Path]:
    with variables(sdk_variables(ground)):
        sites = make_sites(ground)
        with variables({**sites.environment, SITE: Site.AWS}):
            entry_aws._clients.cache_clear()
            yield Path(sites)
    entry_aws._clients.cache_clear()


def test_rows_and_deletes_arrive_byte_for_byte(path: Path) -> None:
    vector = Vector.of([0.25, -1.0])
    path.store.set("user#1", {"clicks": 7, "name": "ada", "vector": vector, "tags": frozenset({"x"})}, event_ms=5)
    path.store.set("user#2", {"clicks": 1})
    path.store.delete("user#2")
    path.store.set("user#2", {"clicks": 3}, expires=4_000_000_000)
    path.store.set("user#3", {"clicks": 1})
    path.store.delete("user#3")
    assert path.apply(path.records()) == []
    keys = ["user#1", "user#2", "user#3"]
    assert path.far.read(keys) == path.home.read(keys)
    there = FeatureStore(path.far, Site.GCP, now_ms)
    assert set(there.get_many(keys)) == {"user#1", "user#2"}


def test_a_replay_in_any_order_changes_nothing(path: Path) -> None:
    chance = random.Random(3)
    for number in range(60):
        key = f"k{chance.randrange(8)}"
        path.store.delete(key) if chance.random() < 0.2 else path.store.set(key, {"n": number})
    records = path.records()
    assert len(records) == 60
    for _ in range(4):
        chance.shuffle(records)
        for start in range(0, 60, 7):
            assert path.apply(records[start : start + 7]) == []
    keys = [f"k{number}" for number in range(8)]
    assert path.far.read(keys) == path.home.read(keys)


def test_echoes_go_nowhere(path: Path) -> None:
    from_far = Row("user#1", stamp(now_ms(), 0, Site.GCP), encode(Envelope({"n": 1})))
    path.home.apply([from_far])
    records = path.records()
    assert len(records) == 1
    assert path.apply(records) == []
    assert path.far.read(["user#1"]) == {}


def test_unaware_writers_are_local_writers(path: Path) -> None:
    path.home.apply([Row("touched", stamp(now_ms() - 5_000, 0, Site.GCP), encode(Envelope({"price": 1, "name": "a"})))])
    path.far.apply(list(path.home.read(["touched"]).values()))
    path.table.put_item(Item={"entity": "plain", "price": Decimal("1.50"), "raw": b"\x00\xff", "list": [1, None, True]})
    path.table.update_item(
        Key={"entity": "touched"}, UpdateExpression="SET price = :p", ExpressionAttributeValues={":p": 2}
    )
    path.store.set("gone", {"n": 1})
    path.table.delete_item(Key={"entity": "gone"})
    first = path.records()
    assert path.apply(first) == []
    assert path.far_attributes("plain") == {"price": Decimal("1.5"), "raw": b"\x00\xff", "list": [1, None, True]}
    assert path.far_attributes("touched") == {"price": 2, "name": "a"}
    assert decode(path.far.read(["gone"])["gone"].envelope).deleted
    # What adoption wrote at home comes by as records of its own; they, and everything once more, change nothing.
    keys = ["plain", "touched", "gone"]
    settled = path.far.read(keys)
    assert path.apply(path.records()) == []
    assert path.apply(first) == []
    assert path.apply(path.records()) == []
    assert path.far.read(keys) == settled == path.home.read(keys)


def test_an_old_unaware_record_never_beats_a_newer_write(path: Path) -> None:
    path.table.put_item(Item={"entity": "raced", "n": 1})
    old = path.records()
    path.table.put_item(Item={"entity": "raced", "n": 2})
    assert path.apply(old) == []
    assert path.apply(path.records()) == []
    assert path.far_attributes("raced") == {"n": 2}
    path.store.set("raced", {"n": 3})
    assert path.apply(old) == []
    assert path.apply(path.records()) == []
    assert path.far_attributes("raced") == {"n": 3}
    assert path.far.read(["raced"]) == path.home.read(["raced"])


def test_a_replayed_hard_delete_never_takes_a_newer_row(path: Path) -> None:
    path.store.set("back", {"n": 1})
    path.table.delete_item(Key={"entity": "back"})
    old = path.records()
    assert path.apply(old) == []
    path.store.set("back", {"n": 2})
    assert path.apply(old) == []
    assert path.apply(path.records()) == []
    assert path.far_attributes("back") == {"n": 2}
    assert path.far.read(["back"]) == path.home.read(["back"])


def test_poison_is_parked_with_its_reason_and_blocks_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.store.set("good#1", {"n": 1})
    path.table.put_item(Item={"entity": "bad", "v": Decimal(stamp(now_ms(), 0, Site.AWS)), "e": b"no envelope"})
    path.table.put_item(Item={"entity": "ahead", "v": Decimal(stamp(now_ms() + 3_600_000, 0, Site.AWS)), "n": 1})
    path.store.set("good#2", {"n": 2})
    records = path.records()
    assert path.apply(records) == []
    assert path.apply(records) == []
    assert path.far_attributes("good#1") == {"n": 1}
    assert path.far_attributes("good#2") == {"n": 2}
    parked = path.parked()
    assert sorted(item["record"]["dynamodb"]["Keys"]["entity"]["S"] for item in parked) == ["ahead", "bad"]
    assert all(item["reason"] for item in parked)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    metrics = next(line for line in lines if "_aws" in line)
    assert (metrics["applied"], metrics["parked"], metrics["failed"]) == (2, 2, 0)
    assert 0 <= metrics["lag_ms_p50"] <= metrics["lag_ms_max"] < 60_000


@pytest.mark.usefixtures("no_faults")
def test_a_dead_far_side_asks_for_the_records_again(path: Path, ground: GroundClient) -> None:
    path.store.set("a", {"n": 1})
    path.store.set("b", {"n": 2})
    records = path.records()
    ground.fault(Cloud.GCP, FaultMode.BLACK_HOLE)
    assert path.apply(records) == [records[0]["dynamodb"]["SequenceNumber"]]
    ground.restore(Cloud.GCP)
    deadline = time.monotonic() + 10
    while path.apply(records):
        assert time.monotonic() < deadline, "the far side did not come back"
        time.sleep(0.05)
    assert path.far.read(["a", "b"]) == path.home.read(["a", "b"])
