"""Spanner on its gRPC messages themselves: one session, short read-write transactions, deadlines of our own.

Replicated writes are committed with exclude_txn_from_change_streams, so that a change stream made with allow_txn_exclusion never
brings them back (https://cloud.google.com/spanner/docs/change-streams#txn-exclusion). Where that is not in force the version's
own site tells an echo.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from google.cloud.spanner_v1.types import commit_response, mutation, result_set, spanner, transaction
from google.cloud.spanner_v1.types import keys as keys_types
from google.protobuf.empty_pb2 import Empty

from functions.stores.errors import ConflictError, NotFoundError, StoreError
from functions.stores.wire import rpc_errors

HOST = "spanner.googleapis.com:443"

_CALL_SECONDS = 20.0
# Spanner aborts a transaction that lost a conflict and asks to begin anew, with a growing pause.
_ATTEMPTS = 12
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 0.5

_Session = spanner.Session.pb()
_CreateSession = spanner.CreateSessionRequest.pb()
_Begin = spanner.BeginTransactionRequest.pb()
_Rollback = spanner.RollbackRequest.pb()
_Commit = spanner.CommitRequest.pb()
_CommitAnswer = commit_response.CommitResponse.pb()
_Read = spanner.ReadRequest.pb()
_ExecuteSql = spanner.ExecuteSqlRequest.pb()
_ResultSet = result_set.ResultSet.pb()
_Transaction = transaction.Transaction.pb()
_Selector = transaction.TransactionSelector.pb()
_Mutation = mutation.Mutation.pb()
_KeySet = keys_types.KeySet.pb()

Result = TypeVar("Result")


class SpannerDatabase:
    """One database by its full name, over a channel of `wire.open_channel`. Transactions of this process take turns."""

    def __init__(self, channel: Any, name: str) -> None:
        self._name = name
        self._session: str | None = None
        self._lock = threading.Lock()
        self._calls = {
            method: channel.unary_unary(
                f"/google.spanner.v1.Spanner/{method}", request.SerializeToString, answer.FromString
            )
            for method, request, answer in (
                ("CreateSession", _CreateSession, _Session),
                ("BeginTransaction", _Begin, _Transaction),
                ("Commit", _Commit, _CommitAnswer),
                ("Rollback", _Rollback, Empty),
                ("Read", _Read, _ResultSet),
                ("ExecuteSql", _ExecuteSql, _ResultSet),
            )
        }

    def transact(self, work: Callable[["Work"], Result], *, excluded: bool) -> Result:
        """Run `work` in a read-write transaction and commit what it wrote; again from its start where Spanner aborts it.

        `excluded` keeps its writes out of change streams that allow that. Raises ConflictError when it was aborted too often.
        """
        pause = _FIRST_PAUSE_SECONDS
        for attempt in range(_ATTEMPTS):
            try:
                with self._lock:
                    return self._once(work, excluded)
            except ConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
                # Only a pause lets the winner of the conflict finish; Spanner gives nothing to wait for.
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
                pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)
        raise AssertionError("unreachable")

    def read(
        self, table: str, columns: Sequence[str], keys: Sequence[Sequence[str]], at: Any = None
    ) -> list[list[Any]]:
        """Return the rows of the keys that exist, as lists of JSON values; `at` selects a transaction, else it is the latest."""
        if not keys:
            return []
        key_set = _KeySet()
        for key in keys:
            key_set.keys.add().extend(key)
        request = _Read(table=table, columns=columns, key_set=key_set, transaction=at or _strong())
        return _rows(self._call("Read", request))

    def query(self, sql: str, at: Any = None, **parameters: str | int | Sequence[str]) -> list[list[Any]]:
        """Return a query's rows. Texts, numbers and lists of texts may be parameters."""
        request = _ExecuteSql(sql=sql, transaction=at or _strong())
        for name, value in parameters.items():
            if isinstance(value, int):
                request.params[name] = str(value)
                request.param_types[name].code = 2  # INT64
            elif isinstance(value, str):
                request.params[name] = value
                request.param_types[name].code = 6  # STRING
            else:
                request.params.get_or_create_list(name).extend(value)
                request.param_types[name].code = 8  # ARRAY
                request.param_types[name].array_element_type.code = 6
        return _rows(self._call("ExecuteSql", request))

    def _once(self, work: Callable[["Work"], Result], excluded: bool) -> Result:
        request = _Begin()
        request.options.read_write.SetInParent()
        request.options.exclude_txn_from_change_streams = excluded
        id = self._call("BeginTransaction", request).id
        inside = Work(self, id)
        try:
            result = work(inside)
            if inside.mutations:
                commit = _Commit(transaction_id=id, mutations=inside.mutations)
                self._call("Commit", commit)
                return result
        except BaseException:
            self._give_up(id)
            raise
        self._give_up(id)
        return result

    def _give_up(self, id: bytes) -> None:
        # Left open it would hold its locks until the server's own time limit; a server that is gone holds none.
        with suppress(StoreError):
            self._call("Rollback", _Rollback(transaction_id=id))

    def _call(self, method: str, request: Any) -> Any:
        # An id of its own: this call belongs to a transaction, which is lost with its session.
        begun = method in ("Commit", "Rollback") or bool(method != "BeginTransaction" and request.transaction.id)
        for again in (True, False):
            request.session = self._session or self._open()
            try:
                return self._send(method, request)
            except NotFoundError as error:
                # Sessions end after an hour without use, and all of them with a server that starts anew.
                if "Session not found" not in str(error):
                    raise
                self._session = None
                if begun:
                    raise ConflictError(f"{error}: its session has ended; the transaction begins anew") from error
                if not again:
                    raise
        raise AssertionError("unreachable")

    def _open(self) -> str:
        self._session = str(self._send("CreateSession", _CreateSession(database=self._name)).name)
        return self._session

    def _send(self, method: str, request: Any) -> Any:
        where = request.database if method == "CreateSession" else request.session
        metadata = (("google-cloud-resource-prefix", self._name), ("x-goog-request-params", f"session={where}"))
        with rpc_errors(f"Spanner {self._name.rpartition('/')[2]} {method}"):
            return self._calls[method](request, timeout=_CALL_SECONDS, metadata=metadata)


