"""Aurora clusters on this machine's one PostgreSQL: a database for each, and the extension by which triggers call functions.

Aurora's aws_lambda extension is stood in for by a function of the same name and arguments that notifies this process when its
transaction commits (https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/PostgreSQL-Lambda.html). Calls that come while
a function runs for the same database are one call after it, as each drains all there is.
"""

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from functions.settings import USER_DATABASES
from local.clouds.aws.lambda_host.host import LambdaHost
from local.clouds.context import CloudContext
from local.clouds.errors import ActorError, CloudError
from local.ground import user_data
from local.state import Resource, ResourceGoneError

logger = logging.getLogger(__name__)

CLUSTER_TYPE = "aws:rds/cluster:Cluster"
INVOCATION_TYPE = "aws:lambda/invocation:Invocation"
CONNECT_SECONDS = 5
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 1.0
# As the API's own: a function's limit is up to 15 minutes, and the program waits for it.
INVOKE_PATIENCE_SECONDS = 60.0

_CHANNEL = "lifeboat_lambda"
_EXTENSION = """
CREATE SCHEMA IF NOT EXISTS aws_lambda;
CREATE OR REPLACE FUNCTION aws_lambda.invoke(
    function_name text, payload json, region text DEFAULT NULL, invocation_type text DEFAULT 'RequestResponse'
) RETURNS integer LANGUAGE sql AS $$
    SELECT 202 FROM (
        SELECT pg_notify('lifeboat_lambda', json_build_object('function', function_name, 'payload', payload)::text)
    ) AS sent
$$
"""


