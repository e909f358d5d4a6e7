"""The ways from stream records into Bigtable that the bench compares, each a function over one batch of records.

The official client is given two kinds of work. Rows of plain features it writes as its users do, a cell a feature, spared the
echo test, the collapsing and the canonical form. Rows of the client library it writes as we do, their bytes in one cell, planned
by the same code, so that there the two differ in nothing but how bytes are written.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from time import time
from typing import Any

import grpc
from google.cloud import bigtable
from google.cloud.bigtable.data import BigtableDataClient, BigtableDataClientAsync, RowMutationEntry, SetCell

from functions.features.apply import FeatureApplier
from functions.features.plan import plan
from functions.settings import FEATURE_ENVELOPE, FEATURE_FAMILY, FEATURE_KEY, FEATURE_VERSION, BigtableTable, Site
from functions.stores.bigtable import BigtableRows
from functions.stores.protocols import AdoptingRowStore
from functions.stores.wire import open_channel
from operate.bench.features_load import batches
from operate.errors import LifeboatError

Records = list[dict[str, Any]]

_RESERVED = frozenset((FEATURE_KEY, FEATURE_VERSION, FEATURE_ENVELOPE))

# As many batches of the stream are under way as an event source mapping runs for a shard.
CONCURRENCY = 4


class Way(StrEnum):
    """How rows are written."""

    OURS = "ours"
    OFFICIAL_BULK = "official bulk_mutate_rows"
    OFFICIAL_BATCHER = "official mutations_batcher"
    OFFICIAL_ASYNC = "official async, 4 in flight"
    OFFICIAL_CLASSIC = "official classic mutate_rows"
    ARTICLE = "seed article"


OFFICIAL = (Way.OFFICIAL_BULK, Way.OFFICIAL_BATCHER, Way.OFFICIAL_ASYNC, Way.OFFICIAL_CLASSIC)


@dataclass(frozen=True)
class Place:
    """Where the bench writes: an emulator's address and a table of ours."""

    address: str
    table: BigtableTable


def writer(way: Way, place: Place, clock_ms: Callable[[], int]) -> Callable[[Records, int], None]:
    """Return the function that writes records in batches of a size by one way; its clients are open."""
    made: dict[Way, Callable[[Place, Callable[[], int]], Callable[[Records, int], None]]] = {
        Way.OURS: _ours,
        Way.OFFICIAL_BULK: _bulk,
        Way.OFFICIAL_BATCHER: _batcher,
        Way.OFFICIAL_ASYNC: _asynchronous,
        Way.OFFICIAL_CLASSIC: _classic,
        Way.ARTICLE: _article,
    }
    return made[way](place, clock_ms)


class _NoParking:
    """A bench's records are good: one that is not ends it."""

    def park(self, identity: str, reason: str, content: Mapping[str, Any]) -> None:
        raise LifeboatError(f"bench record {identity} was refused: {reason}")


class _NoHome:
    """A bench's rows carry versions, so none is adopted at home."""


def _ours(place: Place, clock_ms: Callable[[], int]) -> Callable[[Records, int], None]:
    far = BigtableRows(open_channel(place.address, "", None), place.table)
    home: AdoptingRowStore = _NoHome()  # type: ignore[assignment]  # never asked
    applier = FeatureApplier(Site.AWS, home, far, _NoParking(), clock_ms)
    pool = ThreadPoolExecutor(CONCURRENCY)

    def write(records: Records, size: int) -> None:
        for result in pool.map(applier.run, batches(records, size)):
            if result.failed is not None:
                raise LifeboatError(f"bench record {result.failed} was not applied; run the bench again")

    return write


# A row's key, its version and its cells, as the official client is to write them.
Cells = tuple[bytes, int, list[tuple[bytes, bytes]]]


def _cells(records: Records, now_ms: int) -> list[Cells]:
    if FEATURE_ENVELOPE in records[0]["dynamodb"]["NewImage"]:
        rows = [change.row for change in plan(records, now_ms, Site.AWS).changes.values()]
        return [(row.key.encode(), row.version, [(FEATURE_ENVELOPE.encode(), row.envelope)]) for row in rows]
    found = []
    for record in records:
        image = record["dynamodb"]["NewImage"]
        cells = [
            (name.encode(), str(next(iter(typed.values()))).encode())
            for name, typed in image.items()
            if name not in _RESERVED
        ]
        found.append((image[FEATURE_KEY]["S"].encode(), int(image[FEATURE_VERSION]["N"]), cells))
    return found


def _entries(records: Records, now_ms: int) -> list[RowMutationEntry]:
    return [
        RowMutationEntry(
            key,
            [SetCell(FEATURE_FAMILY, name, value, timestamp_micros=version * 1_000) for name, value in cells],
        )
        for key, version, cells in _cells(records, now_ms)
    ]


