"""User data in PostgreSQL over the RDS Data API: HTTP with IAM, so both clouds reach it without a network between them.

https://docs.aws.amazon.com/rds/latest/userguide/data-api.html. Every verb is one call of a function that migrations/ installs;
batches travel as JSON inside one parameter. An answer holds 1 MiB at most, so pages are bounded by bytes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from functions.features.version import stamp
from functions.settings import Site
from functions.stores.errors import (
    AccessDeniedError,
    ConflictError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    ThrottledError,
)
from functions.userdata.change import Change, key_of
from functions.userdata.errors import ValueRefusedError
from functions.userdata.protocols import Answer, Entry, Fate, Page
from functions.userdata.schema import Table
from functions.userdata.values import Row, from_postgres, loads, row_from, to_postgres

# Below the Data API's 1 MiB an answer, with room for the JSON around it (https://docs.aws.amazon.com/rdsdataservice/latest/APIReference/API_ExecuteStatement.html).
ANSWER_BYTES = 700_000
# And its 4 MiB a request.
REQUEST_BYTES = 3_000_000
ROWS = 500
_COPY_ROWS = 2_000
# Lost to another transaction, so the same call may pass: deadlock, serialization failure, lock not available (PostgreSQL codes).
_CONFLICTS = ("40P01", "40001", "55P03")


class DataApi:
    """One database of one cluster. `client` is a boto3 rds-data client."""

    def __init__(self, client: Any, cluster_arn: str, secret_arn: str, database: str) -> None:
        self._client = client
        self._where = {"resourceArn": cluster_arn, "secretArn": secret_arn}
        self._database = database
        self._name = f"database {database} of {cluster_arn.rpartition(':')[2]}"

    def execute(self, sql: str, transaction: str | None = None, /, **parameters: str | int | None) -> list[list[Any]]:
        """Run one statement with named parameters and return its rows."""
        request: dict[str, Any] = {**self._where, "database": self._database, "sql": sql}
        if transaction is not None:
            request["transactionId"] = transaction
        if parameters:
            request["parameters"] = [{"name": name, "value": _field(value)} for name, value in parameters.items()]
        with self._errors():
            answer = self._client.execute_statement(**request)
        return [[_value(field) for field in row] for row in answer.get("records", ())]

    @contextmanager
    def transaction(self) -> Iterator[str]:
        """Give the id of a transaction that is committed at the end, or rolled back by an error."""
        with self._errors():
            id = self._client.begin_transaction(**self._where, database=self._database)["transactionId"]
        try:
            yield id
        except BaseException:
            with self._errors():
                self._client.rollback_transaction(**self._where, transactionId=id)
            raise
        with self._errors():
            self._client.commit_transaction(**self._where, transactionId=id)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise _error_of(self._name, error) from error
        except BotoCoreError as error:
            raise StoreUnavailableError(f"{self._name}: no usable answer ({error}); try again") from error


class PostgresUserData:
    """The declared tables in PostgreSQL. Local writes are stamped and noted by the tables' triggers."""

    def __init__(self, database: DataApi, tables: Sequence[Table], site: Site = Site.AWS) -> None:
        self._database = database
        self._tables = {table.name: table for table in tables}
        self._site = site

    def read(self, table: str, keys: Sequence[str]) -> dict[str, Change]:
        found: dict[str, Change] = {}
        for at in range(0, len(keys), ROWS):
            some = json.dumps(list(keys[at : at + ROWS]))
            answer = self._call("lifeboat.states(:name, :keys::jsonb)", name=table, keys=some)
            found |= {item["key"]: self._change(table, item) for item in answer}
        return found

    def apply(self, changes: Sequence[Change]) -> list[Answer]:
        answers: list[Answer] = []
        for batch in _batches([self._item(change) for change in changes]):
            outcomes = self._call("lifeboat.apply(:changes::jsonb)", changes=f"[{','.join(batch)}]")
            answers += [_answer(str(outcome)) for outcome in outcomes]
        return answers

    def put(self, table: str, row: Row) -> Change:
        declared = self._tables[table]
        version = self._call("to_jsonb(lifeboat.put(:name, :row::jsonb))", name=table, row=_content(row, declared))
        return Change(table, key_of(row, declared), int(version), row)

    def delete(self, table: str, key: str) -> Change | None:
        version = self._database.execute("SELECT lifeboat.remove(:name, :key)", name=table, key=key)[0][0]
        return None if version is None else Change(table, key, int(version), None)

    def bury(self, table: str, key: str, last: int) -> Change:
        version = self._call("lifeboat.bury(:name, :key, :last)", name=table, key=key, last=last)
        return Change(table, key, int(version), None)

    def page(self, table: str, after: str | None) -> Page:
        answer = self._call(
            "lifeboat.page(:name, :after, :most::integer, :bytes::integer)",
            name=table,
            after=after,
            most=ROWS,
            bytes=ANSWER_BYTES,
        )
        changes: list[Change] = []
        refused: dict[str, str] = {}
        for item in answer["rows"]:
            try:
                changes.append(self._change(table, item))
            except ValueRefusedError as error:
                refused[item["key"]] = str(error)
        return Page(changes, answer["next"], refused)

    def tombstones(self, table: str, after: str | None) -> Page:
        rows = self._database.execute(
            'SELECT key, version FROM lifeboat.tombstones WHERE table_name = :name AND key COLLATE "C" > :after'
            ' ORDER BY key COLLATE "C" LIMIT :most',
            name=table,
            after=after or "",
            most=ROWS,
        )
        changes = [Change(table, str(key), int(version), None) for key, version in rows]
        return Page(changes, changes[-1].key if changes else None)

    def sweep(self, before: int) -> int:
        rows = self._database.execute(
            "WITH gone AS (DELETE FROM lifeboat.tombstones WHERE version < :before RETURNING 1)"
            " SELECT count(*) FROM gone",
            before=before,
        )
        return int(rows[0][0])

    def pending(self, after: int) -> list[Entry]:
        items = self._call(
            "lifeboat.pending(:after, :most::integer, :bytes::integer)", after=after, most=ROWS, bytes=ANSWER_BYTES
        )
        entries: list[Entry] = []
        for item in items:
            gone = Change(item["table"], item["key"], int(item["version"]), None)
            if "bytes" in item:
                problem = (
                    f"row of {item['bytes']} bytes: the Data API carries {ANSWER_BYTES}; keep large values in a bucket"
                )
                entries.append(Entry(item["id"], gone, problem))
                continue
            try:
                entries.append(Entry(item["id"], self._change(item["table"], item)))
            except ValueRefusedError as error:
                entries.append(Entry(item["id"], gone, str(error)))
        return entries

    def done(self, ids: Sequence[int]) -> None:
        if ids:
            self._database.execute(
                "DELETE FROM lifeboat.outbox WHERE id IN (SELECT value::bigint FROM jsonb_array_elements_text(:ids::jsonb))",
                ids=json.dumps(list(ids)),
            )

    def park(self, id: int, reason: str) -> None:
        self._database.execute("SELECT lifeboat.park(:id, :reason)::text", id=id, reason=reason)

    def copy_existing(self) -> int:
        return int(self._call("to_jsonb(lifeboat.copy_existing(:most::integer))", most=_COPY_ROWS))

    def parked(self) -> int:
        """Return how many changes lie parked."""
        return int(self._database.execute("SELECT count(*) FROM lifeboat.parked")[0][0])

    def park_arrival(self, change: Change, reason: str) -> None:
        """Keep a change of the other side that can never be applied here, with the reason."""
        self._database.execute(
            "INSERT INTO lifeboat.parked (table_name, key, version, content, reason)"
            " VALUES (:name, :key, :version, :row::jsonb, :reason)"
            " ON CONFLICT (table_name, key, version) DO UPDATE SET reason = excluded.reason",
            name=change.table,
            key=change.key,
            version=change.version,
            row=None if change.row is None else json.dumps(dict(change.row)),
            reason=reason,
        )

    def _call(self, expression: str, **parameters: str | int | None) -> Any:
        # As text: the Data API has no type for JSON, and its numbers would be rounded on the way.
        rows = self._database.execute(f"SELECT ({expression})::text", **parameters)
        return loads(rows[0][0])

    def _change(self, table: str, item: Mapping[str, Any]) -> Change:
        content = item.get("row")
        row = None if content is None else row_from(content, self._tables[table], from_postgres)
        version = int(item["version"])
        # A row from before its table was listed has no version yet; whatever it gets will be above this.
        return Change(table, item["key"], version or stamp(0, 0, self._site), row)

    def _item(self, change: Change) -> str:
        table = self._tables[change.table]
        content = "null" if change.row is None else _content(change.row, table)
        head = json.dumps({"table": change.table, "key": change.key, "version": change.version})
        return f'{head[:-1]}, "row": {content}}}'


