"""A lost AWS stops delivering, and goes on by itself when it is back: nothing is skipped."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_cloud import AwsCloud, arn, wait_for

from local.ground.client import GroundClient
from local.names import Cloud, FaultMode

REPORT = ["ReportBatchItemFailures"]


@pytest.fixture
def aws(ground: GroundClient, tmp_path: Path) -> Iterator[AwsCloud]:
    cloud = AwsCloud(ground, tmp_path)
    yield cloud
    cloud.clean()


@pytest.mark.parametrize("mode", [FaultMode.BLACK_HOLE, FaultMode.HANG, FaultMode.KILL])
def test_pollers_resume_after_an_outage(aws: AwsCloud, no_faults: None, mode: FaultMode) -> None:
    name = f"o-{mode.value}"
    url = aws.queue(f"{name}-q")
    stream = aws.table(name)
    aws.function(f"{name}-stream-fn")
    aws.function(f"{name}-queue-fn")
    aws.mapping(stream, f"{name}-stream-fn", startingPosition="TRIM_HORIZON", functionResponseTypes=REPORT)
    aws.mapping(arn("sqs", f"{name}-q"), f"{name}-queue-fn")
    aws.put(name, "before", 1)
    wait_for(lambda: aws.records(f"{name}-stream-fn"))

    aws.ground.fault(Cloud.AWS, mode)
    # Long enough that every poller has met the outage.
    time.sleep(3.0)
    aws.ground.restore(Cloud.AWS)
    aws.put(name, "after", 2)
    aws.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    wait_for(lambda: len(aws.records(f"{name}-stream-fn")) == 2 and aws.records(f"{name}-queue-fn"), 15.0)
    entities = [entry["record"]["dynamodb"]["Keys"]["entity"]["S"] for entry in aws.records(f"{name}-stream-fn")]
    assert entities == ["before", "after"]


def test_an_outage_costs_few_attempts(aws: AwsCloud, no_faults: None) -> None:
    stream = aws.table("o-calm")
    aws.function("o-calm-fn")
    mapping = aws.mapping(stream, "o-calm-fn", startingPosition="TRIM_HORIZON")
    wait_for(lambda: aws.source_statistics(mapping)["polls"])
    aws.ground.fault(Cloud.AWS, FaultMode.BLACK_HOLE)
    time.sleep(3.0)
    aws.ground.restore(Cloud.AWS)
    wait_for(lambda: aws.source_statistics(mapping)["source_errors"])
    assert aws.source_statistics(mapping)["source_errors"] < 15
