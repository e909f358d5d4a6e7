"""Reads an SQS queue for one mapping; what failed is left to the queue's own visibility timeout and redrive policy."""

import asyncio
import json
import logging
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.clouds.api import describe
from local.clouds.aws.clients import AwsClients, call
from local.clouds.aws.event_sources.counters import Backoff, SourceCounters
from local.clouds.aws.event_sources.queue_messages import filter_view, message_event, succeeded_messages
from local.clouds.aws.event_sources.settings import MappingSettings
from local.clouds.aws.event_sources.stream_records import event_payload
from local.clouds.aws.lambda_host.host import LambdaHost
from local.clouds.aws.lambda_host.runtime import PAYLOAD_BYTES_LIMIT
from local.clouds.aws.queues import queue_url_of_arn
from local.clouds.errors import ActorError, CloudError

logger = logging.getLogger(__name__)

# ReceiveMessage and DeleteMessageBatch take ten messages.
CALL_MESSAGES = 10
# The emulator wakes a waiting call when a message comes, and looks for messages that became visible again once a second.
LONG_POLL_SECONDS = 2
# The queue's visibility timeout runs meanwhile, which Lambda wants at six times the function's limit.
SLOT_PATIENCE_SECONDS = 30.0
SOURCE_ERRORS = (ClientError, BotoCoreError, OSError)


class QueuePoller:
    """Carries one queue to one function until it is cancelled; errors of the source are waited out."""

    def __init__(
        self, settings: MappingSettings, clients: AwsClients, host: LambdaHost, counters: SourceCounters
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._client = clients.polling("sqs", settings.region)
        self._host = host
        self._counters = counters
        self._url = ""
        self._deliveries: set[asyncio.Task[None]] = set()
        self._backoff = Backoff(first_seconds=0.2, limit_seconds=3.0)

    async def run(self) -> None:
        """Poll and deliver, for ever."""
        try:
            while True:
                try:
                    await self._room()
                    events = await self._collect()
                except (*SOURCE_ERRORS, CloudError) as error:
                    # The queue may have been made anew under another address.
                    self._url = ""
                    self._counters.source_errors += 1
                    self._counters.last_error = describe(error)
                    await asyncio.sleep(self._backoff.next_seconds())
                    continue
                self._backoff.reset()
                self._counters.polls += 1
                if events:
                    self._deliver(events)
        finally:
            for delivery in self._deliveries:
                delivery.cancel()
            await asyncio.gather(*self._deliveries, return_exceptions=True)

    def report(self) -> dict[str, Any]:
        """Return the present load as JSON values."""
        return {"in_flight": len(self._deliveries)}

    def _deliver(self, events: list[dict[str, Any]]) -> None:
        delivery = asyncio.create_task(self._invoke(events), name=f"deliver to {self._settings.function_name}")
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def _room(self) -> None:
        """Wait until one more batch may be in flight: a message that waits here would use up its visibility timeout."""
        limit = self._host.limit(self._settings.function_name)
        if not limit:
            raise ActorError(f"function {self._settings.function_name} has no concurrency; messages stay in the queue")
        if self._settings.maximum_concurrency is not None:
            limit = min(limit, self._settings.maximum_concurrency)
        while len(self._deliveries) >= limit:
            await asyncio.wait(self._deliveries, return_when=asyncio.FIRST_COMPLETED)

    async def _collect(self) -> list[dict[str, Any]]:
        """Receive one batch: what is there, or what comes until the window ends."""
        if not self._url:
            url = await call(queue_url_of_arn, self._clients, self._settings.source_arn)
            if url is None:
                raise ActorError(f"queue {self._settings.source_arn} does not exist; deploy it")
            self._url = url
        events = await self._receive(self._settings.batch_size, LONG_POLL_SECONDS)
        deadline = time.monotonic() + self._settings.window_seconds
        size = _bytes(events)
        while events and len(events) < self._settings.batch_size and size < PAYLOAD_BYTES_LIMIT // 2:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            more = await self._receive(self._settings.batch_size - len(events), min(int(left), LONG_POLL_SECONDS))
            if not more and left < 1:
                await asyncio.sleep(min(left, 0.1))
            events += more
            size += _bytes(more)
        return events

    async def _receive(self, wanted: int, wait_seconds: int) -> list[dict[str, Any]]:
        answer = await call(
            self._client.receive_message,
            QueueUrl=self._url,
            MaxNumberOfMessages=min(wanted, CALL_MESSAGES),
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        events = [
            message_event(message, self._settings.source_arn, self._settings.region)
            for message in answer.get("Messages", [])
        ]
        passed = [event for event in events if self._settings.filter.passes(filter_view(event))]
        if len(passed) < len(events):
            # Lambda deletes what its filter does not let through.
            kept = {event["messageId"] for event in passed}
            self._counters.filtered += len(events) - len(passed)
            await self._delete([event for event in events if event["messageId"] not in kept])
        self._counters.records += len(events)
        return passed

    async def _invoke(self, events: list[dict[str, Any]]) -> None:
        payload = event_payload([json.dumps(event, separators=(",", ":")).encode() for event in events])
        try:
            invocation = await self._host.invoke(self._settings.function_name, payload, SLOT_PATIENCE_SECONDS)
        except CloudError as error:
            self._counters.throttled += 1
            self._counters.last_error = describe(error)
            return
        self._counters.batches += 1
        identifiers = [event["messageId"] for event in events]
        succeeded = identifiers if invocation.succeeded else []
        if invocation.succeeded and self._settings.report_failures:
            succeeded = succeeded_messages(invocation.payload, identifiers)
        if len(succeeded) < len(identifiers):
            self._counters.failed_batches += 1
            self._counters.last_error = invocation.payload[:500].decode(errors="replace")
        self._counters.done += len(succeeded)
        try:
            await self._delete([event for event in events if event["messageId"] in set(succeeded)])
        except SOURCE_ERRORS as error:
            # The messages come again after their visibility timeout; SQS promises no less.
            self._counters.source_errors += 1
            self._counters.last_error = describe(error)

    async def _delete(self, events: list[dict[str, Any]]) -> None:
        for start in range(0, len(events), CALL_MESSAGES):
            part = events[start : start + CALL_MESSAGES]
            entries = [{"Id": str(place), "ReceiptHandle": event["receiptHandle"]} for place, event in enumerate(part)]
            answer = await call(self._client.delete_message_batch, QueueUrl=self._url, Entries=entries)
            for failed in answer.get("Failed", []):
                logger.warning("%s: a message was not deleted: %s", self._settings.source_arn, failed.get("Message"))


def _bytes(events: list[dict[str, Any]]) -> int:
    return sum(len(event["body"]) for event in events)
