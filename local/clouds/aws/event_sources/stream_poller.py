"""Reads a DynamoDB stream for one mapping: shard after shard, parents first, from the checkpoint on."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.clouds.api import describe
from local.clouds.aws.arns import Arn
from local.clouds.aws.buckets import error_code
from local.clouds.aws.clients import AwsClients, call
from local.clouds.aws.event_sources import destinations
from local.clouds.aws.event_sources.checkpoints import CheckpointFile, StreamPosition
from local.clouds.aws.event_sources.counters import Backoff, SourceCounters
from local.clouds.aws.event_sources.decisions import Batch, ParkedReason, ShardProgress, StreamRecord
from local.clouds.aws.event_sources.lanes import Lane, LaneDuties, lane_of
from local.clouds.aws.event_sources.settings import MappingSettings, StartingPosition
from local.clouds.aws.event_sources.stream_records import encoded, stream_record
from local.clouds.aws.lambda_host.host import LambdaHost
from local.clouds.errors import ActorError, CloudError

logger = logging.getLogger(__name__)

# GetRecords returns at most a thousand records.
PAGE_RECORDS = 1000
# A poll costs about 3 ms of one core. Writes tend to come together, so the next poll after a record is soon, and an idle
# stream is asked a dozen times a second: a lone write waits 40 ms at the median.
BUSY_POLL_SECONDS = 0.04
IDLE_POLL_SECONDS = 0.08
POLL_GROWTH = 1.3
# Records in memory above the checkpoint: enough to keep all lanes busy behind one that is held up.
PENDING_LIMIT = 10_000
SHARD_END_POLL_SECONDS = 0.5
SOURCE_ERRORS = (ClientError, BotoCoreError, OSError)


class StreamPoller:
    """Carries one stream to one function until it is cancelled; errors of the source are waited out."""

    def __init__(
        self,
        settings: MappingSettings,
        clients: AwsClients,
        host: LambdaHost,
        checkpoints: CheckpointFile,
        counters: SourceCounters,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._host = host
        self._checkpoints = checkpoints
        self._counters = counters
        self._table = Arn.parse(settings.source_arn).resource.split("/")[1]
        duties = LaneDuties(self._finished, self._park)
        self._lanes = [Lane(settings, host, counters, duties) for _ in range(settings.parallelization)]
        self._position = StreamPosition("")
        self._progress = ShardProgress(None)
        self._moved = asyncio.Event()
        self._backoff = Backoff(first_seconds=0.2, limit_seconds=3.0)

    async def run(self) -> None:
        """Poll and deliver, for ever."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(lane.run(), name=f"lane of {self._settings.function_name}")
            group.create_task(self._follow(), name=f"poll {self._table}")

    def report(self) -> dict[str, Any]:
        """Return the place in the stream as JSON values."""
        return {"checkpoint": self._progress.checkpoint, "pending": self._progress.pending}

    async def _follow(self) -> None:
        while True:
            try:
                await self._open_stream()
                while (shard := await self._next_shard()) is not None:
                    await self._read_shard(shard)
                await asyncio.sleep(SHARD_END_POLL_SECONDS)
            except (*SOURCE_ERRORS, CloudError) as error:
                await self._wait_out(error)

    async def _wait_out(self, error: Exception) -> None:
        self._counters.source_errors += 1
        self._counters.last_error = describe(error)
        await asyncio.sleep(self._backoff.next_seconds())

    async def _open_stream(self) -> None:
        """Find the table's present stream, and the place in it; what lanes still hold of it is kept."""
        client = self._clients.polling("dynamodb", self._settings.region)
        table = (await call(client.describe_table, TableName=self._table))["Table"]
        stream_arn = table.get("LatestStreamArn")
        if not stream_arn:
            raise ActorError(f"table {self._table} has no stream; set streamEnabled")
        if stream_arn != self._position.stream_arn:
            await self._settle()
            self._position = self._checkpoints.load(str(stream_arn))
            self._progress = ShardProgress(self._position.sequence_number)

    async def _settle(self) -> None:
        """Wait until the lanes have finished everything that was fetched."""
        while self._progress.pending:
            self._moved.clear()
            await self._moved.wait()

    async def _next_shard(self) -> str | None:
        shards = await self._shards()
        if self._position.shard_id in shards:
            return self._position.shard_id
        for shard_id, parent in shards.items():
            # A parent that the stream has forgotten is no longer listed and holds nobody up.
            if shard_id not in self._position.closed_shards and (
                parent not in shards or parent in self._position.closed_shards
            ):
                return shard_id
        return None

    async def _shards(self) -> Mapping[str, str | None]:
        client = self._clients.polling("dynamodbstreams", self._settings.region)
        shards: dict[str, str | None] = {}
        options: dict[str, str] = {}
        while True:
            answer = await call(client.describe_stream, StreamArn=self._position.stream_arn, **options)
            description = answer["StreamDescription"]
            shards |= {shard["ShardId"]: shard.get("ParentShardId") for shard in description["Shards"]}
            last = description.get("LastEvaluatedShardId")
            if not last:
                return shards
            options = {"ExclusiveStartShardId": last}

    async def _read_shard(self, shard_id: str) -> None:
        """Read a shard to its end, then take note that it is closed."""
        if self._position.shard_id != shard_id:
            self._position = replace(self._position, shard_id=shard_id, sequence_number=None)
            self._progress = ShardProgress(None)
        client = self._clients.polling("dynamodbstreams", self._settings.region)
        last = self._progress.checkpoint
        iterator = await self._iterator(client, shard_id, last)
        pause = BUSY_POLL_SECONDS
        while iterator:
            try:
                answer = await call(client.get_records, ShardIterator=iterator, Limit=PAGE_RECORDS)
            except ClientError as error:
                if error_code(error) == "ResourceNotFoundException":
                    raise
                last = await self._iterator_lost(error, last)
                iterator = await self._iterator(client, shard_id, last)
                continue
            except (BotoCoreError, OSError) as error:
                await self._wait_out(error)
                continue
            self._backoff.reset()
            self._counters.polls += 1
            iterator = answer.get("NextShardIterator")
            records = answer["Records"]
            if records:
                last = records[-1]["dynamodb"]["SequenceNumber"]
                self._distribute(records)
            await self._have_room()
            if len(records) < PAGE_RECORDS:
                pause = BUSY_POLL_SECONDS if records else min(pause * POLL_GROWTH, IDLE_POLL_SECONDS)
                await asyncio.sleep(pause)
        await self._settle()
        closed = (*self._position.closed_shards, shard_id)
        self._save(StreamPosition(self._position.stream_arn, closed_shards=closed))

    async def _iterator(self, client: Any, shard_id: str, after: str | None) -> str:
        options: dict[str, str] = {"ShardIteratorType": "TRIM_HORIZON"}
        if after is not None:
            options = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        elif self._settings.starting_position is StartingPosition.LATEST and not self._position.closed_shards:
            if self._position.iterator is not None:
                return self._position.iterator
            options = {"ShardIteratorType": "LATEST"}
        answer = await call(client.get_shard_iterator, StreamArn=self._position.stream_arn, ShardId=shard_id, **options)
        iterator = str(answer["ShardIterator"])
        if options["ShardIteratorType"] == "LATEST":
            self._save(replace(self._position, iterator=iterator))
        return iterator

    async def _iterator_lost(self, error: ClientError, last: str | None) -> str | None:
        """Say where to go on after an iterator was refused."""
        code = error_code(error)
        if code == "TrimmedDataAccessException":
            # Nothing can bring those records back here; whoever compares both sides must know.
            self._counters.trimmed += 1
            logger.error("%s: the stream no longer holds the records after %s", self._settings.source_arn, last)
            self._position = replace(self._position, iterator=None)
            return None
        if code == "ExpiredIteratorException":
            self._position = replace(self._position, iterator=None)
            return last
        await self._wait_out(error)
        return last

    def _distribute(self, records: list[dict[str, Any]]) -> None:
        now = time.time()
        passed: list[StreamRecord] = []
        dropped: list[str] = []
        for record in records:
            event, created_at = stream_record(record, self._settings.source_arn, self._settings.region, now)
            if self._settings.filter.passes(event):
                passed.append(encoded(event, created_at))
            else:
                dropped.append(str(event["dynamodb"]["SequenceNumber"]))
        self._counters.records += len(records)
        self._counters.filtered += len(dropped)
        self._progress.fetched([str(record["dynamodb"]["SequenceNumber"]) for record in records])
        for entry in passed:
            self._lanes[lane_of(entry, len(self._lanes))].add(entry)
        self._mark(dropped)

    async def _have_room(self) -> None:
        while self._progress.pending >= PENDING_LIMIT:
            self._moved.clear()
            await self._moved.wait()

    def _finished(self, records: tuple[StreamRecord, ...]) -> None:
        self._mark([record.sequence_number for record in records])

    def _mark(self, sequence_numbers: list[str]) -> None:
        if self._progress.finished(sequence_numbers):
            self._save(replace(self._position, sequence_number=self._progress.checkpoint, iterator=None))
            self._moved.set()

    def _save(self, position: StreamPosition) -> None:
        self._position = position
        self._checkpoints.save(position)

    async def _park(self, batch: Batch, reason: ParkedReason) -> None:
        """Report given-up records to the failure destination, however long that takes; without one they are discarded."""
        if self._settings.failure_destination_arn is None:
            self._counters.discarded += len(batch.records)
            logger.error("%s: discarded %d records: %s", self._settings.source_arn, len(batch.records), reason.value)
            return
        function_arn = self._host.settings(self._settings.function_name).arn
        shard_id = self._position.shard_id or ""
        body = destinations.invocation_record(self._settings, function_arn, shard_id, batch, reason, time.time())
        backoff = Backoff(first_seconds=0.2, limit_seconds=3.0)
        while True:
            try:
                await destinations.send(self._clients, self._settings, shard_id, batch, body)
                break
            except (*SOURCE_ERRORS, CloudError) as error:
                self._counters.last_error = describe(error)
                await asyncio.sleep(backoff.next_seconds())
        self._counters.parked += len(batch.records)
