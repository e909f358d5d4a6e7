"""Functions and mappings are read once, and what is not carried out is refused by name."""

from typing import Any

import pytest

from local.clouds.aws.arns import Arn
from local.clouds.aws.event_sources.checkpoints import CheckpointFile, StreamPosition
from local.clouds.aws.event_sources.settings import MappingSettings, StartingPosition
from local.clouds.aws.lambda_host.settings import FunctionSettings
from local.clouds.errors import ActorError, UnsupportedError
from local.state import Resource

STREAM = "arn:aws:dynamodb:eu-central-1:123456789012:table/features/stream/2026-01-01T00:00:00.000"


def resource(inputs: dict[str, Any], outputs: dict[str, Any] | None = None) -> Resource:
    return Resource("aws", "t", "id", "name", "urn", inputs, outputs or {})


def mapping(**inputs: Any) -> MappingSettings:
    base = {"eventSourceArn": STREAM, "functionName": "f", "startingPosition": "TRIM_HORIZON"}
    return MappingSettings.of(resource(base | inputs))


def test_mapping_defaults_are_lambdas() -> None:
    settings = mapping()
    assert settings.batch_size == 100
    assert settings.retry.maximum_retries is None
    assert settings.retry.maximum_age_seconds is None
    assert settings.parallelization == 1
    assert not settings.report_failures
    queue = MappingSettings.of(resource({"eventSourceArn": "arn:aws:sqs:eu-central-1:1:q", "functionName": "f"}))
    assert queue.batch_size == 10


@pytest.mark.parametrize(
    "name", ["f", "f:7", "arn:aws:lambda:eu-central-1:1:function:f", "arn:aws:lambda:eu-central-1:1:function:f:live"]
)
def test_functions_are_found_by_name_and_arn(name: str) -> None:
    assert mapping(functionName=name).function_name == "f"


def test_minus_one_means_no_bound() -> None:
    settings = mapping(maximumRetryAttempts=-1.0, maximumRecordAgeInSeconds=-1.0)
    assert settings.retry.maximum_retries is None
    assert mapping(maximumRetryAttempts=0.0).retry.maximum_retries == 0


@pytest.mark.parametrize(
    "inputs",
    [
        {"startingPosition": None},
        {"startingPosition": "AT_TIMESTAMP"},
        {"eventSourceArn": "arn:aws:kinesis:eu-central-1:1:stream/s"},
        {"destinationConfig": {"onFailure": {"destinationArn": "arn:aws:sns:eu-central-1:1:t"}}},
    ],
)
def test_unsupported_mappings_are_refused(inputs: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError):
        mapping(**inputs)


def test_latest_is_read() -> None:
    assert mapping(startingPosition="LATEST").starting_position is StartingPosition.LATEST


def test_function_settings() -> None:
    inputs = {
        "name": "f",
        "handler": "functions.entry_aws.apply",
        "runtime": "python3.12",
        "timeout": 30.0,
        "code": {"archive": "/a", "sha256": "0" * 64},
        "environment": {"variables": {"A": "1"}},
        "reservedConcurrentExecutions": -1.0,
    }
    settings = FunctionSettings.of(resource(inputs, {"arn": "arn:aws:lambda:eu-central-1:123456789012:function:f"}))
    assert settings.region == "eu-central-1"
    assert settings.reserved_concurrency is None
    assert settings.environment == {"A": "1"}
    with pytest.raises(UnsupportedError, match="nodejs"):
        FunctionSettings.of(resource({**inputs, "runtime": "nodejs22.x"}))
    with pytest.raises(UnsupportedError, match="archive"):
        FunctionSettings.of(resource({**inputs, "code": None}))


def test_arn_must_be_one() -> None:
    with pytest.raises(ActorError, match="not an ARN"):
        Arn.parse("features")


def test_checkpoints_outlive_their_writer_and_not_their_stream(tmp_path: Any) -> None:
    position = StreamPosition("stream-1", "shard", "0007", None, ("older",))
    CheckpointFile(tmp_path, "mapping").save(position)
    assert CheckpointFile(tmp_path, "mapping").load("stream-1") == position
    assert CheckpointFile(tmp_path, "mapping").load("stream-2") == StreamPosition("stream-2")
    assert CheckpointFile(tmp_path, "other").load("stream-1") == StreamPosition("stream-1")
    CheckpointFile(tmp_path, "mapping").remove()
    assert CheckpointFile(tmp_path, "mapping").load("stream-1") == StreamPosition("stream-1")
