"""The Spanner change stream and Google's template over it: read by partitions, published as the template publishes.

https://cloud.google.com/spanner/docs/change-streams/details (query syntax, partition records). The template is
Spanner_Change_Streams_to_PubSub; it writes each data change record with Gson, one message a record, without order. A job keeps
how far all its partitions have been published; a kill makes duplicates and never a loss.
"""

import asyncio
import hashlib
import json
import logging
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.cloud.spanner_v1.types import result_set, spanner
from google.protobuf.json_format import MessageToDict

from local.clouds.errors import ActorError
from local.clouds.gcp import delivery
from local.clouds.gcp.pubsub import PubSub
from local.clouds.gcp.resources import properties, required
from local.ground import user_data
from local.state import Resource

logger = logging.getLogger(__name__)

TEMPLATE = "Spanner_Change_Streams_to_PubSub"
HEARTBEAT_MS = 1_000
CALL_SECONDS = 10.0
# A partition says something every heartbeat: one that is silent for so long hangs.
SILENCE_SECONDS = 6.0
# But a machine without time for the emulator is no hang: where a reading got nowhere, the next one is given more.
LONGEST_SILENCE_SECONDS = 60.0
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 1.0

_CreateSession = spanner.CreateSessionRequest.pb()
_Session = spanner.Session.pb()
_ExecuteSql = spanner.ExecuteSqlRequest.pb()
_Partial = result_set.PartialResultSet.pb()


def patience(silence_seconds: float, *, moved: bool) -> float:
    """Return how long the next reading may be silent, after one that moved the place that all partitions have reached or not."""
    return SILENCE_SECONDS if moved else min(2 * silence_seconds, LONGEST_SILENCE_SECONDS)


class StreamLostError(ActorError):
    """The reading broke off; it begins again where all partitions have been published."""


@dataclass(frozen=True)
class Parameters:
    """What the job reads and where it writes."""

    database: str
    stream: str
    topic: str

    @classmethod
    def of(cls, given: Mapping[str, Any], project: str) -> "Parameters":
        """Read the template's parameters. Raises ActorError that names a missing one."""

        def need(name: str) -> str:
            value = given.get(name)
            if not value:
                raise ActorError(f"template {TEMPLATE}: parameter {name} is not set; set it in the job's parameters")
            return str(value)

        for name in ("spannerMetadataInstanceId", "spannerMetadataDatabase"):
            need(name)
        topic = need("pubsubTopic")
        if "/" not in topic:
            topic = f"projects/{given.get('pubsubProjectId') or project}/topics/{topic}"
        home = given.get("spannerProjectId") or project
        database = f"projects/{home}/instances/{need('spannerInstanceId')}/databases/{need('spannerDatabase')}"
        return cls(database, need("spannerChangeStreamName"), topic)


