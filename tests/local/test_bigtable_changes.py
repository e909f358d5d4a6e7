"""The local Bigtable's change streams as the API shapes them: kinds of write, order, tokens, heartbeats, garbage collection."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from google.cloud.bigtable_admin_v2 import BaseBigtableTableAdminClient
from google.cloud.bigtable_admin_v2.services.bigtable_table_admin.transports import BigtableTableAdminGrpcTransport
from google.cloud.bigtable_admin_v2.types import UpdateTableRequest
from google.cloud.bigtable_v2 import BigtableClient
from google.cloud.bigtable_v2.services.bigtable.transports import BigtableGrpcTransport

from local.clouds.gcp.change_streams import Change, ChangeStream, Partition, Position
from local.clouds.gcp.errors import ChangeStreamEndedError, ChangeStreamLostError
from local.toolchain import find

PARENT = "projects/p/instances/i"
EVERYTHING = Partition(b"", b"")


class Server:
    """A server of its own with one watched table."""

    def __init__(self, address: str) -> None:
        self.address = address
        channel = grpc.insecure_channel(address)
        self.admin = BaseBigtableTableAdminClient(transport=BigtableTableAdminGrpcTransport(channel=channel))
        self.data = BigtableClient(transport=BigtableGrpcTransport(channel=channel))

    def table(self, name: str, *, watched: bool = True, splits: tuple[str, ...] = (), versions: int = 0) -> str:
        rule = {"gc_rule": {"max_num_versions": versions}} if versions else {}
        table: dict[str, Any] = {"column_families": {"row": rule, "other": {}}}
        if watched:
            table["change_stream_config"] = {"retention_period": {"seconds": 3600}}
        self.admin.create_table(
            request={
                "parent": PARENT,
                "table_id": name,
                "table": table,
                "initial_splits": [{"key": split.encode()} for split in splits],
            }
        )
        return f"{PARENT}/tables/{name}"

    def stream(self, table: str) -> ChangeStream:
        return ChangeStream(self.address, table, "replication")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    process = subprocess.Popen([str(find("bigtabled"))], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield Server(process.stdout.readline().strip())
    process.terminate()
    assert process.wait(10) == 0


def set_cell(value: bytes, timestamp: int = 1_000, qualifier: bytes = b"e", family: str = "row") -> dict[str, Any]:
    cell = {"family_name": family, "column_qualifier": qualifier, "timestamp_micros": timestamp, "value": value}
    return {"set_cell": cell}


async def take(positions: AsyncIterator[Position], count: int) -> list[tuple[Change, str]]:
    found: list[tuple[Change, str]] = []
    async with asyncio.timeout(10):
        async for position in positions:
            if position.change is not None:
                found.append((position.change, position.token))
            if len(found) == count:
                break
    return found


def changes(server: Server, table: str, count: int, partition: Partition = EVERYTHING, token: str | None = None) -> Any:
    async def run() -> list[tuple[Change, str]]:
        async with aclosing(server.stream(table).read(partition, token, 1)) as positions:
            return await take(positions, count)

    return asyncio.run(run())


def kinds(change: Change) -> list[str]:
    return [mutation.WhichOneof("mutation") for mutation in change.mutations]


def test_every_kind_of_write_becomes_one_change_a_row(server: Server) -> None:
    table = server.table("kinds")
    data = server.data
    data.mutate_row(table_name=table, row_key=b"a", mutations=[set_cell(b"1"), set_cell(b"x", qualifier=b"other")])
    data.mutate_row(table_name=table, row_key=b"a", mutations=[set_cell(b"2", timestamp=-1)])
    entries = [{"row_key": key, "mutations": [set_cell(b"3")]} for key in (b"b", b"c")]
    list(
        data.mutate_rows(
            table_name=table, entries=[*entries, {"row_key": b"d", "mutations": [set_cell(b"", family="no")]}]
        )
    )
    answer = data.check_and_mutate_row(table_name=table, row_key=b"a", true_mutations=[set_cell(b"yes", 5_000)])
    assert answer.predicate_matched
    data.check_and_mutate_row(table_name=table, row_key=b"new", true_mutations=[set_cell(b"", 1_000)])
    rules = [{"family_name": "row", "column_qualifier": b"n", "increment_amount": 7}]
    data.read_modify_write_row(table_name=table, row_key=b"a", rules=rules)
    data.mutate_row(
        table_name=table,
        row_key=b"b",
        mutations=[{"delete_from_column": {"family_name": "row", "column_qualifier": b"e"}}],
    )
    data.mutate_row(table_name=table, row_key=b"c", mutations=[{"delete_from_family": {"family_name": "row"}}])
    data.mutate_row(table_name=table, row_key=b"a", mutations=[{"delete_from_row": {}}])
    with pytest.raises(Exception, match="unknown family"):
        data.mutate_row(table_name=table, row_key=b"a", mutations=[set_cell(b"", family="no")])
    found = [change for change, _ in changes(server, table, 9)]
    assert [(change.row, kinds(change)) for change in found] == [
        (b"a", ["set_cell", "set_cell"]),
        (b"a", ["set_cell"]),
        (b"b", ["set_cell"]),
        (b"c", ["set_cell"]),
        (b"a", ["set_cell"]),
        (b"a", ["set_cell"]),
        (b"b", ["delete_from_column"]),
        (b"c", ["delete_from_family"]),
        (b"a", ["delete_from_family", "delete_from_family"]),
    ]
    # The server's own time is told as the time that it was, and what a rule came to as the cell it left.
    assert abs(found[1].mutations[0].set_cell.timestamp_micros / 1e6 - time.time()) < 60
    assert found[5].mutations[0].set_cell.value == (7).to_bytes(8, "big")
    assert not any(change.garbage_collection for change in found)
    assert {change.cluster for change in found} == {"local"}
    stamps = [(change.committed_seconds, change.committed_nanoseconds) for change in found]
    assert stamps == sorted(set(stamps))


def test_a_reading_goes_on_behind_its_token(server: Server) -> None:
    table = server.table("tokens")
    for number in range(10):
        server.data.mutate_row(table_name=table, row_key=b"k", mutations=[set_cell(bytes([number]), number * 1_000)])
    first = changes(server, table, 4)
    rest = changes(server, table, 6, token=first[-1][1])
    values = [change.mutations[0].set_cell.value for change, _ in [*first, *rest]]
    assert values == [bytes([number]) for number in range(10)]


def test_heartbeats_move_the_token_past_other_partitions(server: Server) -> None:
    table = server.table("parts", splits=("m",))
    partitions = asyncio.run(server.stream(table).partitions())
    assert partitions == [Partition(b"", b"m"), Partition(b"m", b"")]
    for row in (b"a", b"z", b"b"):
        server.data.mutate_row(table_name=table, row_key=row, mutations=[set_cell(b"1")])
    assert [change.row for change, _ in changes(server, table, 2, partitions[0])] == [b"a", b"b"]
    assert [change.row for change, _ in changes(server, table, 1, partitions[1])] == [b"z"]

    async def beat() -> str:
        async with aclosing(server.stream(table).read(partitions[1], None, 1)) as positions, asyncio.timeout(10):
            async for position in positions:
                if position.change is None:
                    return position.token
        raise AssertionError("no heartbeat")

    token = asyncio.run(beat())
    server.data.mutate_row(table_name=table, row_key=b"y", mutations=[set_cell(b"2")])
    assert [change.row for change, _ in changes(server, table, 1, partitions[1], token)] == [b"y"]


def test_long_values_come_in_parts_and_whole(server: Server) -> None:
    table = server.table("long")
    value = bytes(range(256)) * 14_000
    server.data.mutate_row(
        table_name=table,
        row_key=b"big",
        mutations=[set_cell(b"first"), set_cell(value, 2_000), set_cell(b"last", 3_000)],
    )
    ((change, _),) = changes(server, table, 1)
    assert [mutation.set_cell.value for mutation in change.mutations] == [b"first", value, b"last"]


def test_what_the_collector_takes_is_told_apart(server: Server) -> None:
    table = server.table("collected", versions=1)
    # The test server's collector begins with the first of these calls.
    server.admin.modify_column_families(
        name=table, modifications=[{"id": "row", "update": {"gc_rule": {"max_num_versions": 1}}}]
    )
    for number in range(1, 4):
        server.data.mutate_row(table_name=table, row_key=b"k", mutations=[set_cell(b"v", number * 1_000)])
    found = [change for change, _ in changes(server, table, 4)]
    assert [change.garbage_collection for change in found] == [False, False, False, True]
    taken = [mutation.delete_from_column.time_range for mutation in found[3].mutations]
    assert sorted(one.start_timestamp_micros for one in taken) == [1_000, 2_000]
    assert found[3].cluster == ""


def test_a_table_without_a_stream_has_none_until_it_is_set(server: Server) -> None:
    table = server.table("unwatched", watched=False)
    with pytest.raises(ChangeStreamLostError, match="has no change stream"):
        asyncio.run(server.stream(table).partitions())
    update = UpdateTableRequest(
        table={"name": table, "change_stream_config": {"retention_period": {"seconds": 60}}},
        update_mask={"paths": ["change_stream_config"]},
    )
    server.admin.transport.update_table(update)
    assert server.admin.get_table(name=table).change_stream_config.retention_period.seconds == 60
    server.data.mutate_row(table_name=table, row_key=b"k", mutations=[set_cell(b"v")])
    ((change, token),) = changes(server, table, 1)
    assert change.row == b"k"
    server.admin.delete_table(name=table)
    server.table("unwatched")
    with pytest.raises(ChangeStreamEndedError):
        changes(server, table, 1, token=token)


def test_changes_beyond_the_bound_are_dropped_and_said_to_be() -> None:
    command = [str(find("bigtabled")), "-change-records", "5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        server = Server(process.stdout.readline().strip())
        table = server.table("bounded")
        server.data.mutate_row(table_name=table, row_key=b"k", mutations=[set_cell(b"0", 0)])
        ((_, token),) = changes(server, table, 1)
        for number in range(1, 9):
            server.data.mutate_row(table_name=table, row_key=b"k", mutations=[set_cell(b"v", number * 1_000)])
        with pytest.raises(ChangeStreamEndedError):
            changes(server, table, 1, token=token)
    finally:
        process.terminate()
        process.wait(10)


def test_concurrent_writers_of_a_row_are_told_in_the_order_of_their_commits(server: Server) -> None:
    table = server.table("order")
    data = server.data

    def write(number: int) -> None:
        data.mutate_row(table_name=table, row_key=b"k", mutations=[set_cell(str(number).encode(), 1_000)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))
    found = [change for change, _ in changes(server, table, 200)]
    # Equal timestamps: the last commit is what the cell holds.
    last = found[-1].mutations[0].set_cell.value
    row = next(iter(data.read_rows(request={"table_name": table, "rows": {"row_keys": [b"k"]}})))
    assert row.chunks[0].value == last
