"""Bigtable tables and their garbage collection, against the emulator's table admin API.

Instances and app profiles are only recorded: the emulator answers their calls with "unimplemented", yet serves tables
under any instance name.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.cloud.bigtable_admin_v2.types import bigtable_table_admin, table
from google.protobuf.empty_pb2 import Empty

from local.clouds.errors import ActorError
from local.clouds.gcp.pubsub import CHANNEL_OPTIONS
from local.clouds.gcp.resources import TABLE, full_name, properties, required
from local.state import Resource, ResourceStore

CALL_SECONDS = 10.0
GC_POLICY_TYPE = "gcp:bigtable/gCPolicy:GCPolicy"

_Table = table.Table.pb()
_GcRule = table.GcRule.pb()
_ColumnFamily = table.ColumnFamily.pb()
_GetTableRequest = bigtable_table_admin.GetTableRequest.pb()
_CreateTableRequest = bigtable_table_admin.CreateTableRequest.pb()
_UpdateTableRequest = bigtable_table_admin.UpdateTableRequest.pb()
_DeleteTableRequest = bigtable_table_admin.DeleteTableRequest.pb()
_ModifyRequest = bigtable_table_admin.ModifyColumnFamiliesRequest.pb()


class TableAdmin:
    """Tables of a Bigtable server at `host:port`. Belongs to one event loop."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    async def close(self) -> None:
        """Close the connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def families(self, name: str) -> Mapping[str, Any] | None:
        """Return a table's column families and their rules, or None when there is no such table."""
        request = _GetTableRequest(name=name, view=table.Table.View.SCHEMA_VIEW)
        answer = await self._call("GetTable", request, _Table, absent=True)
        return None if answer is None else dict(answer.column_families)

    async def create(self, name: str, families: Mapping[str, Any], splits: list[str]) -> None:
        """Create a table with its families' garbage collection rules."""
        parent, _, table_id = name.rpartition("/tables/")
        request = _CreateTableRequest(parent=parent, table_id=table_id)
        for family, rule in families.items():
            request.table.column_families[family].CopyFrom(_ColumnFamily(gc_rule=rule))
        for split in splits:
            request.initial_splits.add(key=split.encode())
        await self._call("CreateTable", request, _Table)

    async def modify(self, name: str, create: Mapping[str, Any], update: Mapping[str, Any], drop: list[str]) -> None:
        """Add families, set rules of families, drop families, in one call."""
        request = _ModifyRequest(name=name)
        for family, rule in create.items():
            request.modifications.add(id=family, create=_ColumnFamily(gc_rule=rule))
        for family, rule in update.items():
            request.modifications.add(id=family, update=_ColumnFamily(gc_rule=rule))
        for family in drop:
            request.modifications.add(id=family, drop=True)
        await self._call("ModifyColumnFamilies", request, _Table)

    async def watch(self, name: str, retention_seconds: float) -> None:
        """Set how long a table keeps its changes; 0 ends its change stream."""
        request = _UpdateTableRequest()
        request.table.name = name
        if retention_seconds:
            request.table.change_stream_config.retention_period.FromMilliseconds(int(retention_seconds * 1000))
        request.update_mask.paths.append("change_stream_config")
        # The answer is a finished operation, of which nothing is read.
        await self._call("UpdateTable", request, Empty)

    async def delete(self, name: str) -> None:
        """Delete a table; one that is not there is no error."""
        await self._call("DeleteTable", _DeleteTableRequest(name=name), Empty, absent=True)

    async def _call(self, method: str, request: Any, answer: Any, absent: bool = False) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        call: Callable[..., Any] = self._channel.unary_unary(
            f"/google.bigtable.admin.v2.BigtableTableAdmin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return await call(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if absent and error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                await self.close()
            raise ActorError(
                f"Bigtable at {self._address} refused {method}: {error.code().name}: {error.details()};"
                " see whether the cloud is cut off: ./lifeboat local status"
            ) from error


class TableActor:
    """gcp.bigtable.Table, with the rules of its GCPolicy rows."""

    def __init__(self, admin: TableAdmin, store: ResourceStore) -> None:
        self._admin = admin
        self._store = store

    async def ensure(self, resource: Resource) -> None:
        """Create the table, or bring its families and rules in line."""
        name = full_name(resource, TABLE)
        rules = self._rules(resource)
        found = await self._admin.families(name)
        if found is None:
            splits = [str(key) for key in properties(resource).get("splitKeys") or []]
            await self._admin.create(name, rules, splits)
            found = rules
        new = {family: rule for family, rule in rules.items() if family not in found}
        kept = {family: rule for family, rule in rules.items() if family in found}
        # Sent even when nothing changes: the emulator's collector starts with the first of these calls, not with the
        # rules of CreateTable.
        await self._admin.modify(name, new, kept, [family for family in found if family not in rules])
        retention = properties(resource).get("changeStreamRetention")
        await self._admin.watch(name, _duration_seconds(str(retention)) if retention else 0)

    async def remove(self, resource: Resource) -> None:
        """Delete the table. Raises ActorError when it is protected."""
        name = full_name(resource, TABLE)
        if properties(resource).get("deletionProtection") == "PROTECTED":
            raise ActorError(f"table {name} is protected; set deletionProtection to UNPROTECTED and update it first")
        await self._admin.delete(name)

    def _rules(self, resource: Resource) -> dict[str, Any]:
        families = [str(family["family"]) for family in properties(resource).get("columnFamilies") or []]
        rules = {family: _GcRule() for family in families}
        for policy in self._store.list(resource.cloud, GC_POLICY_TYPE):
            family = str(properties(policy).get("columnFamily"))
            if _policy_table(policy) == _short(resource.id) and family in rules:
                rules[family] = gc_rule(policy)
        return rules


class GcPolicyActor:
    """gcp.bigtable.GCPolicy: the garbage collection rule of one family."""

    def __init__(self, admin: TableAdmin, store: ResourceStore) -> None:
        self._admin = admin
        self._store = store

    async def ensure(self, resource: Resource) -> None:
        """Set the rule."""
        await self._admin.modify(self._table(resource), {}, {_family(resource): gc_rule(resource)}, [])

    async def remove(self, resource: Resource) -> None:
        """Take the rule off; a table or family that is gone is no error."""
        if properties(resource).get("deletionPolicy") == "ABANDON":
            return
        name = self._table(resource)
        found = await self._admin.families(name)
        if found is not None and _family(resource) in found:
            await self._admin.modify(name, {}, {_family(resource): _GcRule()}, [])

    def _table(self, resource: Resource) -> str:
        given = properties(resource)
        instance, short = str(required(resource, "instanceName")).rpartition("/")[2], _policy_table(resource)
        project = given.get("project")
        if project:
            return f"projects/{project}/instances/{instance}/tables/{short}"
        ending = f"/instances/{instance}/tables/{short}"
        for row in self._store.list(resource.cloud, "gcp:bigtable/table:Table"):
            if row.id.endswith(ending):
                return row.id
        raise ActorError(f"GCPolicy {resource.name}: no table {short} in instance {instance}; make the table first")


def gc_rule(resource: Resource) -> Any:
    """Return the API's rule of a GCPolicy: `gcRules` (JSON), or `maxVersions` and `maxAge` joined by `mode`."""
    given = properties(resource)
    if given.get("gcRules"):
        return _joined(json.loads(str(given["gcRules"])))
    rules: list[dict[str, Any]] = [{"max_version": one["number"]} for one in given.get("maxVersions") or []]
    age = given.get("maxAge")
    if age:
        rules.append({"max_age": age.get("duration") or f"{24 * int(age.get('days') or 0)}h"})
    return _joined({"mode": str(given.get("mode") or "intersection").lower(), "rules": rules})


def _joined(written: Mapping[str, Any]) -> Any:
    """Read the provider's written form of rules: `{"mode": ..., "rules": [{"max_version": 1}, ...]}`, nested at will."""
    rules = []
    for one in written.get("rules") or []:
        if "rules" in one:
            rules.append(_joined(one))
        elif "max_version" in one:
            rules.append(_GcRule(max_num_versions=int(one["max_version"])))
        else:
            rule = _GcRule()
            rule.max_age.FromMilliseconds(int(_duration_seconds(str(one["max_age"])) * 1000))
            rules.append(rule)
    if len(rules) < 2:
        return rules[0] if rules else _GcRule()
    joined = _GcRule()
    group = joined.union if written.get("mode") == "union" else joined.intersection
    group.rules.extend(rules)
    return joined


def _duration_seconds(text: str) -> float:
    # Days are this provider's own addition to Go's units.
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    parts = re.findall(r"([0-9.]+)([smhd])", text)
    if not parts:
        raise ActorError(f"{text!r} is no age; write for example 24h")
    return sum(float(number) * units[unit] for number, unit in parts)


def _policy_table(policy: Resource) -> str:
    return _short(str(required(policy, "table")))


def _family(policy: Resource) -> str:
    return str(required(policy, "columnFamily"))


def _short(name: str) -> str:
    return name.rpartition("/")[2]