class Stream:
    """One change stream's partitions, each read over its own query. Belongs to one event loop."""

    def __init__(self, address: str, parameters: Parameters, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._parameters = parameters
        self._silence_seconds = silence_seconds

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def records(self, start: str, token: str | None) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield a partition's change records from a time on, as they arrive; without a token the partitions that there are.

        Raises StreamLostError when the server does not answer, or stops to.
        """
        session = await self._session()
        request = _ExecuteSql(session=session)
        request.transaction.single_use.read_only.strong = True
        place = "NULL" if token is None else "@token"
        request.sql = f"SELECT ChangeRecord FROM READ_{self._parameters.stream}(@start, NULL, {place}, {HEARTBEAT_MS})"  # noqa: S608 - a declared name
        request.params["start"] = start
        request.param_types["start"].code = 4  # TIMESTAMP
        if token is not None:
            request.params["token"] = token
            request.param_types["token"].code = 6  # STRING
        call = self._channel.unary_stream(
            "/google.spanner.v1.Spanner/ExecuteStreamingSql", _ExecuteSql.SerializeToString, _Partial.FromString
        )(request)
        reader = _Rows()
        try:
            while True:
                async with asyncio.timeout(self._silence_seconds):
                    part = await call.read()
                if part is grpc.aio.EOF:
                    return
                yield reader.add(part)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            raise StreamLostError(f"change stream {self._parameters.stream} broke off: {error!r}") from error
        finally:
            call.cancel()

    async def _session(self) -> str:
        call = self._channel.unary_unary(
            "/google.spanner.v1.Spanner/CreateSession", _CreateSession.SerializeToString, _Session.FromString
        )
        try:
            answer = await call(_CreateSession(database=self._parameters.database), timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise StreamLostError(f"Spanner gives no session: {error.code().name}: {error.details()}") from error
        return str(answer.name)


class _Rows:
    """Puts the parts of a streaming answer together: rows of one column, whose structures are named by the metadata."""

    def __init__(self) -> None:
        self._type: Any = None
        self._held: Any = None

    def add(self, part: Any) -> list[dict[str, Any]]:
        """Return the change records that are complete now."""
        if part.HasField("metadata"):
            self._type = part.metadata.row_type.fields[0].type_
        values = [MessageToDict(value) for value in part.values]
        if self._held is not None and values:
            values[0] = _joined(self._held, values[0])
            self._held = None
        if part.chunked_value:
            self._held = values.pop()
        return [record for value in values for record in _named(value, self._type)]


def _joined(one: Any, other: Any) -> Any:
    if isinstance(one, str):
        return one + other
    if one and other and isinstance(one[-1], str | list) and type(one[-1]) is type(other[0]):
        return [*one[:-1], _joined(one[-1], other[0]), *other[1:]]
    return [*one, *other]


def _named(value: Any, kind: Any) -> Any:
    """Give a structure its names; types are those of the answer's metadata (array 8, struct 9)."""
    if value is None:
        return None
    if kind.code == 8:
        return [_named(item, kind.array_element_type) for item in value]
    if kind.code == 9:
        return {
            field.name: _named(item, field.type_) for field, item in zip(kind.struct_type.fields, value, strict=True)
        }
    return value


def message(record: Mapping[str, Any]) -> bytes:
    """Return a data change record as the template publishes it: the connector's DataChangeRecord, written by Gson."""
    moment = record["commit_timestamp"]
    seconds, nanos = _seconds(moment)
    return json.dumps(
        {
            "partitionToken": record.get("partition_token", ""),
            "commitTimestamp": {"seconds": seconds, "nanos": nanos},
            "serverTransactionId": record["server_transaction_id"],
            "isLastRecordInTransactionInPartition": record["is_last_record_in_transaction_in_partition"],
            "recordSequence": record["record_sequence"],
            "tableName": record["table_name"],
            "rowType": [
                {
                    "name": column["name"],
                    "type": {"code": _text(column["type"])},
                    "isPrimaryKey": column["is_primary_key"],
                    "ordinalPosition": int(column["ordinal_position"]),
                }
                for column in record["column_types"]
            ],
            "mods": [
                {
                    "keysJson": _text(mod["keys"]),
                    "oldValuesJson": _text(mod["old_values"]),
                    "newValuesJson": _text(mod["new_values"]),
                }
                for mod in record["mods"]
            ],
            "modType": record["mod_type"],
            "valueCaptureType": record["value_capture_type"],
            "numberOfRecordsInTransaction": int(record["number_of_records_in_transaction"]),
            "numberOfPartitionsInTransaction": int(record["number_of_partitions_in_transaction"]),
            "transactionTag": record.get("transaction_tag") or "",
            "isSystemTransaction": bool(record.get("is_system_transaction")),
        }
    ).encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value or {})


def _seconds(moment: str) -> tuple[int, int]:
    whole, _, fraction = moment.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()), int(fraction.ljust(9, "0")[:9] or 0)


@dataclass
class SpannerFaults:
    """What a job does to its messages: the share of them that come twice, and whether a bundle is shuffled."""

    duplicated: float = 0.0
    shuffled: bool = False


@dataclass
class JobCounters:
    """What a job has done since this process started."""

    records: int = 0
    published: int = 0
    partitions: int = 0
    heartbeats: int = 0
    reconnects: int = 0


