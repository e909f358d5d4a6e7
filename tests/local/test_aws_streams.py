"""Changes of a table reach functions in order per item, whatever fails on the way."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cloud import BUCKET, REGION, AwsCloud, arn, wait_for

from local.ground.client import GroundClient

REPORT = ["ReportBatchItemFailures"]


@pytest.fixture
def aws(ground: GroundClient, tmp_path: Path) -> Iterator[AwsCloud]:
    cloud = AwsCloud(ground, tmp_path)
    yield cloud
    cloud.clean()


def numbers(aws: AwsCloud, function: str) -> dict[str, list[int]]:
    """Return the numbers that the function was given for each item, in order of arrival."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for entry in aws.records(function):
        image = entry["record"]["dynamodb"]["NewImage"]
        found[image["entity"]["S"]].append(int(image["number"]["N"]))
    return dict(found)


def stream_mapping(aws: AwsCloud, stream: str, function: str, **changes: Any) -> str:
    options = {"startingPosition": "TRIM_HORIZON", "batchSize": 100.0, "functionResponseTypes": REPORT}
    return aws.mapping(stream, function, **(options | changes))


def test_each_item_stays_in_order_over_parallel_lanes(aws: AwsCloud) -> None:
    stream = aws.table("s-order")
    aws.function("s-order-fn")
    for number in range(60):
        aws.put("s-order", f"item{number % 6}", number)
    mapping = stream_mapping(aws, stream, "s-order-fn", parallelizationFactor=4.0, batchSize=5.0)
    for number in range(60, 120):
        aws.put("s-order", f"item{number % 6}", number)
    expected = {f"item{item}": list(range(item, 120, 6)) for item in range(6)}
    wait_for(lambda: numbers(aws, "s-order-fn") == expected)
    record = aws.records("s-order-fn")[0]["record"]
    assert record["eventSourceARN"] == stream
    assert record["awsRegion"] == "eu-central-1"
    assert record["dynamodb"]["NewImage"]["e"] == {"B": "AP8="}
    wait_for(lambda: aws.source_statistics(mapping)["pending"] == 0)