class UserDatabases:
    """The databases of all clusters, and a listener for each. Belongs to the main thread's event loop."""

    def __init__(self, context: CloudContext) -> None:
        self._host, _, port = context.ground.endpoints.postgres.partition(":")
        self._port = int(port)
        self._lambda = context.part(LambdaHost)
        self._listeners: dict[str, asyncio.Task[None]] = {}
        self._drains: dict[str, asyncio.Task[None]] = {}

    async def ensure(self, resource: Resource) -> None:
        """Create the cluster's database and listen for its calls."""
        if reason := user_data.missing():
            logger.warning("cluster %s is only recorded: %s", resource.id, reason)
            return
        name = _database(resource)
        await asyncio.to_thread(self._create, name)
        if name not in self._listeners:
            self._listeners[name] = asyncio.create_task(self._listen(name), name=f"calls of {name}")

    async def remove(self, resource: Resource) -> None:
        """Drop the database. Raises ActorError while deletion protection is on."""
        if resource.inputs.get("deletionProtection"):
            raise ActorError(
                f"cluster {resource.id} has deletion protection; switch it off and deploy before the destroy"
            )
        if user_data.missing():
            return
        name = _database(resource)
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
        await asyncio.to_thread(self._drop, name)

    async def stop(self) -> None:
        """Stop listening and calling."""
        tasks = [*self._listeners.values(), *self._drains.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _create(self, name: str) -> None:
        try:
            with self._connect("postgres") as server:
                if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                    server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            with self._connect(name) as database:
                database.execute(_EXTENSION)
        except psycopg.Error as error:
            raise ActorError(f"database {name} can't be made: {error}; see ./lifeboat local status") from error

    def _drop(self, name: str) -> None:
        try:
            with self._connect("postgres") as server:
                server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg.Error as error:
            raise ActorError(f"database {name} can't be dropped: {error}; see ./lifeboat local status") from error

    def _connect(self, name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(**self._address(name), autocommit=True)

    def _address(self, name: str) -> dict[str, Any]:
        return {
            "host": self._host,
            "port": self._port,
            "user": user_data.POSTGRES_USER,
            "dbname": name,
            "connect_timeout": CONNECT_SECONDS,
        }

    async def _listen(self, name: str) -> None:
        retry = FIRST_RETRY_SECONDS
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**self._address(name), autocommit=True) as connection:
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    retry = FIRST_RETRY_SECONDS
                    async for notice in connection.notifies():
                        call = json.loads(notice.payload)
                        self._call_soon(str(call["function"]).rpartition(":")[2], call["payload"])
            except psycopg.Error as error:
                logger.warning("calls of %s wait: %s", name, str(error).strip())
            await asyncio.sleep(retry)
            retry = min(2 * retry, LAST_RETRY_SECONDS)

    def _call_soon(self, function: str, payload: Any) -> None:
        """Call a function once more after the call that runs, however often that is asked for meanwhile."""
        running = self._drains.get(function)
        if running is None or running.done():
            self._drains[function] = asyncio.create_task(self._call(function, payload), name=f"call {function}")
        elif f"{function} again" not in self._drains or self._drains[f"{function} again"].done():
            self._drains[f"{function} again"] = asyncio.create_task(self._call_after(running, function, payload))

    async def _call_after(self, running: "asyncio.Task[None]", function: str, payload: Any) -> None:
        with suppress(CloudError):
            await asyncio.wait({running})
        self._drains[function] = asyncio.create_task(self._call(function, payload), name=f"call {function}")

    async def _call(self, function: str, payload: Any) -> None:
        try:
            await self._lambda.invoke(function, json.dumps(payload).encode(), INVOKE_PATIENCE_SECONDS)
        except CloudError as error:
            # The function's clock calls it as well.
            logger.warning("the database's call of %s failed: %s", function, error)


class InvocationActor:
    """`aws:lambda/invocation:Invocation`: calls the function when it is created or changed, and fails with what it fails with."""

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._lambda = context.part(LambdaHost)
        self._answers: dict[str, str] = {}

    async def ensure(self, resource: Resource) -> None:
        """Call the function, once for the same inputs."""
        if self._done(resource):
            return
        function = str(resource.inputs["functionName"]).rpartition(":")[2]
        if USER_DATABASES in self._lambda.settings(function).environment and (reason := user_data.missing()):
            logger.warning("invocation %s is only recorded: %s", resource.id, reason)
            return
        self._answers[resource.id] = await self._call(function, _payload(resource, "create"))

    async def _call(self, function: str, payload: bytes) -> str:
        answer = await self._lambda.invoke(function, payload, INVOKE_PATIENCE_SECONDS)
        if not answer.succeeded:
            text = answer.payload[:2000].decode(errors="replace")
            raise ActorError(f"function {function} failed when it was invoked: {text}; see its log")
        return answer.payload.decode()

    async def reveal(self, resource: Resource) -> dict[str, Any]:
        """Return what the function answered."""
        answer = self._answers.pop(resource.id, None)
        return {} if answer is None else {"result": answer}

    async def remove(self, resource: Resource) -> None:
        """Call the function once more if its call lives as long as the resource; nothing else is left of a call."""
        if _lives(resource):
            await self._call(str(resource.inputs["functionName"]).rpartition(":")[2], _payload(resource, "delete"))

    def _done(self, resource: Resource) -> bool:
        try:
            return self._context.store.read(resource.cloud, resource.type, resource.id).inputs == resource.inputs
        except ResourceGoneError:
            return False


def _lives(resource: Resource) -> bool:
    return resource.inputs.get("lifecycleScope") == "CRUD"


def _payload(resource: Resource, action: str) -> bytes:
    """Return the input; of a call that lives as long as its resource, with what happens to it, as the provider documents."""
    given = json.loads(str(resource.inputs.get("input") or "{}"))
    if _lives(resource):
        stage = {"action": action, "prev_input": given if action == "delete" else None}
        given = {**given, str(resource.inputs.get("terraformKey") or "tf"): stage}
    return json.dumps(given).encode()


def _database(resource: Resource) -> str:
    given = {**resource.outputs, **resource.inputs}
    return user_data.database_name(
        str(given.get("clusterIdentifier") or resource.id), str(given.get("databaseName") or "postgres")
    )