class SpannerJob:
    """One running job."""

    def __init__(self, parameters: Parameters, address: str, pubsub: PubSub, path: Path, ground: str) -> None:
        self.parameters = parameters
        self.counters = JobCounters()
        self.faults = SpannerFaults()
        self._address = address
        self._pubsub = pubsub
        self._path = path
        self._ground = ground
        self._start = self._kept() or datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._places: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, or go on where all partitions had been published."""
        self._keep()
        self._task = asyncio.create_task(self._run(), name=f"change stream {self.parameters.stream}")

    async def stop(self) -> None:
        """Stop at once; what was under way is read again by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def forget(self) -> None:
        """Drop the kept place of a cancelled job."""
        self._path.unlink(missing_ok=True)

    async def _run(self) -> None:
        retry, silence_seconds = FIRST_RETRY_SECONDS, SILENCE_SECONDS
        while True:
            stream, began = Stream(self._address, self.parameters, silence_seconds), self._start
            self._places = {}
            try:
                async with asyncio.TaskGroup() as group:
                    await self._follow(group, stream, self._start, None)
            except* ActorError as errors:
                logger.warning("job over %s waits: %s", self.parameters.stream, errors.exceptions[0])
            except* Exception:
                # Whatever it is, a job that ends in silence would be worse: it begins again, and the log has the fault.
                logger.exception("job over %s failed", self.parameters.stream)
            finally:
                await stream.close()
            self.counters.reconnects += 1
            # Every partition is read again from the last place that all had reached: without more patience the same would happen.
            silence_seconds = patience(silence_seconds, moved=self._start != began)
            await asyncio.sleep(retry * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
            retry = LAST_RETRY_SECONDS if not self._places else FIRST_RETRY_SECONDS

    async def _follow(self, group: asyncio.TaskGroup, stream: Stream, start: str, token: str | None) -> None:
        """Read one partition to its end; its children follow on their own."""
        name = token or ""
        if name:
            self.counters.partitions += 1
            self._places.setdefault(name, start)
        async for records in stream.records(start, token):
            changes = [change for record in records for change in record.get("data_change_record") or ()]
            await self._publish([message({**change, "partition_token": name}) for change in changes])
            moments = [change["commit_timestamp"] for change in changes]
            beats = [beat["timestamp"] for record in records for beat in record.get("heartbeat_record") or ()]
            self.counters.heartbeats += len(beats)
            moments += beats
            if moments and name:
                self._reach(name, max(moments, key=_seconds))
            for record in records:
                for children in record.get("child_partitions_record") or ():
                    self._follow_children(group, stream, children)
        self._places.pop(name, None)

    def _follow_children(self, group: asyncio.TaskGroup, stream: Stream, children: Mapping[str, Any]) -> None:
        start = children["start_timestamp"]
        for child in children["child_partitions"]:
            # A child of two parents is named by both; it is read once.
            if child["token"] not in self._places:
                self._places[child["token"]] = start
                group.create_task(self._follow(group, stream, start, child["token"]))

    async def _publish(self, data: list[bytes]) -> None:
        messages = [delivery.Message(id="", data=each, attributes={}, publish_time_ns=0) for each in data]
        messages += [each for each in messages if random.random() < self.faults.duplicated]  # noqa: S311 - a fault, no secret
        if self.faults.shuffled:
            random.shuffle(messages)
        if messages:
            await self._pubsub.publish(self.parameters.topic, messages)
        self.counters.records += len(data)
        self.counters.published += len(messages)

    def _reach(self, name: str, moment: str) -> None:
        self._places[name] = moment
        lowest = min(self._places.values(), key=_seconds)
        if _seconds(lowest) > _seconds(self._start):
            self._start = lowest
            self._keep()

    def _kept(self) -> str | None:
        try:
            kept = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return None
        return str(kept["start"]) if kept.get("ground") == self._ground else None

    def _keep(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps({"ground": self._ground, "start": self._start}))
        draft.replace(self._path)


class SpannerJobActor:
    """gcp.dataflow.FlexTemplateJob over the template for Spanner."""

    def __init__(self, address: str, pubsub: PubSub, folder: Path, ground: str) -> None:
        self._address = address
        self._pubsub = pubsub
        self._folder = folder
        self._ground = ground
        self._jobs: dict[str, SpannerJob] = {}

    async def ensure(self, resource: Resource) -> None:
        """Run the job with its parameters; one of the same name goes on where it was."""
        if reason := user_data.missing():
            logger.warning("job %s is only recorded: %s", resource.name, reason)
            return
        given = properties(resource)
        name = str(required(resource, "name"))
        parameters = Parameters.of(given.get("parameters") or {}, str(given.get("project") or ""))
        running = self._jobs.get(name)
        if running is not None and running.parameters == parameters:
            return
        if running is not None:
            await running.stop()
        path = self._folder / f"spanner-{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
        self._jobs[name] = SpannerJob(parameters, self._address, self._pubsub, path, self._ground)
        self._jobs[name].start()

    async def remove(self, resource: Resource) -> None:
        """Cancel the job; one that is not there is no error."""
        job = self._jobs.pop(str(required(resource, "name")), None)
        if job is not None:
            await job.stop()
            job.forget()

    async def stop(self) -> None:
        """Stop all jobs in order."""
        await asyncio.gather(*(job.stop() for job in self._jobs.values()))

    def statistics(self) -> Mapping[str, Any]:
        """Return what every job has done since this process started."""
        return {name: vars(job.counters) for name, job in self._jobs.items()}