class Work:
    """What can be done inside one transaction."""

    def __init__(self, database: SpannerDatabase, id: bytes) -> None:
        self._database = database
        self.at = _Selector(id=id)
        self.mutations: list[Any] = []

    def read(self, table: str, columns: Sequence[str], keys: Sequence[Sequence[str]]) -> list[list[Any]]:
        """Read rows by their keys and keep them locked."""
        return self._database.read(table, columns, keys, self.at)

    def query(self, sql: str, **parameters: str | int | Sequence[str]) -> list[list[Any]]:
        """Run a query and keep what it read locked."""
        return self._database.query(sql, self.at, **parameters)

    def put(self, table: str, values: Mapping[str, Any]) -> None:
        """Write a row whole at the commit."""
        write = _Mutation()
        write.insert_or_update.table = table
        write.insert_or_update.columns.extend(values)
        write.insert_or_update.values.add().extend(values.values())
        self.mutations.append(write)

    def delete(self, table: str, key: Sequence[str]) -> None:
        """Delete a row at the commit; one that is not there is no error."""
        write = _Mutation()
        write.delete.table = table
        write.delete.key_set.keys.add().extend(key)
        self.mutations.append(write)


def _rows(answer: Any) -> list[list[Any]]:
    return [[_plain(value) for value in row.values] for row in answer.rows]


def _plain(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "null_value":
            return None
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case kind:
            return getattr(value, kind)


def _strong() -> Any:
    selector = _Selector()
    selector.single_use.read_only.strong = True
    return selector
