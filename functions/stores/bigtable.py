"""Feature rows in Bigtable: one cell a row, its timestamp the version.

The store keeps the newest cell, and that is the merge rule: replicated rows need neither a read nor a condition. Home writes do:
without a condition, writers that know nothing of each other stamp the same version twice.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from google.cloud.bigtable_v2.types import bigtable as messages

from functions.settings import FEATURE_ENVELOPE, FEATURE_FAMILY, MEBIBYTE, BigtableTable
from functions.stores.errors import ConflictError, StoreError, StoreRefusedError
from functions.stores.protocols import Applied, Row, Unreadable
from functions.stores.wire import TRANSIENT_CODES, rpc_errors
from functions.telemetry import LOGGER

HOST = "bigtable.googleapis.com:443"

# The wire is fastest around 1,000 rows a call; both bounds keep a call far below the limits of 100,000 mutations and 256 MiB.
_ROWS_PER_CALL = 1_000
_BYTES_PER_CALL = 8 * MEBIBYTE
_CALLS_IN_FLIGHT = 4
_TIMEOUT_SECONDS = 10.0
_SCAN_TIMEOUT_SECONDS = 300.0
# A share is read in calls of this many rows, so that a slow reader meets no time limit and a broken call costs little.
_ROWS_PER_SCAN = 20_000
# Versions are milliseconds, cell timestamps microseconds.
_MICROSECONDS = 1_000

_QUALIFIER = FEATURE_ENVELOPE.encode()


def _plain(message: Any) -> Any:
    """Return the protobuf class behind one of the library's wrapper classes."""
    return type(message.pb(message()))


_MutateRows = _plain(messages.MutateRowsRequest)
_MutateRowsAnswer = _plain(messages.MutateRowsResponse)
_ReadRows = _plain(messages.ReadRowsRequest)
_ReadRowsAnswer = _plain(messages.ReadRowsResponse)
_CheckAndMutate = _plain(messages.CheckAndMutateRowRequest)
_CheckAndMutateAnswer = _plain(messages.CheckAndMutateRowResponse)
_SampleKeys = _plain(messages.SampleRowKeysRequest)
_SampleKeysAnswer = _plain(messages.SampleRowKeysResponse)


