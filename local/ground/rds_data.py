"""The RDS Data API in front of a PostgreSQL server: the five calls that take and give one database's statements.

https://docs.aws.amazon.com/rdsdataservice/latest/APIReference. Limits that shape a program are enforced: one statement a call,
4 MiB a request, 1 MiB an answer, three minutes of an idle transaction. Signatures and secrets are not checked.
"""

import argparse
import re
import select
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

import psycopg
import uvicorn
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8
from psycopg.types.string import StrDumper
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.ground.user_data import database_name
from local.supervisor.ports import LOOPBACK

REQUEST_BYTES = 4 << 20
ANSWER_BYTES = 1 << 20
IDLE_SECONDS = 180.0
STATEMENT_MS = 45_000

# :name, but neither ::type nor what stands in quotes.
_PARAMETER = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|::|:([A-Za-z_]\w*)|%""")
_TYPES = {16: bool, 20: int, 21: int, 23: int, 700: float, 701: float}


class CallError(Exception):
    """An answer that is no result: the exception's name as the API gives it, and its text."""

    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


class Databases:
    """Connections to the databases of one server: one for each statement in flight, kept for the next."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._idle: dict[str, list[psycopg.Connection[Any]]] = {}
        self._transactions: dict[str, tuple[str, psycopg.Connection[Any], float]] = {}

    def execute(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run one statement, in its transaction or by itself."""
        self._expire()
        transaction = request.get("transactionId")
        if transaction:
            with self._lock:
                held = self._transactions.get(transaction)
            if held is None:
                raise CallError("TransactionNotFoundException", f"Transaction {transaction} is not found", 404)
            name, connection, _ = held
            answer = _run(connection, request)
            with self._lock:
                self._transactions[transaction] = (name, connection, time.monotonic())
            return answer
        name = self._name(request)
        connection = self._take(name)
        try:
            answer = _run(connection, request)
            connection.commit()
            return answer
        except BaseException:
            _roll_back(connection)
            raise
        finally:
            self._give(name, connection)

    def begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a transaction."""
        name = self._name(request)
        id = uuid.uuid4().hex
        connection = self._take(name)
        with self._lock:
            self._transactions[id] = (name, connection, time.monotonic())
        return {"transactionId": id}

    def end(self, request: Mapping[str, Any], commit: bool) -> dict[str, Any]:
        """Commit a transaction or roll it back."""
        with self._lock:
            held = self._transactions.pop(str(request.get("transactionId")), None)
        if held is None:
            raise CallError("TransactionNotFoundException", "Transaction is not found", 404)
        name, connection, _ = held
        try:
            if commit:
                connection.commit()
        except psycopg.Error as error:
            raise _database_error(error) from error
        finally:
            _roll_back(connection)
            self._give(name, connection)
        return {"transactionStatus": "Transaction Committed" if commit else "Rollback Complete"}

    def _name(self, request: Mapping[str, Any]) -> str:
        cluster = str(request.get("resourceArn", "")).rpartition(":")[2]
        return database_name(cluster, str(request.get("database") or "postgres"))

    def _take(self, name: str) -> psycopg.Connection[Any]:
        with self._lock:
            kept = self._idle.get(name, [])
            while kept:
                connection = kept.pop()
                if _is_silent(connection):
                    return connection
                connection.close()
        try:
            connection = psycopg.connect(
                host=LOOPBACK,
                port=self._port,
                user="postgres",
                dbname=name,
                connect_timeout=5,
                options=f"-c statement_timeout={STATEMENT_MS}",
            )
            # As the API has it: texts are text and whole numbers bigint, so that a cast forgotten here fails here.
            connection.adapters.register_dumper(str, StrDumper)
            return connection
        except psycopg.OperationalError as error:
            raise CallError("BadRequestException", f"database {name} can't be reached: {error}") from error

    def _give(self, name: str, connection: psycopg.Connection[Any]) -> None:
        if connection.closed:
            return
        with self._lock:
            self._idle.setdefault(name, []).append(connection)

    def _expire(self) -> None:
        oldest = time.monotonic() - IDLE_SECONDS
        with self._lock:
            late = [id for id, (_, _, used) in self._transactions.items() if used < oldest]
            gone = [self._transactions.pop(id) for id in late]
        for _, connection, _ in gone:
            connection.close()


def _run(connection: psycopg.Connection[Any], request: Mapping[str, Any]) -> dict[str, Any]:
    sql, parameters = str(request["sql"]), request.get("parameters") or []
    values = {str(each["name"]): _python(each.get("value") or {}) for each in parameters}
    try:
        cursor = connection.execute(_translated(sql) if values else sql, values or None)
        if cursor.description is None:
            return {"numberOfRecordsUpdated": max(0, cursor.rowcount)}
        kinds = [_TYPES.get(column.type_code, str) for column in cursor.description]
        records = [[_field(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in cursor]
    except psycopg.Error as error:
        raise _database_error(error) from error
    size = sum(len(str(field).encode()) for record in records for field in record)
    if size > ANSWER_BYTES:
        raise CallError(
            "BadRequestException", f"Database returned more than the allowed response size limit ({size} bytes)"
        )
    return {"records": records, "numberOfRecordsUpdated": 0}


def _translated(sql: str) -> str:
    """Return a statement in psycopg's form of parameters."""

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return f"%({match[1]})s"
        return match[0].replace("%", "%%")

    return _PARAMETER.sub(replace, sql)


