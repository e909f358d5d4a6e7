"""Buckets and tables follow their resources, keep their data, and take a repeated call as the same one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_cloud import BUCKET, TABLE, AwsCloud, RefusedError, table_inputs, table_outputs

from local.ground.client import GroundClient

VERSIONING = "aws:s3/bucketVersioning:BucketVersioning"
ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
PUBLIC_ACCESS = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"


@pytest.fixture
def aws(ground: GroundClient, tmp_path: Path) -> Iterator[AwsCloud]:
    cloud = AwsCloud(ground, tmp_path)
    yield cloud
    cloud.clean()


def test_a_bucket_with_its_settings(aws: AwsCloud) -> None:
    aws.create(BUCKET, "d-bucket", {"bucket": "d-bucket", "forceDestroy": True}, {"region": "eu-central-1"})
    inputs = {"bucket": "d-bucket"}
    aws.create(VERSIONING, "d-versioning", inputs | {"versioningConfiguration": {"status": "Enabled"}})
    rule = {"applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms"}, "bucketKeyEnabled": True}
    aws.create(ENCRYPTION, "d-encryption", inputs | {"rules": [rule]})
    aws.create(PUBLIC_ACCESS, "d-public", inputs | {"blockPublicAcls": True, "blockPublicPolicy": True})
    s3 = aws.client("s3")
    assert s3.get_bucket_versioning(Bucket="d-bucket")["Status"] == "Enabled"
    (found,) = s3.get_bucket_encryption(Bucket="d-bucket")["ServerSideEncryptionConfiguration"]["Rules"]
    assert found["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    block = s3.get_public_access_block(Bucket="d-bucket")["PublicAccessBlockConfiguration"]
    assert (block["BlockPublicAcls"], block["IgnorePublicAcls"]) == (True, False)
    assert s3.get_bucket_location(Bucket="d-bucket")["LocationConstraint"] == "eu-central-1"


def test_a_bucket_with_objects_is_kept_unless_forced(aws: AwsCloud) -> None:
    aws.create(BUCKET, "d-full", {"bucket": "d-full"})
    aws.create(VERSIONING, "d-full-v", {"bucket": "d-full", "versioningConfiguration": {"status": "Enabled"}})
    s3 = aws.client("s3")
    for body in (b"1", b"2"):
        s3.put_object(Bucket="d-full", Key="a", Body=body)
    s3.delete_object(Bucket="d-full", Key="a")
    with pytest.raises(RefusedError, match="forceDestroy"):
        aws.delete(BUCKET, "d-full")
    aws.update(BUCKET, "d-full", {"bucket": "d-full", "forceDestroy": True})
    # As a stack ends: its settings go first, and old versions and the deletion's marker are there still.
    aws.delete(VERSIONING, "d-full-v")
    assert s3.get_bucket_versioning(Bucket="d-full")["Status"] == "Suspended"
    aws.delete(BUCKET, "d-full")
    assert "d-full" not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    aws.delete(BUCKET, "d-full")


def test_a_create_adopts_what_an_interrupted_one_left(aws: AwsCloud) -> None:
    aws.client("s3").create_bucket(Bucket="d-left", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    aws.create(BUCKET, "d-left", {"bucket": "d-left"}, {"region": "eu-central-1"})
    assert aws.exists(BUCKET, "d-left")


def test_a_table_changes_in_place_and_keeps_its_items(aws: AwsCloud) -> None:
    aws.table("d-table")
    aws.put("d-table", "item", 1)
    ttl = {"attributeName": "gone", "enabled": True}
    inputs = table_inputs("d-table", ttl=ttl, deletionProtectionEnabled=True)
    aws.update(TABLE, "d-table", inputs, table_outputs("d-table"))
    dynamodb = aws.client("dynamodb")
    assert dynamodb.describe_time_to_live(TableName="d-table")["TimeToLiveDescription"]["AttributeName"] == "gone"
    assert dynamodb.scan(TableName="d-table")["Count"] == 1
    with pytest.raises(RefusedError, match="deletion protection"):
        aws.delete(TABLE, "d-table")
    aws.update(TABLE, "d-table", inputs | {"deletionProtectionEnabled": False}, table_outputs("d-table"))
    aws.delete(TABLE, "d-table")
    assert not aws.exists(TABLE, "d-table")