@pytest.mark.parametrize("behaviour", ["poison", "raise"])
def test_poison_is_isolated_and_parked_while_others_go_on(aws: AwsCloud, behaviour: str) -> None:
    function, table = f"s-{behaviour}-fn", f"s-{behaviour}"
    parked = aws.queue(f"s-{behaviour}-parked")
    stream = aws.table(table)
    aws.function(function)
    for number in range(40):
        aws.put(table, f"item{number}", number, **({behaviour: "yes"} if number == 17 else {}))
    destination = {"onFailure": {"destinationArn": arn("sqs", f"s-{behaviour}-parked")}}
    mapping = stream_mapping(
        aws,
        stream,
        function,
        bisectBatchOnFunctionError=True,
        maximumRetryAttempts=2.0,
        destinationConfig=destination,
    )
    (message,) = wait_for(lambda: aws.messages(parked))
    position = json.loads(message["Body"])
    assert position["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert position["requestContext"]["functionArn"] == arn("lambda", f"function:{function}")
    info = position["DDBStreamBatchInfo"]
    assert (info["batchSize"], info["streamArn"]) == (1, stream)
    assert info["startSequenceNumber"] == info["endSequenceNumber"]
    wait_for(lambda: aws.source_statistics(mapping)["pending"] == 0)
    statistics = aws.source_statistics(mapping)
    assert (statistics["done"], statistics["parked"], statistics["discarded"]) == (39, 1, 0)
    # The position alone is enough to find the record again.
    tries = [
        e for e in aws.records(function) if e["record"]["dynamodb"]["SequenceNumber"] == info["startSequenceNumber"]
    ]
    assert tries[0]["record"]["dynamodb"]["NewImage"]["number"]["N"] == "17"
    aws.put(table, "later", 99)
    wait_for(lambda: "later" in numbers(aws, function))


def test_a_bucket_gets_the_parked_record_itself(aws: AwsCloud) -> None:
    bucket = "s-parked-bucket"
    aws.create(BUCKET, bucket, {"bucket": bucket, "forceDestroy": True}, {"region": REGION})
    stream = aws.table("s-bucket")
    aws.function("s-bucket-fn")
    mapping = stream_mapping(
        aws,
        stream,
        "s-bucket-fn",
        bisectBatchOnFunctionError=True,
        maximumRetryAttempts=0.0,
        destinationConfig={"onFailure": {"destinationArn": f"arn:aws:s3:::{bucket}"}},
    )
    for number in range(5):
        aws.put("s-bucket", f"item{number}", number, **({"poison": "yes"} if number == 2 else {}))
    wait_for(lambda: aws.source_statistics(mapping)["parked"] == 1)
    s3 = aws.client("s3")
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert entry["Key"].startswith(f"aws/lambda/{mapping}/")
    stored = json.loads(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    (record,) = json.loads(stored["payload"])["Records"]
    assert record["dynamodb"]["NewImage"]["number"]["N"] == "2"
    assert record["dynamodb"]["SequenceNumber"] == stored["DDBStreamBatchInfo"]["startSequenceNumber"]
    wait_for(lambda: aws.source_statistics(mapping)["done"] == 4)


def test_a_record_is_tried_again_until_it_succeeds(aws: AwsCloud) -> None:
    stream = aws.table("s-retry")
    aws.function("s-retry-fn")
    mapping = stream_mapping(aws, stream, "s-retry-fn")
    aws.put("s-retry", "item", 1, poison="yes")
    wait_for(lambda: len(numbers(aws, "s-retry-fn").get("item", [])) >= 3)
    assert aws.source_statistics(mapping)["done"] == 0
    assert aws.source_statistics(mapping)["pending"] == 1


def test_a_killed_cloud_goes_on_at_its_checkpoint(aws: AwsCloud) -> None:
    stream = aws.table("s-kill")
    aws.function("s-kill-fn")
    mapping = stream_mapping(aws, stream, "s-kill-fn", batchSize=10.0)
    for number in range(30):
        aws.put("s-kill", f"item{number}", number)
    wait_for(lambda: len(numbers(aws, "s-kill-fn")) == 30)
    wait_for(lambda: aws.source_statistics(mapping)["pending"] == 0)
    with aws.killed():
        for number in range(30, 50):
            aws.put("s-kill", f"item{number}", number)
    wait_for(lambda: len(numbers(aws, "s-kill-fn")) == 50)
    # Finished records do not come again: the checkpoint was on disk.
    assert all(len(given) == 1 for given in numbers(aws, "s-kill-fn").values())


def test_what_a_killed_cloud_was_doing_is_done_again(aws: AwsCloud) -> None:
    stream = aws.table("s-half")
    aws.function("s-half-fn")
    stream_mapping(aws, stream, "s-half-fn")
    aws.put("s-half", "item", 1, sleep="2")
    wait_for(lambda: numbers(aws, "s-half-fn"))
    with aws.killed():
        pass
    wait_for(lambda: numbers(aws, "s-half-fn") == {"item": [1, 1]})


def test_latest_begins_where_the_mapping_was_made(aws: AwsCloud) -> None:
    stream = aws.table("s-latest")
    aws.function("s-latest-fn")
    aws.put("s-latest", "before", 1)
    mapping = stream_mapping(aws, stream, "s-latest-fn", startingPosition="LATEST")
    wait_for(lambda: aws.source_statistics(mapping)["polls"])
    aws.put("s-latest", "after", 2)
    wait_for(lambda: numbers(aws, "s-latest-fn") == {"after": [2]})


def test_a_filter_passes_over_records(aws: AwsCloud) -> None:
    stream = aws.table("s-filter")
    aws.function("s-filter-fn")
    pattern = json.dumps({"dynamodb": {"Keys": {"entity": {"S": [{"prefix": "user#"}]}}}})
    mapping = stream_mapping(aws, stream, "s-filter-fn", filterCriteria={"filters": [{"pattern": pattern}]})
    for number in range(6):
        aws.put("s-filter", f"user#{number}" if number % 2 else f"other#{number}", number)
    wait_for(lambda: aws.source_statistics(mapping)["records"] == 6)
    wait_for(lambda: aws.source_statistics(mapping)["pending"] == 0)
    assert sorted(numbers(aws, "s-filter-fn")) == ["user#1", "user#3", "user#5"]
    assert aws.source_statistics(mapping)["filtered"] == 3


def test_an_expiry_comes_as_a_removal_by_the_service(aws: AwsCloud) -> None:
    stream = aws.table("s-expiry")
    aws.function("s-expiry-fn")
    stream_mapping(aws, stream, "s-expiry-fn")
    item = {"entity": {"S": "old"}, "number": {"N": "1"}, "expires": {"N": "1700000000"}}
    aws.client("dynamodb").put_item(TableName="s-expiry", Item=item)

    def removals() -> list[dict[str, Any]]:
        records = [entry["record"] for entry in aws.records("s-expiry-fn")]
        return [record for record in records if record["eventName"] == "REMOVE"]

    # The emulator looks for expired items every ten seconds.
    (removal,) = wait_for(removals, 30.0)
    assert removal["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert removal["dynamodb"]["OldImage"]["number"] == {"N": "1"}
