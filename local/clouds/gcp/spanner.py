"""Spanner instances and databases, against the emulator's admin APIs.

Where the emulator is not on this machine its resources are only recorded, and the cloud's log says so by name.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from google.cloud.spanner_admin_database_v1.types import spanner_database_admin as databases
from google.cloud.spanner_admin_instance_v1.types import spanner_instance_admin as instances
from google.longrunning.operations_pb2 import Operation  # type: ignore[import-untyped]  # it ships no types
from google.protobuf.empty_pb2 import Empty

from local.clouds.errors import ActorError
from local.clouds.gcp.resources import properties
from local.ground import user_data
from local.state import Resource

logger = logging.getLogger(__name__)

CALL_SECONDS = 20.0
INSTANCE_TYPE = "gcp:spanner/instance:Instance"
DATABASE_TYPE = "gcp:spanner/database:Database"
_CONFIG = "emulator-config"
# The emulator's parser does not know this option of change streams, so echoes are told by the version alone here.
_UNKNOWN_OPTION = re.compile(r",?\s*allow_txn_exclusion\s*=\s*true", re.IGNORECASE)

_CreateInstance = instances.CreateInstanceRequest.pb()
_DeleteInstance = instances.DeleteInstanceRequest.pb()
_CreateDatabase = databases.CreateDatabaseRequest.pb()
_DropDatabase = databases.DropDatabaseRequest.pb()
_GetDdl = databases.GetDatabaseDdlRequest.pb()
_Ddl = databases.GetDatabaseDdlResponse.pb()
_UpdateDdl = databases.UpdateDatabaseDdlRequest.pb()

_INSTANCE_API = "google.spanner.admin.instance.v1.InstanceAdmin"
_DATABASE_API = "google.spanner.admin.database.v1.DatabaseAdmin"


class SpannerAdmin:
    """Instances and databases of a Spanner server at `host:port`. Belongs to one event loop."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Close the connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def create_instance(self, name: str) -> None:
        """Create an instance by its full name; one that is there stays."""
        project, _, id = name.rpartition("/instances/")
        request = _CreateInstance(parent=project, instance_id=id)
        request.instance.name = name
        request.instance.config = f"{project}/instanceConfigs/{_CONFIG}"
        request.instance.display_name = id
        request.instance.node_count = 1
        await self._call(_INSTANCE_API, "CreateInstance", request, Operation, grpc.StatusCode.ALREADY_EXISTS)

    async def delete_instance(self, name: str) -> None:
        """Delete an instance with its databases; one that is not there is no error."""
        await self._call(_INSTANCE_API, "DeleteInstance", _DeleteInstance(name=name), Empty, grpc.StatusCode.NOT_FOUND)

    async def ensure_database(self, name: str, statements: list[str], done: int) -> None:
        """Create a database with its schema, or run what came to its schema after the first `done` statements."""
        wanted = [_UNKNOWN_OPTION.sub("", statement) for statement in statements]
        found = await self._call(
            _DATABASE_API, "GetDatabaseDdl", _GetDdl(database=name), _Ddl, grpc.StatusCode.NOT_FOUND
        )
        if found is None:
            parent, _, id = name.rpartition("/databases/")
            request = _CreateDatabase(
                parent=parent, create_statement=f"CREATE DATABASE `{id}`", extra_statements=wanted
            )
            await self._done(await self._call(_DATABASE_API, "CreateDatabase", request, Operation))
        elif wanted[done:] and found.statements:
            await self._done(
                await self._call(
                    _DATABASE_API, "UpdateDatabaseDdl", _UpdateDdl(database=name, statements=wanted[done:]), Operation
                )
            )

    async def drop_database(self, name: str) -> None:
        """Drop a database; one that is not there is no error."""
        await self._call(_DATABASE_API, "DropDatabase", _DropDatabase(database=name), Empty, grpc.StatusCode.NOT_FOUND)

    async def _done(self, operation: Any) -> None:
        # The emulator runs schema changes before it answers.
        if operation.HasField("error"):
            raise ActorError(
                f"Spanner refused the schema: {operation.error.message}; correct the database's statements"
            )

    async def _call(
        self, service: str, method: str, request: Any, answer: Any, settled: grpc.StatusCode | None = None
    ) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address)
        call: Callable[..., Any] = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return await call(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is settled:
                return None
            raise ActorError(
                f"Spanner at {self._address} refused {method}: {error.code().name}: {error.details()};"
                " see whether the cloud is cut off: ./lifeboat local status"
            ) from error


class InstanceActor:
    """gcp.spanner.Instance."""

    def __init__(self, admin: SpannerAdmin) -> None:
        self._admin = admin

    async def ensure(self, resource: Resource) -> None:
        """Create the instance."""
        if not _left_out(resource):
            await self._admin.create_instance(instance_name(resource))

    async def remove(self, resource: Resource) -> None:
        """Delete the instance with everything in it."""
        if not _left_out(resource):
            await self._admin.delete_instance(instance_name(resource))


class DatabaseActor:
    """gcp.spanner.Database: its `ddls` are run in order, later ones when they are added, as the real provider does."""

    def __init__(self, admin: SpannerAdmin) -> None:
        self._admin = admin
        self._applied: dict[str, int] = {}

    async def ensure(self, resource: Resource) -> None:
        """Create the database, or run the statements that are new."""
        if _left_out(resource):
            return
        name = database_name(resource)
        statements = [str(statement) for statement in properties(resource).get("ddls") or []]
        await self._admin.ensure_database(name, statements, self._applied.get(name, len(statements)))
        self._applied[name] = len(statements)

    async def remove(self, resource: Resource) -> None:
        """Drop the database."""
        if not _left_out(resource):
            await self._admin.drop_database(database_name(resource))


def instance_name(resource: Resource) -> str:
    """Return an instance's full name; the provider's id of it is `project/name`."""
    project, _, name = resource.id.partition("/")
    return f"projects/{project}/instances/{name}"


def database_name(resource: Resource) -> str:
    """Return a database's full name; the provider's id of it is `project/instance/name`."""
    project, instance, name = resource.id.split("/")
    return f"projects/{project}/instances/{instance}/databases/{name}"


def _left_out(resource: Resource) -> bool:
    reason = user_data.missing()
    if reason:
        logger.warning("%s is only recorded: %s", resource.id, reason)
    return bool(reason)
