"""Buckets and tables: made, kept in line, made again, deleted under their rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from gcp_toys import BUCKET, OBJECT, TABLE, ToyCloud, wait_for
from google.api_core.exceptions import NotFound
from google.cloud.bigtable_admin_v2 import BaseBigtableTableAdminClient
from google.cloud.bigtable_admin_v2.services.bigtable_table_admin.transports import BigtableTableAdminGrpcTransport
from google.cloud.bigtable_v2 import BigtableClient
from google.cloud.bigtable_v2.services.bigtable.transports import BigtableGrpcTransport

from local.ground.client import GroundClient
from local.names import Cloud, FaultMode

GC_POLICY = "gcp:bigtable/gCPolicy:GCPolicy"


@pytest.fixture
def cloud(ground: GroundClient, tmp_path: Path) -> Iterator[ToyCloud]:
    toys = ToyCloud(ground, tmp_path)
    yield toys
    toys.clear()


@pytest.fixture
def channel(ground: GroundClient) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(ground.endpoints.bigtable) as opened:
        yield opened


def admin(channel: grpc.Channel) -> Any:
    return BaseBigtableTableAdminClient(transport=BigtableTableAdminGrpcTransport(channel=channel))


def table_id(cloud: ToyCloud) -> str:
    return f"projects/{cloud.project}/instances/toys/tables/features"


def test_a_bucket_keeps_versions_and_goes_only_when_empty_or_forced(cloud: ToyCloud) -> None:
    bucket = cloud.bucket("kept", forceDestroy=False)
    cloud.put_object(bucket, "a", b"1")
    cloud.put_object(bucket, "a", b"2")
    url = f"{cloud.ground.endpoints.storage}/storage/v1/b/{bucket}/o"
    assert len(cloud.http.get(url, params={"versions": "true"}).json()["items"]) == 2
    refused = cloud.operation("delete", BUCKET, bucket, {}, {})
    assert refused.status_code == 422
    assert "2 object versions" in refused.json()["error"]
    forced = {"name": bucket, "versioning": {"enabled": True}, "forceDestroy": True}
    assert cloud.operation("update", BUCKET, bucket, forced, {}).status_code == 200
    assert cloud.operation("delete", BUCKET, bucket, {}, {}).status_code == 200
    assert cloud.http.get(url).status_code == 404


def test_an_equal_object_is_not_uploaded_again(cloud: ToyCloud) -> None:
    bucket = cloud.bucket("data")
    inputs = {"bucket": bucket, "name": "notes/a b.txt", "content": "hello"}
    cloud.create(OBJECT, f"{bucket}/notes", inputs)
    url = f"{cloud.ground.endpoints.storage}/storage/v1/b/{bucket}/o"
    before = cloud.http.get(url).json()["items"]
    assert cloud.operation("update", OBJECT, f"{bucket}/notes", inputs, {}).status_code == 200
    assert cloud.http.get(url).json()["items"] == before
    changed = {**inputs, "content": "bye"}
    assert cloud.operation("update", OBJECT, f"{bucket}/notes", changed, {}).status_code == 200
    assert cloud.http.get(url).json()["items"] != before


def test_a_tables_families_follow_the_program(cloud: ToyCloud, channel: grpc.Channel) -> None:
    cloud.create(TABLE, table_id(cloud), {"columnFamilies": [{"family": "row"}, {"family": "old"}]})
    changed = {"columnFamilies": [{"family": "row"}, {"family": "new"}]}
    assert cloud.operation("update", TABLE, table_id(cloud), changed, {}).status_code == 200
    assert set(admin(channel).get_table(name=table_id(cloud)).column_families) == {"row", "new"}


def test_a_protected_table_is_not_deleted(cloud: ToyCloud, channel: grpc.Channel) -> None:
    inputs = {"columnFamilies": [{"family": "row"}], "deletionProtection": "PROTECTED"}
    cloud.create(TABLE, table_id(cloud), inputs)
    assert cloud.operation("delete", TABLE, table_id(cloud), {}, {}).status_code == 422
    open_inputs = {**inputs, "deletionProtection": "UNPROTECTED"}
    assert cloud.operation("update", TABLE, table_id(cloud), open_inputs, {}).status_code == 200
    assert cloud.operation("delete", TABLE, table_id(cloud), {}, {}).status_code == 200
    with pytest.raises(NotFound):
        admin(channel).get_table(name=table_id(cloud))


def test_old_versions_are_collected_under_a_policy(cloud: ToyCloud, channel: grpc.Channel) -> None:
    cloud.create(TABLE, table_id(cloud), {"columnFamilies": [{"family": "row"}]})
    policy = {"instanceName": "toys", "table": "features", "columnFamily": "row", "maxVersions": [{"number": 1}]}
    cloud.create(GC_POLICY, f"{table_id(cloud)}/row", {**policy, "project": cloud.project})
    data = BigtableClient(transport=BigtableGrpcTransport(channel=channel))
    for number in range(1, 6):
        cell = {
            "family_name": "row",
            "column_qualifier": b"e",
            "timestamp_micros": number * 1000,
            "value": b"%d" % number,
        }
        data.mutate_row(table_name=table_id(cloud), row_key=b"k", mutations=[{"set_cell": cell}])

    def values() -> list[bytes]:
        return [chunk.value for part in data.read_rows(table_name=table_id(cloud)) for chunk in part.chunks]

    wait_for(lambda: values() == [b"5"], "the newest version alone")


def test_a_killed_cloud_finds_its_stores_as_they_were(cloud: ToyCloud, channel: grpc.Channel) -> None:
    bucket = cloud.bucket("data")
    cloud.put_object(bucket, "a", b"1")
    cloud.create(TABLE, table_id(cloud), {"columnFamilies": [{"family": "row"}]})
    cloud.ground.fault(Cloud.GCP, FaultMode.KILL)
    cloud.ground.restore(Cloud.GCP)
    url = f"{cloud.ground.endpoints.storage}/storage/v1/b/{bucket}/o"
    assert [item["name"] for item in cloud.http.get(url).json()["items"]] == ["a"]
    assert "row" in admin(channel).get_table(name=table_id(cloud)).column_families
