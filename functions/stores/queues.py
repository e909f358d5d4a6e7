"""SQS queues and Pub/Sub topics to send to, in batches as large as each provider takes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from functions.parking import park_message
from functions.settings import MEBIBYTE
from functions.stores.errors import (
    AccessDeniedError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    ThrottledError,
)
from functions.stores.protocols import Message

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html: 10 messages; bytes kept
# below the 256 KiB that every region has long taken.
_SQS_MESSAGES, _SQS_BYTES = 10, 240 * 1024
# Pub/Sub takes 1,000 messages and 10 MB a call (https://cloud.google.com/pubsub/quotas); a server with gRPC's default limit
# takes 4 MiB.
_PUBSUB_MESSAGES, _PUBSUB_BYTES = 1_000, 3 * MEBIBYTE
_TIMEOUT_SECONDS = 10.0


class SqsQueue:
    """One queue by its URL. `client` is a boto3 SQS client."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def publish(self, messages: Sequence[Message]) -> None:
        for batch in _batches(messages, _SQS_MESSAGES, _SQS_BYTES):
            entries = [
                {
                    "Id": str(index),
                    "MessageBody": message.body,
                    "MessageAttributes": {
                        name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()
                    },
                }
                for index, message in enumerate(batch)
            ]
            with sqs_errors(self._url):
                answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
            if failed := answer.get("Failed"):
                raise StoreUnavailableError(
                    f"queue {self._url}: {len(failed)} messages not taken ({failed[0].get('Message')})"
                )


class SqsSource:
    """The queues that messages came from, known by the ARN that each message carries."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._urls: dict[str, str] = {}

    def again_after(self, record: Mapping[str, Any], seconds: int) -> None:
        """Make the message visible again after so many seconds instead of after the queue's own time-out."""
        url = self._url(record["eventSourceARN"])
        with sqs_errors(url):
            self._client.change_message_visibility(
                QueueUrl=url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=seconds
            )

    def park(self, record: Mapping[str, Any], reason: str) -> None:
        """Send the message to its queue's dead letter queue; StoreRefusedError if the queue has none."""
        url = self._url(record["eventSourceARN"])
        with sqs_errors(url):
            answer = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
        policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", "{}"))
        if not policy.get("deadLetterTargetArn"):
            raise StoreRefusedError(f"queue {url} has no dead letter queue to park a message on; give it one")
        park_message(SqsQueue(self._client, self._url(policy["deadLetterTargetArn"])), record["body"], {}, reason)

    def _url(self, arn: str) -> str:
        if arn not in self._urls:
            _, _, _, _, account, name = arn.split(":", 5)
            with sqs_errors(arn):
                self._urls[arn] = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        return self._urls[arn]


@contextmanager
def sqs_errors(where: str) -> Iterator[None]:
    """Turn botocore's errors into ours."""
    # Only this form of queue needs botocore, and functions of the other site do without it.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        kinds: dict[int, type[StoreError]] = {429: ThrottledError, 403: AccessDeniedError}
        kind = kinds.get(status, StoreRefusedError if 400 <= status < 500 else StoreUnavailableError)
        raise kind(f"queue {where}: {error}") from error
    except BotoCoreError as error:
        raise StoreUnavailableError(f"queue {where}: no usable answer ({error}); try again") from error


class PubSubTopic:
    """One topic by its full name, over a channel of `wire.open_channel`."""

    HOST = "pubsub.googleapis.com:443"

    def __init__(self, channel: Any, topic: str) -> None:
        from google.pubsub_v1.types import pubsub

        self._request = type(pubsub.PublishRequest.pb(pubsub.PublishRequest()))
        answer = type(pubsub.PublishResponse.pb(pubsub.PublishResponse()))
        self._topic = topic
        self._publish = channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish", self._request.SerializeToString, answer.FromString
        )

    def publish(self, messages: Sequence[Message]) -> None:
        from functions.stores.wire import rpc_errors

        for batch in _batches(messages, _PUBSUB_MESSAGES, _PUBSUB_BYTES):
            request = self._request(topic=self._topic)
            for message in batch:
                request.messages.add(data=message.body.encode(), attributes=dict(message.attributes))
            with rpc_errors(f"topic {self._topic}"):
                self._publish(
                    request, timeout=_TIMEOUT_SECONDS, metadata=(("x-goog-request-params", f"topic={self._topic}"),)
                )


def _batches(messages: Sequence[Message], most: int, most_bytes: int) -> Iterator[list[Message]]:
    batch: list[Message] = []
    size = 0
    for message in messages:
        length = len(message.body.encode()) + sum(len(name) + len(value) for name, value in message.attributes.items())
        if batch and (len(batch) >= most or size + length > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch
