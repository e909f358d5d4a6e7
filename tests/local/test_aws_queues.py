"""Messages reach functions in batches; only what succeeded leaves the queue."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_cloud import BUCKET, MAPPING, NOTIFICATION, QUEUE, REGION, AwsCloud, arn, queue_outputs, wait_for

from local.ground.client import GroundClient

REPORT = ["ReportBatchItemFailures"]
REGIONAL = {"region": REGION}


@pytest.fixture
def aws(ground: GroundClient, tmp_path: Path) -> Iterator[AwsCloud]:
    cloud = AwsCloud(ground, tmp_path)
    yield cloud
    cloud.clean()


def send(aws: AwsCloud, url: str, *bodies: dict[str, object]) -> None:
    entries = [{"Id": str(place), "MessageBody": json.dumps(body)} for place, body in enumerate(bodies)]
    aws.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)


def given(aws: AwsCloud, function: str) -> list[int]:
    return sorted(json.loads(entry["record"]["body"])["number"] for entry in aws.records(function))


def left(aws: AwsCloud, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(value) for value in attributes.values())


def test_only_failed_messages_come_again_and_end_as_dead_letters(aws: AwsCloud) -> None:
    dead = aws.queue("q-partial-dead")
    redrive = json.dumps({"deadLetterTargetArn": arn("sqs", "q-partial-dead"), "maxReceiveCount": 3})
    url = aws.queue("q-partial", visibilityTimeoutSeconds=1.0, redrivePolicy=redrive)
    aws.function("q-partial-fn")
    aws.mapping(arn("sqs", "q-partial"), "q-partial-fn", functionResponseTypes=REPORT)
    send(aws, url, *({"number": n} | ({"poison": True} if n == 2 else {}) for n in range(5)))
    (letter,) = wait_for(lambda: aws.messages(dead))
    assert json.loads(letter["Body"])["number"] == 2
    assert given(aws, "q-partial-fn") == [0, 1, 2, 2, 2, 3, 4]
    assert left(aws, url) == 0


def test_a_failed_invocation_keeps_its_whole_batch(aws: AwsCloud) -> None:
    url = aws.queue("q-crash", visibilityTimeoutSeconds=60.0)
    aws.function("q-crash-fn")
    mapping = aws.mapping(arn("sqs", "q-crash"), "q-crash-fn", functionResponseTypes=REPORT)
    send(aws, url, {"number": 1}, {"number": 2, "crash": True})
    wait_for(lambda: aws.source_statistics(mapping)["failed_batches"])
    assert left(aws, url) == 2


def test_a_queue_holds_what_arrives_without_its_mapping(aws: AwsCloud) -> None:
    url = aws.queue("q-paused")
    aws.function("q-paused-fn")
    mapping = aws.mapping(arn("sqs", "q-paused"), "q-paused-fn", enabled=False)
    send(aws, url, {"number": 1})
    assert left(aws, url) == 1
    aws.update(MAPPING, mapping, {"eventSourceArn": arn("sqs", "q-paused"), "functionName": "q-paused-fn"})
    wait_for(lambda: given(aws, "q-paused-fn") == [1])
    wait_for(lambda: left(aws, url) == 0)


def test_a_window_fills_the_batch(aws: AwsCloud) -> None:
    url = aws.queue("q-window")
    aws.function("q-window-fn")
    options = {"batchSize": 30.0, "maximumBatchingWindowInSeconds": 3.0}
    mapping = aws.mapping(arn("sqs", "q-window"), "q-window-fn", **options)
    for start in range(0, 30, 10):
        send(aws, url, *({"number": n} for n in range(start, start + 10)))
    wait_for(lambda: given(aws, "q-window-fn") == list(range(30)))
    assert aws.source_statistics(mapping)["batches"] <= 2


def test_a_filter_drops_what_does_not_match(aws: AwsCloud) -> None:
    url = aws.queue("q-filter")
    aws.function("q-filter-fn")
    criteria = {"filters": [{"pattern": json.dumps({"body": {"kind": ["manifest"]}})}]}
    mapping = aws.mapping(arn("sqs", "q-filter"), "q-filter-fn", filterCriteria=criteria)
    send(aws, url, {"number": 1, "kind": "pack"}, {"number": 2, "kind": "manifest"})
    wait_for(lambda: given(aws, "q-filter-fn") == [2])
    wait_for(lambda: left(aws, url) == 0)
    assert aws.source_statistics(mapping)["filtered"] == 1


def test_an_upload_reaches_the_function_through_the_queue(aws: AwsCloud) -> None:
    url = aws.queue("q-upload")
    aws.function("q-upload-fn")
    aws.create(BUCKET, "q-upload-bucket", {"bucket": "q-upload-bucket", "forceDestroy": True}, REGIONAL)
    queue = {"queueArn": arn("sqs", "q-upload"), "events": ["s3:ObjectCreated:*"], "filterPrefix": "manifests/"}
    aws.create(NOTIFICATION, "q-upload-notification", {"bucket": "q-upload-bucket", "queues": [queue]}, REGIONAL)
    aws.mapping(arn("sqs", "q-upload"), "q-upload-fn", functionResponseTypes=REPORT)
    s3 = aws.client("s3")
    s3.put_object(Bucket="q-upload-bucket", Key="packs/1", Body=b"")
    s3.put_object(Bucket="q-upload-bucket", Key="manifests/model/1.json", Body=b"{}")

    def keys() -> list[str]:
        bodies = [json.loads(entry["record"]["body"]) for entry in aws.records("q-upload-fn")]
        return [record["s3"]["object"]["key"] for body in bodies for record in body.get("Records", [])]

    assert wait_for(keys) == ["manifests%2Fmodel%2F1.json"]
    wait_for(lambda: left(aws, url) == 0)


def test_a_queue_changes_in_place(aws: AwsCloud) -> None:
    url = aws.queue("q-change", visibilityTimeoutSeconds=30.0)
    send(aws, url, {"number": 1})
    aws.update(QUEUE, "q-change", {"name": "q-change", "visibilityTimeoutSeconds": 90.0}, queue_outputs("q-change"))
    attributes = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "90"
    assert left(aws, url) == 1