class BigtableRows:
    """One table, through an app profile with single-cluster routing and single-row transactions."""

    def __init__(self, channel: Any, table: BigtableTable) -> None:
        self._table = table
        route = f"table_name={table.name}&app_profile_id={table.app_profile}"
        self._metadata = (("x-goog-request-params", route),)
        service = "/google.bigtable.v2.Bigtable/"
        self._mutate_rows = channel.unary_stream(
            f"{service}MutateRows", _MutateRows.SerializeToString, _MutateRowsAnswer.FromString
        )
        self._read_rows = channel.unary_stream(
            f"{service}ReadRows", _ReadRows.SerializeToString, _ReadRowsAnswer.FromString
        )
        self._check_and_mutate = channel.unary_unary(
            f"{service}CheckAndMutateRow", _CheckAndMutate.SerializeToString, _CheckAndMutateAnswer.FromString
        )
        self._sample_keys = channel.unary_stream(
            f"{service}SampleRowKeys", _SampleKeys.SerializeToString, _SampleKeysAnswer.FromString
        )

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        if not keys:
            return {}
        request = self._read_request()
        request.rows.row_keys.extend(key.encode() for key in keys)
        return {row.key: row for row in self._rows(request, _TIMEOUT_SECONDS)}

    def write(self, row: Row) -> int | None:
        if self._write_unless(row, row.version):
            return None
        existing = self.read([row.key]).get(row.key)
        if existing is None:
            raise ConflictError(f"row {row.key!r} of {self._table.name} vanished while it was written; try again")
        return max(existing.version, row.version)

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        outcomes: list[Applied] = [Applied.FAILED] * len(rows)
        flying: deque[tuple[range, Any]] = deque()
        for span in _spans(rows):
            if len(flying) >= _CALLS_IN_FLIGHT:
                self._collect(outcomes, rows, *flying.popleft())
            flying.append((span, self._send(rows, span)))
        while flying:
            self._collect(outcomes, rows, *flying.popleft())
        return outcomes

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        request = self._read_request()
        bounds = request.rows.row_ranges.add()
        bounds.start_key_closed = start.encode()
        if end is not None:
            bounds.end_key_open = end.encode()
        yield from self._rows(request, _SCAN_TIMEOUT_SECONDS)

    def adopt(self, key: str, seen: int | None, version: int) -> Row | None:
        row = self.read([key]).get(key)
        # A cell always has a timestamp, so a row without version is none that could be adopted.
        if row is None or row.version != seen:
            return None
        adopted = Row(key, version, row.envelope)
        return adopted if self._write_unless(adopted, seen + 1) else None

    def bury(self, row: Row) -> bool:
        return self._write_unless(row, 0)

    def shares(self, most: int) -> list[str]:
        request = _SampleKeys(table_name=self._table.name, app_profile_id=self._table.app_profile)
        with rpc_errors(self._table.name):
            answers = self._sample_keys(request, timeout=_SCAN_TIMEOUT_SECONDS, metadata=self._metadata)
            known = sorted({answer.row_key for answer in answers if answer.row_key})
        # Evenly spaced among the samples, which the store takes at about equal distances in bytes.
        count = min(most - 1, len(known))
        inner = [known[index * len(known) // count] for index in range(count)] if count > 0 else []
        borders = [b"", *inner, b""]
        return [f"{start.hex()}:{end.hex()}" for start, end in pairwise(borders)]

    def scan_share(self, share: str) -> Iterator[Row | Unreadable]:
        try:
            start, end = share.split(":")
            after, until = bytes.fromhex(start), bytes.fromhex(end)
        except ValueError as error:
            raise StoreRefusedError(f"{self._table.name}: {share!r} names no share; ask the table for them") from error
        inclusive = True
        while True:
            request = self._read_request()
            request.rows_limit = _ROWS_PER_SCAN
            bounds = request.rows.row_ranges.add()
            if inclusive:
                bounds.start_key_closed = after
            else:
                bounds.start_key_open = after
            if until:
                bounds.end_key_open = until
            count = 0
            for key, version, envelope in self._cells(request, _SCAN_TIMEOUT_SECONDS):
                count, after, inclusive = count + 1, key, False
                yield _row_or_reason(key, version, envelope)
            if count < _ROWS_PER_SCAN:
                return

    def swap(self, row: Row, seen: int | None) -> bool:
        return self._write_unless(row, seen + 1 if seen else 0)

    def discard(self, rows: Sequence[Row]) -> int:
        gone = 0
        for span in _spans(rows):
            request = _MutateRows(table_name=self._table.name, app_profile_id=self._table.app_profile)
            for row in rows[span.start : span.stop]:
                entry = request.entries.add(row_key=row.key.encode())
                deletion = entry.mutations.add().delete_from_column
                deletion.family_name, deletion.column_qualifier = FEATURE_FAMILY, _QUALIFIER
                # The end is exclusive. Without a range a newer version would go as well.
                deletion.time_range.end_timestamp_micros = (row.version + 1) * _MICROSECONDS
            with rpc_errors(self._table.name):
                for answer in self._mutate_rows(request, timeout=_TIMEOUT_SECONDS, metadata=self._metadata):
                    gone += sum(entry.status.code == 0 for entry in answer.entries)
        return gone

    def _write_unless(self, row: Row, version: int) -> bool:
        """Set the row's cell unless there is one of `version` or above; returns whether it was set."""
        request = _CheckAndMutate(
            table_name=self._table.name, app_profile_id=self._table.app_profile, row_key=row.key.encode()
        )
        chain = request.predicate_filter.chain.filters
        chain.add(family_name_regex_filter=FEATURE_FAMILY)
        chain.add(column_qualifier_regex_filter=_QUALIFIER)
        chain.add().timestamp_range_filter.start_timestamp_micros = version * _MICROSECONDS
        _set_cell(request.false_mutations.add().set_cell, row)
        with rpc_errors(f"row {row.key!r} of {self._table.name}"):
            answer = self._check_and_mutate(request, timeout=_TIMEOUT_SECONDS, metadata=self._metadata)
        return not answer.predicate_matched

    def _send(self, rows: Sequence[Row], span: range) -> Any:
        request = _MutateRows(table_name=self._table.name, app_profile_id=self._table.app_profile)
        for index in span:
            self._put(request.entries.add(), rows[index])
        return self._mutate_rows(request, timeout=_TIMEOUT_SECONDS, metadata=self._metadata)

    def _put(self, entry: Any, row: Row) -> None:
        """Fill in what brings a replicated row: its key and its mutations."""
        entry.row_key = row.key.encode()
        _set_cell(entry.mutations.add().set_cell, row)

    def _collect(self, outcomes: list[Applied], rows: Sequence[Row], span: range, call: Any) -> None:
        """Read the status of each entry; what got none stays FAILED."""
        try:
            with rpc_errors(self._table.name):
                for answer in call:
                    for entry in answer.entries:
                        outcomes[span[entry.index]] = _outcome(entry.status.code)
        except StoreRefusedError:
            # One bad row may have the whole call refused: halve until it stands alone.
            if len(span) == 1:
                outcomes[span[0]] = Applied.REFUSED
                return
            middle = len(span) // 2
            for half in (span[:middle], span[middle:]):
                self._collect(outcomes, rows, half, self._send(rows, half))
        except StoreError as error:
            # No such table, no rights, no answer: not the rows' fault, so they come again.
            LOGGER.warning("batch of %d rows failed: %s", len(span), error)

    def _read_request(self) -> Any:
        request = _ReadRows(table_name=self._table.name, app_profile_id=self._table.app_profile)
        chain = request.filter.chain.filters
        chain.add(family_name_regex_filter=FEATURE_FAMILY)
        chain.add(column_qualifier_regex_filter=_QUALIFIER)
        chain.add(cells_per_column_limit_filter=1)
        return request

    def _rows(self, request: Any, timeout_seconds: float) -> Iterator[Row]:
        for key, version, envelope in self._cells(request, timeout_seconds):
            yield Row(key.decode(), version, envelope)

    def _cells(self, request: Any, timeout_seconds: float) -> Iterator[tuple[bytes, int, bytes]]:
        """Put the stream's chunks together; a row counts once it is committed.

        https://github.com/googleapis/googleapis/blob/master/google/bigtable/v2/bigtable.proto (ReadRowsResponse.CellChunk)
        """
        key, timestamp, value = b"", 0, bytearray()
        with rpc_errors(self._table.name):
            for answer in self._read_rows(request, timeout=timeout_seconds, metadata=self._metadata):
                for chunk in answer.chunks:
                    if chunk.reset_row:
                        key, timestamp, value = b"", 0, bytearray()
                        continue
                    key = chunk.row_key or key
                    timestamp = chunk.timestamp_micros or timestamp
                    value += chunk.value
                    if chunk.commit_row:
                        yield key, timestamp // _MICROSECONDS, bytes(value)
                        key, timestamp, value = b"", 0, bytearray()


def _spans(rows: Sequence[Row]) -> Iterator[range]:
    """Yield index ranges whose rows fit one call."""
    first = size = 0
    for index, row in enumerate(rows):
        if index > first and (index - first >= _ROWS_PER_CALL or size + len(row.envelope) > _BYTES_PER_CALL):
            yield range(first, index)
            first, size = index, 0
        size += len(row.envelope)
    if rows:
        yield range(first, len(rows))


def _outcome(code: int) -> Applied:
    if code == 0:
        return Applied.APPLIED
    return Applied.FAILED if code in TRANSIENT_CODES else Applied.REFUSED


def _row_or_reason(key: bytes, version: int, envelope: bytes) -> Row | Unreadable:
    try:
        return Row(key.decode(), version, envelope)
    except UnicodeDecodeError as error:
        return Unreadable(key.decode(errors="replace"), f"the row's key is not UTF-8: {error}")


def _set_cell(cell: Any, row: Row) -> None:
    cell.family_name = FEATURE_FAMILY
    cell.column_qualifier = _QUALIFIER
    cell.timestamp_micros = row.version * _MICROSECONDS
    cell.value = row.envelope
