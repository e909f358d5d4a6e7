"""Feature rows in DynamoDB: hash key, version, envelope and time to live, one item a row."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
)

from functions.errors import TransientError
from functions.features.envelope import peek
from functions.features.errors import EnvelopeError
from functions.features.items import content, from_bytes, key_of
from functions.settings import FEATURE_ENVELOPE, FEATURE_EXPIRES, FEATURE_KEY, FEATURE_VERSION
from functions.stores.dynamodb_wire import ConditionLostError, DynamoDbWire, decoded, error_type
from functions.stores.errors import (
    StoreRefusedError,
    StoreUnavailableError,
    ThrottledError,
)
from functions.stores.protocols import Applied, Row, Unreadable

# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
_KEYS_PER_READ = 100
_READ_ROUNDS = 5
# Conditional puts have no batch form; this many are in flight, and the other cloud is tens of milliseconds away.
_WRITERS = 32


@dataclass(frozen=True)
class ItemLayout:
    """How a row is an item: the attributes of its key and its version, and the way there and back (EnvelopeError)."""

    key: str
    version: str
    to_row: Callable[[Mapping[str, Mapping[str, Any]]], Row]
    to_item: Callable[[Row], dict[str, dict[str, Any]]]


class DynamoDbRows:
    """One table. `client` is a boto3 DynamoDB client, safe to share between threads; `layout` None: an envelope a row."""

    def __init__(self, client: Any, table: str, layout: "ItemLayout | None" = None) -> None:
        self._client = client
        self._wire = DynamoDbWire(client)
        self._table = table
        self._layout = layout or ItemLayout(FEATURE_KEY, FEATURE_VERSION, _row, _item)
        # Threads start with the first use and stay: a pool a batch would cost more than a small batch itself.
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="dynamodb")

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for start in range(0, len(keys), _KEYS_PER_READ):
            waiting = [{self._layout.key: {"S": key}} for key in keys[start : start + _KEYS_PER_READ]]
            for _ in range(_READ_ROUNDS):
                # Strongly consistent: a session must be readable in the very request that wrote it.
                answer = self._wire.call(
                    "BatchGetItem", {"RequestItems": {self._table: {"Keys": waiting, "ConsistentRead": True}}}
                )
                items = map(decoded, answer["Responses"].get(self._table, ()))
                found |= {row.key: row for row in map(self._layout.to_row, items)}
                waiting = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
                if not waiting:
                    break
            else:
                raise ThrottledError(f"table {self._table}: {len(waiting)} keys stayed unread; raise its read capacity")
        return found

    def write(self, row: Row) -> int | None:
        try:
            self._wire.call(
                "PutItem",
                {
                    "TableName": self._table,
                    "Item": self._layout.to_item(row),
                    "ConditionExpression": "attribute_not_exists(#v) OR #v < :v",
                    "ExpressionAttributeNames": {"#v": self._layout.version},
                    "ExpressionAttributeValues": {":v": {"N": str(row.version)}},
                    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                },
            )
        except ConditionLostError as lost:
            return int(lost.item.get(self._layout.version, {}).get("N", row.version))
        return None

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        if len(rows) == 1:
            return [self._apply_one(rows[0])]
        return list(self._writers.map(self._apply_one, rows))

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        request: dict[str, Any] = {"TableName": self._table}
        bounds = [("#k >= :start", ":start", start)] if start else []
        bounds += [("#k < :end", ":end", end)] if end is not None else []
        if bounds:
            # The hash key has no order in DynamoDB: the whole table is read, and only the answer shrinks.
            request |= {
                "FilterExpression": " AND ".join(condition for condition, _, _ in bounds),
                "ExpressionAttributeNames": {"#k": self._layout.key},
                "ExpressionAttributeValues": {name: {"S": value} for _, name, value in bounds},
            }
        with self._errors():
            for page in self._client.get_paginator("scan").paginate(**request):
                yield from map(self._layout.to_row, page.get("Items", ()))

    def adopt(self, key: str, seen: int | None, version: int) -> Row | None:
        values = {":new": {"N": str(version)}}
        condition = "attribute_exists(#k) AND attribute_not_exists(#v)"
        if seen is not None:
            condition, values = "#v = :seen", {**values, ":seen": {"N": str(seen)}}
        names = {"#v": self._layout.version} | ({"#k": self._layout.key} if seen is None else {})
        try:
            answer = self._wire.call(
                "UpdateItem",
                {
                    "TableName": self._table,
                    "Key": {self._layout.key: {"S": key}},
                    "UpdateExpression": "SET #v = :new",
                    "ConditionExpression": condition,
                    "ExpressionAttributeNames": names,
                    "ExpressionAttributeValues": values,
                    "ReturnValues": "ALL_NEW",
                },
            )
        except ConditionLostError:
            return None
        return self._layout.to_row(decoded(answer["Attributes"]))

    def bury(self, row: Row) -> bool:
        try:
            self._wire.call(
                "PutItem",
                {
                    "TableName": self._table,
                    "Item": self._layout.to_item(row),
                    "ConditionExpression": "attribute_not_exists(#k)",
                    "ExpressionAttributeNames": {"#k": self._layout.key},
                },
            )
        except ConditionLostError:
            return False
        return True

    def shares(self, most: int) -> list[str]:
        return [f"{segment}/{most}" for segment in range(most)]

    def scan_share(self, share: str) -> Iterator[Row | Unreadable]:
        segment, _, segments = share.partition("/")
        if not segment.isdecimal() or not segments.isdecimal() or int(segment) >= int(segments):
            raise StoreRefusedError(f"table {self._table}: {share!r} names no share; ask the table for its shares")
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table, Segment=int(segment), TotalSegments=int(segments)
        )
        with self._errors():
            for page in pages:
                yield from map(self._row_or_reason, page.get("Items", ()))

    def swap(self, row: Row, seen: int | None) -> bool:
        names = {"#k": self._layout.key} if not seen else {"#v": self._layout.version}
        values: dict[str, Any] = {}
        if seen:
            condition, values = "#v = :seen", {"ExpressionAttributeValues": {":seen": {"N": str(seen)}}}
        elif seen is None:
            condition = "attribute_not_exists(#k)"
        else:
            condition, names = (
                "attribute_exists(#k) AND attribute_not_exists(#v)",
                {**names, "#v": self._layout.version},
            )
        try:
            self._wire.call(
                "PutItem",
                {
                    "TableName": self._table,
                    "Item": self._layout.to_item(row),
                    "ConditionExpression": condition,
                    "ExpressionAttributeNames": names,
                    **values,
                },
            )
        except ConditionLostError:
            return False
        return True

    def discard(self, rows: Sequence[Row]) -> int:
        # The table's time to live takes them away.
        return 0

    def _row_or_reason(self, item: Mapping[str, Mapping[str, Any]]) -> Row | Unreadable:
        try:
            return self._layout.to_row(item)
        except EnvelopeError as error:
            return Unreadable(str(item.get(self._layout.key, {}).get("S", "")), str(error))

    def _apply_one(self, row: Row) -> Applied:
        try:
            return Applied.APPLIED if self.write(row) is None else Applied.STALE
        except StoreRefusedError:
            return Applied.REFUSED
        except TransientError:
            return Applied.FAILED

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            message = error.response.get("Error", {}).get("Message", "")
            raise error_type(code, status)(f"table {self._table}: {code} {message}") from error
        except BotoCoreError as error:
            raise StoreUnavailableError(f"table {self._table}: no usable answer ({error}); try again") from error


def _row(item: Mapping[str, Mapping[str, Any]]) -> Row:
    found = content(item, from_bytes)
    # A row that no aware writer touched yet is older than any version.
    return Row(key_of(item), found.version or 0, found.envelope)


def _item(row: Row) -> dict[str, dict[str, Any]]:
    item: dict[str, dict[str, Any]] = {
        FEATURE_KEY: {"S": row.key},
        FEATURE_VERSION: {"N": str(row.version)},
        FEATURE_ENVELOPE: {"B": row.envelope},
    }
    if expires := peek(row.envelope).expires:
        item[FEATURE_EXPIRES] = {"N": str(expires)}
    return item
