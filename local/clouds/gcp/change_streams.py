"""Reads a Bigtable table's change stream as Google's own connector does: by partition, from a token, chunks put together.

https://github.com/googleapis/googleapis/blob/master/google/bigtable/v2/bigtable.proto (ReadChangeStream).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.cloud.bigtable_v2.types import bigtable as messages
from google.cloud.bigtable_v2.types import data

from local.clouds.gcp.errors import ChangeStreamEndedError, ChangeStreamLostError
from local.clouds.gcp.pubsub import CHANNEL_OPTIONS

# The server tells its position at least so often, also when nothing changes.
HEARTBEAT_SECONDS = 1
# A stream that says nothing for so long hangs: the next one opens a connection of its own.
SILENCE_SECONDS = 4.0
CALL_SECONDS = 5.0

_GenerateRequest = messages.GenerateInitialChangeStreamPartitionsRequest.pb()
_GenerateResponse = messages.GenerateInitialChangeStreamPartitionsResponse.pb()
_ReadRequest = messages.ReadChangeStreamRequest.pb()
_ReadResponse = messages.ReadChangeStreamResponse.pb()
_DataChange = _ReadResponse.DataChange
_Partition = data.StreamPartition.pb()


@dataclass(frozen=True)
class Partition:
    """The rows start <= key < end; an empty end has no bound."""

    start: bytes
    end: bytes

    def message(self) -> Any:
        """Return it as the API writes it."""
        partition = _Partition()
        partition.row_range.start_key_closed = self.start
        partition.row_range.end_key_open = self.end
        return partition


@dataclass(frozen=True)
class Change:
    """All that one call did to one row; `mutations` are Bigtable's own messages, in their order."""

    row: bytes
    garbage_collection: bool
    cluster: str
    committed_seconds: int
    committed_nanoseconds: int
    tiebreaker: int
    mutations: tuple[Any, ...]


@dataclass(frozen=True)
class Position:
    """Where a reading has come to: a later one goes on behind it. `change` is None when only the position moved."""

    token: str
    change: Change | None


class ChangeStream:
    """The change stream of one table, read through an app profile. Belongs to one event loop."""

    def __init__(self, address: str, table: str, app_profile: str) -> None:
        self._address = address
        self._table = table
        self._app_profile = app_profile

    async def partitions(self) -> list[Partition]:
        """Return the partitions that a new reading begins with. Raises ChangeStreamLostError."""
        request = _GenerateRequest(table_name=self._table, app_profile_id=self._app_profile)
        async with grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
            call = _method(channel, "GenerateInitialChangeStreamPartitions", _GenerateRequest, _GenerateResponse)
            try:
                answers = [answer async for answer in call(request, timeout=CALL_SECONDS)]
            except grpc.aio.AioRpcError as error:
                raise self._named(error) from error
        ranges = [answer.partition.row_range for answer in answers]
        return [Partition(one.start_key_closed, one.end_key_open) for one in ranges]

    async def read(self, partition: Partition, token: str | None, since_us: int) -> AsyncIterator[Position]:
        """Yield what happens in a partition, behind `token` or from a time on, until the connection is lost.

        Raises ChangeStreamLostError, after which the same reading may be tried again, and ChangeStreamEndedError when what
        follows the token is no longer kept.
        """
        request = _ReadRequest(table_name=self._table, app_profile_id=self._app_profile)
        request.partition.CopyFrom(partition.message())
        request.heartbeat_duration.FromSeconds(HEARTBEAT_SECONDS)
        if token is None:
            request.start_time.FromMicroseconds(since_us)
        else:
            request.continuation_tokens.tokens.add(partition=partition.message(), token=token)
        async with grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
            call = _method(channel, "ReadChangeStream", _ReadRequest, _ReadResponse)(request)
            building = _Building()
            try:
                while (answer := await _next(call)) is not None:
                    kind = answer.WhichOneof("stream_record")
                    if kind == "data_change" and (change := building.add(answer.data_change)) is not None:
                        yield Position(answer.data_change.token, change)
                    elif kind == "heartbeat":
                        yield Position(answer.heartbeat.continuation_token.token, None)
            except grpc.aio.AioRpcError as error:
                raise self._named(error) from error
            except TimeoutError as error:
                raise ChangeStreamLostError(
                    f"change stream of {self._table}: silent for {SILENCE_SECONDS:g} s, though heartbeats are due"
                ) from error
            finally:
                call.cancel()
        raise ChangeStreamLostError(f"change stream of {self._table} was closed by the server")

    def _named(self, error: grpc.aio.AioRpcError) -> ChangeStreamLostError:
        kind = ChangeStreamEndedError if error.code() is grpc.StatusCode.OUT_OF_RANGE else ChangeStreamLostError
        return kind(
            f"change stream of {self._table}: Bigtable at {self._address} answers {error.code().name}: {error.details()}"
        )


async def _next(call: Any) -> Any | None:
    async with asyncio.timeout(SILENCE_SECONDS):
        answer = await call.read()
    return None if answer is grpc.aio.EOF else answer


def _method(channel: grpc.aio.Channel, name: str, request: Any, answer: Any) -> Callable[..., Any]:
    call: Callable[..., Any] = channel.unary_stream(
        f"/google.bigtable.v2.Bigtable/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    return call


class _Building:
    """Puts changes together whose values came in several messages."""

    def __init__(self) -> None:
        self._head: Any = None
        self._mutations: list[Any] = []
        self._value = bytearray()

    def add(self, part: Any) -> Change | None:
        """Take one message in; return the change that it completes."""
        if part.type_ != _DataChange.CONTINUATION:
            self._head, self._mutations, self._value = part, [], bytearray()
        for chunk in part.chunks:
            if not chunk.HasField("chunk_info"):
                self._mutations.append(chunk.mutation)
                continue
            self._value += chunk.mutation.set_cell.value
            if chunk.chunk_info.last_chunk:
                chunk.mutation.set_cell.value = bytes(self._value)
                self._mutations.append(chunk.mutation)
                self._value = bytearray()
        if not part.done or self._head is None:
            return None
        head = self._head
        return Change(
            row=head.row_key,
            garbage_collection=head.type_ == _DataChange.GARBAGE_COLLECTION,
            cluster=head.source_cluster_id,
            committed_seconds=head.commit_timestamp.seconds,
            committed_nanoseconds=head.commit_timestamp.nanos,
            tiebreaker=head.tiebreaker,
            mutations=tuple(self._mutations),
        )
