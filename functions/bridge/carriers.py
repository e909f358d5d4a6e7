"""The two ends that a bridge sends to: a topic that takes a batch in one call, a queue that says which entries it took."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from functions.bridge.parcel import PUBSUB_BYTES, SQS_BYTES, Outgoing, entry_bytes
from functions.errors import FunctionError
from functions.stores.errors import StoreRefusedError, StoreUnavailableError
from functions.stores.queues import PubSubTopic, sqs_errors

_TIMEOUT_SECONDS = 10.0
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
SQS_MESSAGES = 10

Entry = Mapping[str, Any]


class Topic(Protocol):
    """A topic to publish to."""

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send all in as few calls as fit; returns when each is acknowledged. A failure may have sent some."""


class BridgeTopic:
    """One topic by its full name, over a channel of `wire.open_channel`; keeps ordering keys and bytes."""

    HOST = PubSubTopic.HOST

    def __init__(self, channel: Any, topic: str) -> None:
        from google.pubsub_v1.types import pubsub

        self._request = type(pubsub.PublishRequest.pb(pubsub.PublishRequest()))
        answer = type(pubsub.PublishResponse.pb(pubsub.PublishResponse()))
        self._topic = topic
        self._call = channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish", self._request.SerializeToString, answer.FromString
        )

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send all: a batch of ten is one call unless its bytes pass what a call takes."""
        from functions.stores.wire import rpc_errors

        waiting, size = self._request(topic=self._topic), 0
        for message in messages:
            if waiting.messages and size + message.size > PUBSUB_BYTES:
                self._send(waiting, rpc_errors)
                waiting, size = self._request(topic=self._topic), 0
            waiting.messages.add(data=message.data, attributes=dict(message.attributes), ordering_key=message.key)
            size += message.size
        if waiting.messages:
            self._send(waiting, rpc_errors)

    def _send(self, request: Any, rpc_errors: Any) -> None:
        with rpc_errors(f"topic {self._topic}"):
            self._call(request, timeout=_TIMEOUT_SECONDS, metadata=(("x-goog-request-params", f"topic={self._topic}"),))


class BridgeQueue:
    """One queue by its URL. `client` is a boto3 SQS client."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    @property
    def fifo(self) -> bool:
        """Say whether the queue keeps order and knows repeats: its name says so (SQS developer guide, FIFO queues)."""
        return self._url.endswith(".fifo")

    def send(self, entries: Sequence[Entry]) -> list[FunctionError | None]:
        """Send up to ten entries, in one call if their bytes fit; each is answered by its error, or None."""
        answers: list[FunctionError | None] = []
        for batch in _by_bytes(entries):
            numbered = [{**entry, "Id": str(index)} for index, entry in enumerate(batch)]
            with sqs_errors(self._url):
                answer = self._client.send_message_batch(QueueUrl=self._url, Entries=numbered)
            failures = {int(failure["Id"]): self._error(failure) for failure in answer.get("Failed", ())}
            answers += [failures.get(index) for index in range(len(batch))]
        return answers

    def _error(self, failure: Mapping[str, Any]) -> FunctionError:
        text = f"queue {self._url}: message not taken ({failure.get('Code')}: {failure.get('Message')})"
        return StoreRefusedError(text) if failure.get("SenderFault") else StoreUnavailableError(text)


def _by_bytes(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        length = entry_bytes(entry)
        if batch and size + length > SQS_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch
