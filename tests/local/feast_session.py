"""Feast itself, run by an interpreter that has it: python feast_session.py write|read REGION ENDPOINT PROJECT INSTANCE < JSON.

`write` puts entities' features into Feast's DynamoDB store, `read` reads them through Feast's Bigtable store; both go by Feast's
own code alone. Values travel as the hex of their protobuf bytes.
"""

import json
import sys
from datetime import UTC, datetime, timedelta

from feast import Entity, FeatureView, Field, FileSource, RepoConfig
from feast.infra.online_stores.bigtable import BigtableOnlineStore, BigtableOnlineStoreConfig
from feast.infra.online_stores.dynamodb import DynamoDBOnlineStore, DynamoDBOnlineStoreConfig
from feast.infra.online_stores.helpers import compute_entity_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bytes, Float32, Float64, Int64, String, UnixTimestamp

driver = Entity(name="driver", join_keys=["driver_id"])
TYPES = {"trips": Int64, "rate": Float64, "name": String, "raw": Bytes, "taste": Array(Float32), "seen": UnixTimestamp}
view = FeatureView(
    name="driver_stats",
    entities=[driver],
    ttl=timedelta(days=1),
    schema=[Field(name=name, dtype=kind) for name, kind in TYPES.items()],
    source=FileSource(path="nowhere.parquet", timestamp_field="event_timestamp"),
)


def key(number):
    return EntityKey(join_keys=["driver_id"], entity_values=[Value(int64_val=number)])


def values(row):
    return {name: Value.FromString(bytes.fromhex(data)) for name, data in row.items()}


def config(store):
    return RepoConfig(
        project="shop", registry="nowhere.db", provider="local", online_store=store, entity_key_serialization_version=3
    )


def main():
    what, region, endpoint, project, instance = sys.argv[1:]
    there = config(BigtableOnlineStoreConfig(project_id=project, instance=instance))
    here = config(DynamoDBOnlineStoreConfig(region=region, endpoint_url=endpoint))
    asked = json.load(sys.stdin)
    if what == "make":
        made = {
            number: {
                name: value.SerializeToString().hex()
                for name, value in {
                    "trips": Value(int64_val=2**60 + number),
                    "rate": Value(double_val=number / 7),
                    "name": Value(string_val=f"größe {number}"),
                    "raw": Value(bytes_val=bytes(range(256))),
                    "taste": Value(float_list_val={"val": [0.1, -2.5]}),
                    "seen": Value(unix_timestamp_val=1_700_000_000),
                }.items()
            }
            for number in range(asked)
        }
        BigtableOnlineStore().update(there, [], [view], [], [driver], False)
        DynamoDBOnlineStore().update(here, [], [view], [], [driver], False)
        answer = {
            "dynamodb": "shop.driver_stats",
            "bigtable": BigtableOnlineStore._get_table_name(there, view),
            "entities": sorted(view.entities),
            "rows": made,
            "ids": {number: compute_entity_id(key(number), 3) for number in range(asked)},
        }
    elif what == "write":
        moment = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
        data = [(key(int(number)), values(row), moment, None) for number, row in asked.items()]
        DynamoDBOnlineStore().online_write_batch(here, view, data, None)
        answer = {}
    else:
        found = BigtableOnlineStore().online_read(there, view, [key(number) for number in asked])
        answer = [
            None
            if row is None
            else {"event": when.isoformat(), **{n: v.SerializeToString().hex() for n, v in row.items()}}
            for when, row in found
        ]
    json.dump(answer, sys.stdout)


main()
