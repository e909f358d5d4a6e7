"""DynamoDB tables with stream and time to live."""

import time
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from local.clouds.aws.arns import region_of
from local.clouds.aws.buckets import error_code
from local.clouds.aws.clients import DEFAULT_REGION, AwsClients, call
from local.clouds.errors import ActorError
from local.state import Resource

ACTIVE_LIMIT_SECONDS = 30.0
POLL_SECONDS = 0.05


class TableActor:
    """`aws:dynamodb/table:Table`; keys and indexes of a table cannot change here, stream and TTL can."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def ensure(self, resource: Resource) -> None:
        """Create the table and wait until it is active, or bring stream and TTL in line."""
        client = self._clients.client("dynamodb", region_of(resource, DEFAULT_REGION))
        await call(_ensure_table, client, table_name(resource), resource.inputs)

    async def remove(self, resource: Resource) -> None:
        """Delete the table and its items. Raises ActorError while deletion protection is on."""
        name = table_name(resource)
        if resource.inputs.get("deletionProtectionEnabled"):
            raise ActorError(f"table {name} has deletion protection; switch it off and deploy before the destroy")
        client = self._clients.client("dynamodb", region_of(resource, DEFAULT_REGION))
        try:
            await call(client.delete_table, TableName=name)
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise


def table_name(resource: Resource) -> str:
    """Return the table's name in its cloud."""
    return str(resource.outputs.get("name") or resource.inputs.get("name") or resource.id)


def _ensure_table(client: Any, name: str, inputs: Mapping[str, Any]) -> None:
    table = _describe(client, name)
    if table is None:
        client.create_table(TableName=name, **_definition(inputs))
    elif _stream(table.get("StreamSpecification")) != _stream(_stream_specification(inputs)):
        client.update_table(TableName=name, StreamSpecification=_stream_specification(inputs))
    _wait_active(client, name)
    _ensure_ttl(client, name, inputs.get("ttl") or {})


def _describe(client: Any, name: str) -> dict[str, Any] | None:
    try:
        table: dict[str, Any] = client.describe_table(TableName=name)["Table"]
        return table
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return None
        raise


def _definition(inputs: Mapping[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = {
        "AttributeDefinitions": [
            {"AttributeName": attribute["name"], "AttributeType": attribute["type"]}
            for attribute in inputs.get("attributes") or []
        ],
        "KeySchema": _key_schema(inputs),
        "BillingMode": inputs.get("billingMode") or "PROVISIONED",
    }
    if definition["BillingMode"] == "PROVISIONED":
        definition["ProvisionedThroughput"] = {
            "ReadCapacityUnits": int(inputs.get("readCapacity") or 1),
            "WriteCapacityUnits": int(inputs.get("writeCapacity") or 1),
        }
    if inputs.get("streamEnabled"):
        definition["StreamSpecification"] = _stream_specification(inputs)
    indexes = [_index(index) for index in inputs.get("globalSecondaryIndexes") or []]
    if indexes:
        definition["GlobalSecondaryIndexes"] = indexes
    return definition


def _key_schema(inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    keys = [{"AttributeName": str(inputs["hashKey"]), "KeyType": "HASH"}]
    if inputs.get("rangeKey"):
        keys.append({"AttributeName": str(inputs["rangeKey"]), "KeyType": "RANGE"})
    return keys


def _index(index: Mapping[str, Any]) -> dict[str, Any]:
    projection: dict[str, Any] = {"ProjectionType": index["projectionType"]}
    if index.get("nonKeyAttributes"):
        projection["NonKeyAttributes"] = list(index["nonKeyAttributes"])
    return {"IndexName": index["name"], "KeySchema": _key_schema(index), "Projection": projection}


def _stream_specification(inputs: Mapping[str, Any]) -> dict[str, Any]:
    if not inputs.get("streamEnabled"):
        return {"StreamEnabled": False}
    return {"StreamEnabled": True, "StreamViewType": inputs.get("streamViewType") or "NEW_AND_OLD_IMAGES"}


def _stream(specification: Mapping[str, Any] | None) -> tuple[bool, str]:
    specification = specification or {}
    return bool(specification.get("StreamEnabled")), str(specification.get("StreamViewType", ""))


def _wait_active(client: Any, name: str) -> None:
    deadline = time.monotonic() + ACTIVE_LIMIT_SECONDS
    while True:
        table = _describe(client, name)
        status = table["TableStatus"] if table else "missing"
        if status == "ACTIVE":
            return
        if time.monotonic() > deadline:
            raise ActorError(f"table {name} is {status} after {ACTIVE_LIMIT_SECONDS:.0f} s; see the log of DynamoDB")
        time.sleep(POLL_SECONDS)


def _ensure_ttl(client: Any, name: str, ttl: Mapping[str, Any]) -> None:
    wanted = str(ttl.get("attributeName") or "") if ttl.get("enabled", True) else ""
    description = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    enabled = description["TimeToLiveStatus"] in ("ENABLED", "ENABLING")
    present = str(description.get("AttributeName", "")) if enabled else ""
    if wanted == present:
        return
    # The service refuses to change the attribute in one step, and so does the emulator.
    if present:
        _set_ttl(client, name, present, enabled=False)
    if wanted:
        _set_ttl(client, name, wanted, enabled=True)


def _set_ttl(client: Any, name: str, attribute: str, enabled: bool) -> None:
    client.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": enabled, "AttributeName": attribute})
