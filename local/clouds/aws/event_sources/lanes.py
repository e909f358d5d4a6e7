"""Sends stream records to a function in lanes: in order within a lane, lanes beside each other.

An item's records always take the same lane, so they stay in order; a record that fails holds up its own lane only.
"""

import asyncio
import logging
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from local.clouds.api import describe
from local.clouds.aws.event_sources.counters import Backoff, SourceCounters
from local.clouds.aws.event_sources.decisions import (
    Batch,
    Decision,
    Failure,
    ParkedReason,
    StreamRecord,
    decide,
    expire,
    reported_failure,
)
from local.clouds.aws.event_sources.settings import MappingSettings
from local.clouds.aws.event_sources.stream_records import event_payload
from local.clouds.aws.lambda_host.host import LambdaHost
from local.clouds.aws.lambda_host.runtime import PAYLOAD_BYTES_LIMIT
from local.clouds.errors import FunctionNotFoundError, ThrottledError

logger = logging.getLogger(__name__)

RETRY_FIRST_SECONDS = 0.1
RETRY_LIMIT_SECONDS = 5.0
# Brackets and commas of the event around the records.
ENVELOPE_BYTES = 64
# A lane waits its turn behind other lanes and mappings of the function before the wait counts as throttling.
SLOT_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class LaneDuties:
    """What a lane asks of its poller: to take note of finished records and to report given-up ones."""

    finished: Callable[[tuple[StreamRecord, ...]], None]
    park: Callable[[Batch, ParkedReason], Awaitable[None]]


class Lane:
    """One ordered line of records to a function."""

    def __init__(
        self, settings: MappingSettings, host: LambdaHost, counters: SourceCounters, duties: LaneDuties
    ) -> None:
        self._settings = settings
        self._host = host
        self._counters = counters
        self._duties = duties
        self._waiting: deque[StreamRecord] = deque()
        self._again: deque[Batch] = deque()
        self._added = asyncio.Event()
        self._backoff = Backoff(RETRY_FIRST_SECONDS, RETRY_LIMIT_SECONDS)

    def add(self, record: StreamRecord) -> None:
        """Append a record."""
        self._waiting.append(record)
        self._added.set()

    async def run(self) -> None:
        """Send what is added, for ever."""
        while True:
            batch = self._again.popleft() if self._again else await self._next_batch()
            aged = expire(batch, self._settings.retry, time.time())
            if aged.parked is not None:
                await self._carry_out(aged)
                continue
            await self._carry_out(await self._send(batch))

    async def _next_batch(self) -> Batch:
        while not self._waiting:
            self._added.clear()
            await self._added.wait()
        if self._settings.window_seconds:
            await self._fill(time.monotonic() + self._settings.window_seconds)
        records: list[StreamRecord] = []
        size = ENVELOPE_BYTES
        while self._waiting and len(records) < self._settings.batch_size:
            size += len(self._waiting[0].body) + 1
            if records and size > PAYLOAD_BYTES_LIMIT:
                break
            records.append(self._waiting.popleft())
        return Batch(tuple(records))

    async def _fill(self, deadline: float) -> None:
        while len(self._waiting) < self._settings.batch_size and (left := deadline - time.monotonic()) > 0:
            self._added.clear()
            try:
                async with asyncio.timeout(left):
                    await self._added.wait()
            except TimeoutError:
                return

    async def _send(self, batch: Batch) -> Decision:
        payload = event_payload([record.body for record in batch.records])
        try:
            invocation = await self._host.invoke(self._settings.function_name, payload, SLOT_PATIENCE_SECONDS)
        except (ThrottledError, FunctionNotFoundError) as error:
            # Neither says anything about the records, so neither uses up a retry.
            self._counters.throttled += 1
            self._counters.last_error = describe(error)
            return Decision(following=(batch,), pause=True)
        self._counters.batches += 1
        failure: Failure | None = None
        if not invocation.succeeded:
            failure = Failure()
        elif self._settings.report_failures:
            failure = reported_failure(invocation.payload, batch.records)
        if failure is None:
            self._backoff.reset()
        else:
            self._counters.failed_batches += 1
            self._counters.last_error = invocation.payload[:500].decode(errors="replace")
        return decide(batch, failure, self._settings.retry)

    async def _carry_out(self, decision: Decision) -> None:
        """Act on a decision in this order, so that a crash in between repeats records and never skips one."""
        self._again.extendleft(reversed(decision.following))
        if decision.split:
            self._counters.splits += 1
        if decision.done:
            self._counters.done += len(decision.done)
            self._duties.finished(decision.done)
        if decision.parked is not None and decision.reason is not None:
            await self._duties.park(decision.parked, decision.reason)
            self._backoff.reset()
            self._duties.finished(decision.parked.records)
        if decision.pause:
            await asyncio.sleep(self._backoff.next_seconds())


def lane_of(record: StreamRecord, lanes: int) -> int:
    """Return the lane of a record, the same for all records of its item, also after a restart."""
    return zlib.crc32(record.partition.encode()) % lanes