def _content(row: Row, table: Table) -> str:
    return json.dumps({name: to_postgres(row[name], table.type_of(name)) for name in table.columns})


def _batches(items: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for item in items:
        if batch and (len(batch) >= ROWS or size + len(item) > REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item)
    if batch:
        yield batch


def _answer(outcome: str) -> Answer:
    fate, _, reason = outcome.partition(": ")
    return Answer(Fate(fate), reason)


def _field(value: str | int | None) -> dict[str, Any]:
    if value is None:
        return {"isNull": True}
    return {"longValue": value} if isinstance(value, int) else {"stringValue": value}


def _value(field: Mapping[str, Any]) -> Any:
    if field.get("isNull"):
        return None
    return next(iter(field.values()))


def _error_of(name: str, error: Any) -> StoreError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    text = f"{name}: {error}"
    if code in ("AccessDeniedException", "ForbiddenException"):
        return AccessDeniedError(text)
    if code in ("ThrottlingException", "StatementTimeoutException"):
        return ThrottledError(text)
    if code == "DatabaseErrorException" and any(state in text for state in _CONFLICTS):
        return ConflictError(text)
    # A cluster that pauses or fails over answers with these as well: time mends them (Data API, troubleshooting).
    if code in ("BadRequestException", "DatabaseErrorException", "UnsupportedResultException"):
        return StoreRefusedError(text)
    return StoreUnavailableError(text)
