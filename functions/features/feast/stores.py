"""Feast's tables as feature tables: the same verbs and the same merge, in Feast's own layouts.

The way is from DynamoDB to Bigtable: Feast's writers there are adopted like any writer that knows no versions, and what they
wrote is put into cells that Feast's readers here find. What Feast itself writes here carries the server's time and wins over what
came before it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from functions.features.apply import FeatureApplier, ParkingLot, Result
from functions.features.envelope import decode
from functions.features.errors import EnvelopeError
from functions.features.feast.layout import (
    ENTITY,
    EVENT,
    FAMILY,
    VERSION,
    FeastView,
    as_item,
    as_record,
    cells,
    feast_item,
    from_cells,
)
from functions.features.items import content, from_bytes, key_of
from functions.features.plan import Adoption, Outcome, Plan
from functions.settings import BigtableTable, Site
from functions.stores.bigtable import BigtableRows
from functions.stores.dynamodb import DynamoDbRows, ItemLayout
from functions.stores.protocols import Applied, Row
from functions.stores.wire import rpc_errors

# A call takes 100,000 mutations (https://cloud.google.com/bigtable/quotas); half of it leaves room to spare.
_MUTATIONS_PER_CALL = 50_000
_ROWS_PER_BATCH = 500
_SCAN_TIMEOUT_SECONDS = 300.0
_MICROSECONDS = 1_000


class FeastDynamoRows(DynamoDbRows):
    """One feature view's table as Feast's DynamoDB store keeps it."""

    def __init__(self, client: Any, table: str) -> None:
        super().__init__(client, table, ItemLayout(ENTITY, VERSION, _row, feast_item))

    def bury(self, row: Row) -> bool:
        """Say whether the row is gone still: a tombstone is no item that Feast could read, so none is written."""
        return not self.read([row.key])


class FeastBigtableRows(BigtableRows):
    """One feature view's rows as Feast's Bigtable store reads them; rows of other views in the same table are left alone."""

    def __init__(self, channel: Any, table: BigtableTable, view: FeastView) -> None:
        super().__init__(channel, replace(table, table=view.bigtable_table))
        self._view = view
        self._columns = frozenset((*view.features, EVENT))

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        most = max(1, _MUTATIONS_PER_CALL // (len(self._columns) + 1))
        fitting = [row for row in rows if self._fits(row)]
        answers: list[Applied] = []
        for start in range(0, len(fitting), most):
            answers += super().apply(fitting[start : start + most])
        answered = dict(zip((row.key for row in fitting), answers, strict=True))
        return [answered.get(row.key, Applied.REFUSED) for row in rows]

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        request = self._read_request()
        request.rows.row_keys.extend(self._view.row_key(key).encode() for key in keys)
        return {row.key: row for row in self._feast_rows(request)} if keys else {}

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        request = self._read_request()
        bounds = request.rows.row_ranges.add()
        bounds.start_key_closed = start.encode()
        yield from (row for row in self._feast_rows(request) if end is None or row.key < end)

    def _put(self, entry: Any, row: Row) -> None:
        """Set the row's cells at its version, and take away, up to it, what the row does not have."""
        entry.row_key = self._view.row_key(row.key).encode()
        until = row.version * _MICROSECONDS
        found = {} if decode(row.envelope).deleted else cells(row)
        for name, data in found.items():
            cell = entry.mutations.add().set_cell
            cell.family_name, cell.column_qualifier = FAMILY, name.encode()
            cell.timestamp_micros, cell.value = until, data
        for name in sorted(self._columns - found.keys()):
            gone = entry.mutations.add().delete_from_column
            gone.family_name, gone.column_qualifier = FAMILY, name.encode()
            gone.time_range.end_timestamp_micros = until + _MICROSECONDS

    def _read_request(self) -> Any:
        request = super()._read_request()
        del request.filter.chain.filters[:]
        request.filter.chain.filters.add(family_name_regex_filter=FAMILY)
        request.filter.chain.filters.add(cells_per_column_limit_filter=1)
        return request

    def _feast_rows(self, request: Any) -> Iterator[Row]:
        """Put rows of several cells together (ReadRowsResponse.CellChunk: what is not given is as in the chunk before)."""
        key, name, version = b"", b"", 0
        found: dict[str, bytes] = {}
        with rpc_errors(self._view.bigtable_table):
            for answer in self._read_rows(request, timeout=_SCAN_TIMEOUT_SECONDS, metadata=self._metadata):
                for chunk in answer.chunks:
                    key = chunk.row_key or key
                    name = chunk.qualifier.value if chunk.HasField("qualifier") else name
                    if chunk.timestamp_micros:
                        version = max(version, chunk.timestamp_micros // _MICROSECONDS)
                    found[name.decode()] = found.get(name.decode(), b"") + chunk.value
                    if chunk.commit_row or chunk.reset_row:
                        entity, _, view = key.decode().partition("#")
                        if chunk.commit_row and view == self._view.name:
                            yield from_cells(entity, version, found)
                        key, name, version, found = b"", b"", 0, {}

    def _fits(self, row: Row) -> bool:
        try:
            return decode(row.envelope).deleted or bool(cells(row))
        except EnvelopeError:
            return False


@dataclass(frozen=True)
class FeastCopy:
    """The apply path of one feature view, from the change records of Feast's DynamoDB table."""

    home: FeastDynamoRows
    far: FeastBigtableRows
    parking: ParkingLot
    clock_ms: Callable[[], int]

    def run(self, records: Sequence[Mapping[str, Any]]) -> Result:
        """Apply a batch of the stream."""
        return self._applier.run([as_record(record) for record in records])

    def bootstrap(self) -> Mapping[Outcome, int]:
        """Carry over what the table holds; what is written meanwhile comes by the stream. A repeat does no harm."""
        totals = dict.fromkeys(Outcome, 0)
        batch: dict[str, Adoption] = {}
        rows = self.home.scan()
        while True:
            row = next(rows, None)
            if row is not None:
                batch[row.key] = Adoption(row.key, row.version or None, row.version, row.key)
            if batch and (row is None or len(batch) >= _ROWS_PER_BATCH):
                done = self._applier.execute(Plan({}, batch, ()))
                totals = {outcome: totals[outcome] + count for outcome, count in done.outcomes.items()}
                batch = {}
            if row is None:
                return totals

    @property
    def _applier(self) -> FeatureApplier:
        return FeatureApplier(Site.AWS, self.home, self.far, self.parking, self.clock_ms)


def _row(item: Mapping[str, Mapping[str, Any]]) -> Row:
    ours = as_item(item)
    found = content(ours, from_bytes)
    return Row(key_of(ours), found.version or 0, found.envelope)
