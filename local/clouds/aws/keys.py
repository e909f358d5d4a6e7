"""KMS keys and their aliases on the emulator, which makes up its own key ids: a key is found by a tag that holds ours."""

from typing import Any

from botocore.exceptions import ClientError

from local.clouds.aws.arns import region_of
from local.clouds.aws.buckets import error_code
from local.clouds.aws.clients import DEFAULT_REGION, AwsClients, call
from local.clouds.errors import ActorError
from local.state import Resource

KEY_TYPE = "aws:kms/key:Key"
ALIAS_TYPE = "aws:kms/alias:Alias"
TAG = "lifeboat-key-id"
# The shortest that KMS takes; nothing here waits for it.
DELETION_DAYS = 7


class KeyActor:
    """`aws:kms/key:Key`."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def ensure(self, resource: Resource) -> None:
        """Make the key; one that is there is left as it is."""
        given = resource.inputs
        client = self._clients.client("kms", region_of(resource, DEFAULT_REGION))
        if await call(_find, client, resource.id) is None:
            await call(
                client.create_key,
                Description=str(given.get("description") or ""),
                KeyUsage=str(given.get("keyUsage") or "ENCRYPT_DECRYPT"),
                KeySpec=str(given.get("customerMasterKeySpec") or "SYMMETRIC_DEFAULT"),
                Tags=[{"TagKey": TAG, "TagValue": resource.id}],
            )

    async def remove(self, resource: Resource) -> None:
        """Schedule the key's deletion: from then on it signs nothing."""
        client = self._clients.client("kms", region_of(resource, DEFAULT_REGION))
        identity = await call(_find, client, resource.id)
        if identity is not None:
            await call(client.untag_resource, KeyId=identity, TagKeys=[TAG])
            await call(client.schedule_key_deletion, KeyId=identity, PendingWindowInDays=DELETION_DAYS)


class AliasActor:
    """`aws:kms/alias:Alias`."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def ensure(self, resource: Resource) -> None:
        """Point the alias at its key. Raises ActorError if the key is not there."""
        client = self._clients.client("kms", region_of(resource, DEFAULT_REGION))
        wanted = str(resource.inputs["targetKeyId"]).rpartition("/")[2]
        identity = await call(_find, client, wanted)
        if identity is None:
            raise ActorError(f"alias {resource.id} points at key {wanted}, which is not there; make the key first")
        try:
            await call(client.create_alias, AliasName=_name(resource), TargetKeyId=identity)
        except ClientError as error:
            if error_code(error) != "AlreadyExistsException":
                raise
            await call(client.update_alias, AliasName=_name(resource), TargetKeyId=identity)

    async def remove(self, resource: Resource) -> None:
        """Delete the alias."""
        client = self._clients.client("kms", region_of(resource, DEFAULT_REGION))
        try:
            await call(client.delete_alias, AliasName=_name(resource))
        except ClientError as error:
            if error_code(error) != "NotFoundException":
                raise


def _name(resource: Resource) -> str:
    return str(resource.outputs.get("name") or resource.inputs.get("name") or resource.id)


def _find(client: Any, identity: str) -> str | None:
    """Return the emulator's id of one of our keys, None if it has none."""
    for page in client.get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            tags = client.list_resource_tags(KeyId=key["KeyId"])["Tags"]
            if {"TagKey": TAG, "TagValue": identity} in tags:
                return str(key["KeyId"])
    return None
