"""Where given-up stream records are reported: a queue gets their position, a bucket their content as well.

Shape: docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html, "Example invocation record" for SQS and for S3.
"""

import json
import uuid
from datetime import UTC, datetime

from local.clouds.aws.arns import Arn
from local.clouds.aws.clients import AwsClients, call
from local.clouds.aws.event_sources.decisions import Batch, ParkedReason
from local.clouds.aws.event_sources.settings import MappingSettings
from local.clouds.aws.event_sources.stream_records import event_payload
from local.clouds.aws.queues import queue_url_of_arn
from local.clouds.errors import ActorError


def invocation_record(
    settings: MappingSettings, function_arn: str, shard_id: str, batch: Batch, reason: ParkedReason, now: float
) -> str:
    """Return the message that says which records of a shard were given up and why."""
    first, last = batch.records[0], batch.records[-1]
    return json.dumps(
        {
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": function_arn,
                "condition": reason.value,
                "approximateInvokeCount": batch.invocations,
            },
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "version": "1.0",
            "timestamp": _iso(now, "milliseconds"),
            "DDBStreamBatchInfo": {
                "shardId": shard_id,
                "startSequenceNumber": first.sequence_number,
                "endSequenceNumber": last.sequence_number,
                "approximateArrivalOfFirstRecord": _iso(first.created_at, "seconds"),
                "approximateArrivalOfLastRecord": _iso(last.created_at, "seconds"),
                "batchSize": len(batch.records),
                "streamArn": settings.source_arn,
            },
        }
    )


async def send(clients: AwsClients, settings: MappingSettings, shard_id: str, batch: Batch, body: str) -> None:
    """Report to the mapping's failure destination.

    Raises ActorError when the queue is gone, the SDK's errors when the destination cannot be reached.
    """
    destination = str(settings.failure_destination_arn)
    arn = Arn.parse(destination)
    if arn.service == "s3":
        await _store(clients, arn.resource, settings, shard_id, batch, body)
        return
    url = await call(queue_url_of_arn, clients, destination)
    if url is None:
        raise ActorError(f"failure destination {destination} does not exist; deploy the queue")
    await call(clients.client("sqs", arn.region).send_message, QueueUrl=url, MessageBody=body)


async def _store(
    clients: AwsClients, bucket: str, settings: MappingSettings, shard_id: str, batch: Batch, body: str
) -> None:
    record = json.loads(body)
    record["payload"] = event_payload([each.body for each in batch.records]).decode()
    now = datetime.now(UTC)
    key = f"aws/lambda/{settings.id}/{shard_id}/{now:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
    await call(
        clients.client("s3", settings.region).put_object, Bucket=bucket, Key=key, Body=json.dumps(record).encode()
    )


def _iso(seconds: float, precision: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", "Z")
