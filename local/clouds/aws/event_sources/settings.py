"""What an event source mapping asks for, read from its resource once and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from local.clouds.aws.arns import Arn
from local.clouds.aws.event_sources.decisions import RetryPolicy
from local.clouds.aws.event_sources.patterns import EventFilter
from local.clouds.errors import UnsupportedError
from local.state import Resource

# docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
QUEUE_BATCH_SIZE_DEFAULT = 10
STREAM_BATCH_SIZE_DEFAULT = 100
REPORT_FAILURES = "ReportBatchItemFailures"


class StartingPosition(StrEnum):
    """Where a mapping without a checkpoint begins in a stream."""

    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"


@dataclass(frozen=True)
class MappingSettings:
    """One event source mapping; equal settings need no new poller."""

    id: str
    source_arn: str
    function_name: str
    batch_size: int
    window_seconds: float
    report_failures: bool
    filter: EventFilter
    enabled: bool
    maximum_concurrency: int | None
    """Batches of a queue in flight at once; None: as many as the function takes."""
    starting_position: StartingPosition
    parallelization: int
    retry: RetryPolicy
    failure_destination_arn: str | None

    @property
    def region(self) -> str:
        """Region of the source, from its ARN."""
        return Arn.parse(self.source_arn).region

    @classmethod
    def of(cls, resource: Resource) -> "MappingSettings":
        """Read `aws:lambda/eventSourceMapping:EventSourceMapping`. Raises UnsupportedError or ActorError."""
        inputs = resource.inputs
        source_arn = str(inputs["eventSourceArn"])
        service = Arn.parse(source_arn).service
        if service not in ("sqs", "dynamodb"):
            raise UnsupportedError(
                f"event source {source_arn}: the local cloud reads from SQS and DynamoDB streams only"
            )
        report = REPORT_FAILURES in (inputs.get("functionResponseTypes") or [])
        is_queue = service == "sqs"
        return cls(
            id=resource.id,
            source_arn=source_arn,
            function_name=_function_name(str(inputs["functionName"])),
            batch_size=int(
                inputs.get("batchSize") or (QUEUE_BATCH_SIZE_DEFAULT if is_queue else STREAM_BATCH_SIZE_DEFAULT)
            ),
            window_seconds=float(inputs.get("maximumBatchingWindowInSeconds") or 0),
            report_failures=report,
            filter=EventFilter.of(inputs.get("filterCriteria")),
            enabled=bool(inputs.get("enabled", True)),
            maximum_concurrency=_bound((inputs.get("scalingConfig") or {}).get("maximumConcurrency")),
            starting_position=_starting_position(source_arn, inputs, is_queue),
            parallelization=int(inputs.get("parallelizationFactor") or 1),
            retry=RetryPolicy(
                bisect=bool(inputs.get("bisectBatchOnFunctionError", False)),
                maximum_retries=_bound(inputs.get("maximumRetryAttempts")),
                maximum_age_seconds=_bound(inputs.get("maximumRecordAgeInSeconds")),
            ),
            failure_destination_arn=_destination(source_arn, inputs),
        )


def _function_name(text: str) -> str:
    """Return the name in a function's name, ARN, or ARN with a version or alias."""
    if not text.startswith("arn:"):
        return text.partition(":")[0]
    return Arn.parse(text).resource.removeprefix("function:").partition(":")[0]


def _bound(value: Any) -> int | None:
    # -1 is Lambda's "no bound of its own".
    return None if value is None or int(value) < 0 else int(value)


def _starting_position(source_arn: str, inputs: Mapping[str, Any], is_queue: bool) -> StartingPosition:
    if is_queue:
        return StartingPosition.TRIM_HORIZON
    try:
        return StartingPosition(str(inputs.get("startingPosition")))
    except ValueError as error:
        raise UnsupportedError(
            f"event source {source_arn}: startingPosition is {inputs.get('startingPosition')!r};"
            f" a stream takes {' or '.join(StartingPosition)}"
        ) from error


def _destination(source_arn: str, inputs: Mapping[str, Any]) -> str | None:
    arn = ((inputs.get("destinationConfig") or {}).get("onFailure") or {}).get("destinationArn")
    if arn and Arn.parse(str(arn)).service not in ("sqs", "s3"):
        raise UnsupportedError(
            f"event source {source_arn}: failure destination {arn} is neither an SQS queue nor a bucket; use one locally"
        )
    return str(arn) if arn else None