def _bulk(place: Place, clock_ms: Callable[[], int]) -> Callable[[Records, int], None]:
    client = BigtableDataClient(project=place.table.project)
    table = client.get_table(place.table.instance, place.table.table)
    pool = ThreadPoolExecutor(CONCURRENCY)

    def one(batch: Records) -> None:
        table.bulk_mutate_rows(_entries(batch, clock_ms()))

    def write(records: Records, size: int) -> None:
        list(pool.map(one, batches(records, size)))

    return write


def _batcher(place: Place, clock_ms: Callable[[], int]) -> Callable[[Records, int], None]:
    client = BigtableDataClient(project=place.table.project)
    table = client.get_table(place.table.instance, place.table.table)

    def write(records: Records, size: int) -> None:
        with table.mutations_batcher(flush_limit_mutation_count=size) as batcher:
            for batch in batches(records, size):
                for entry in _entries(batch, clock_ms()):
                    batcher.append(entry)

    return write


def _asynchronous(place: Place, clock_ms: Callable[[], int]) -> Callable[[Records, int], None]:
    async def all_of(records: Records, size: int) -> None:
        async with BigtableDataClientAsync(project=place.table.project) as client:
            table = client.get_table(place.table.instance, place.table.table)
            flying: set[asyncio.Task[None]] = set()
            for batch in batches(records, size):
                if len(flying) >= CONCURRENCY:
                    _, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                entries = _entries(batch, clock_ms())
                flying.add(asyncio.create_task(table.bulk_mutate_rows(entries)))
            await asyncio.gather(*flying)

    return lambda records, size: asyncio.run(all_of(records, size))


def _classic(place: Place, clock_ms: Callable[[], int]) -> Callable[[Records, int], None]:
    table = _instance(place).table(place.table.table)
    pool = ThreadPoolExecutor(CONCURRENCY)

    def one(batch: Records) -> None:
        rows = []
        for key, _, cells in _cells(batch, clock_ms()):
            direct = table.direct_row(key)
            for name, value in cells:
                direct.set_cell(FEATURE_FAMILY, name, value)
            rows.append(direct)
        table.mutate_rows(rows)

    def write(records: Records, size: int) -> None:
        list(pool.map(one, batches(records, size)))

    return write


class _ArticleStore:
    """The article's CrossCloudFeatureStore, its replication as printed there; writing to Redis is left out in its favour."""

    def __init__(self, store: Any) -> None:
        self.secondary_store = store
        self.replication_queue: list[dict[str, Any]] = []

    def async_replicate(self, entity_id: str, feature_name: str, value: object) -> None:
        task = {"entity_id": entity_id, "feature_name": feature_name, "value": value, "timestamp": time()}
        self.replication_queue.append(task)
        if len(self.replication_queue) >= 10:
            self.flush()

    def flush(self) -> None:
        table = self.secondary_store.table("article")
        batch = table.mutations_batcher()
        for task in self.replication_queue:
            row = table.direct_row(f"{task['entity_id']}#{task['feature_name']}".encode())
            row.set_cell("features", "value", str(task["value"]).encode())
            row.set_cell("metadata", "timestamp", str(task["timestamp"]).encode())
            batch.mutate(row)
        batch.flush()
        self.replication_queue.clear()


def _article(place: Place, clock_ms: Callable[[], int]) -> Callable[[Records, int], None]:
    del clock_ms  # it takes its own
    store = _ArticleStore(_instance(place))

    def write(records: Records, size: int) -> None:
        del size  # it sends tens
        for record in records:
            image = record["dynamodb"]["NewImage"]
            for name, typed in image.items():
                if name not in _RESERVED:
                    store.async_replicate(image[FEATURE_KEY]["S"], name, next(iter(typed.values())))
        store.flush()

    return write


def _instance(place: Place) -> Any:
    client: Any = bigtable.Client  # its methods carry no types
    return client(project=place.table.project).instance(place.table.instance)


def make_tables(place: Place) -> None:
    """Make the bench's two tables; the emulator knows any instance."""
    from google.cloud.bigtable_admin_v2 import BaseBigtableTableAdminClient, Table
    from google.cloud.bigtable_admin_v2.services.bigtable_table_admin.transports import BigtableTableAdminGrpcTransport

    with grpc.insecure_channel(place.address) as channel:
        admin = BaseBigtableTableAdminClient(transport=BigtableTableAdminGrpcTransport(channel=channel))
        parent = f"projects/{place.table.project}/instances/{place.table.instance}"
        for name, families in ((place.table.table, [FEATURE_FAMILY]), ("article", ["features", "metadata"])):
            rules = {family: {"gc_rule": {"max_num_versions": 1}} for family in families}
            admin.create_table(parent=parent, table_id=name, table=Table(column_families=rules))