def _python(value: Mapping[str, Any]) -> Any:
    if value.get("isNull"):
        return None
    found = next(iter(value.values()), None)
    return Int8(found) if isinstance(found, int) and not isinstance(found, bool) else found


def _field(value: Any, kind: type) -> dict[str, Any]:
    if value is None:
        return {"isNull": True}
    if kind is bool:
        return {"booleanValue": value}
    if kind is int:
        return {"longValue": value}
    return {"doubleValue": value} if kind is float else {"stringValue": str(value)}


def _is_silent(connection: psycopg.Connection[Any]) -> bool:
    """Say whether an idle connection is still one: all that the server says to it is that it ends, as for a dropped database."""
    heard = select.poll()
    heard.register(connection.pgconn.socket, select.POLLIN)
    return not heard.poll(0)


def _database_error(error: psycopg.Error) -> CallError:
    return CallError("DatabaseErrorException", f"ERROR: {error}; SQLState: {error.sqlstate}")


def _roll_back(connection: psycopg.Connection[Any]) -> None:
    if connection.closed:
        return
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        try:
            connection.rollback()
        except psycopg.Error:
            connection.close()


def application(port: int) -> Starlette:
    """Return the server's application over the PostgreSQL at a port."""
    databases = Databases(port)
    calls = {
        "Execute": databases.execute,
        "BeginTransaction": databases.begin,
        "CommitTransaction": lambda request: databases.end(request, commit=True),
        "RollbackTransaction": lambda request: databases.end(request, commit=False),
    }

    async def call(request: Request) -> JSONResponse:
        body = await request.body()
        try:
            if len(body) > REQUEST_BYTES:
                raise CallError("BadRequestException", f"request of {len(body)} bytes; limit {REQUEST_BYTES}")
            action = calls.get(request.path_params["action"])
            if action is None:
                raise CallError("BadRequestException", f"no such action: {request.path_params['action']}")
            return JSONResponse(await run_in_threadpool(action, await request.json()))
        except CallError as error:
            headers = {"x-amzn-errortype": error.code}
            return JSONResponse({"message": str(error)}, status_code=error.status, headers=headers)

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"ready": True})

    return Starlette(routes=[Route("/health", health), Route("/{action}", call, methods=["POST"])])


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="The RDS Data API over a PostgreSQL server on this machine.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--postgres-port", type=int, required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        application(arguments.postgres_port), host=LOOPBACK, port=arguments.port, log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main()
