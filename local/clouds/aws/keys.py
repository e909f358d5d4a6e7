"""KMS keys and their aliases on the emulator, which gives a key the id that a tag of it holds (local/ground/moto.py)."""

from typing import Any

from botocore.exceptions import ClientError

from local.clouds.aws.arns import region_of
from local.clouds.aws.buckets import error_code
from local.clouds.aws.clients import DEFAULT_REGION, AwsClients, call
from local.clouds.errors import ActorError
from local.names import KEY_ID_TAG
from local.state import Resource

KEY_TYPE = "aws:kms/key:Key"
ALIAS_TYPE = "aws:kms/alias:Alias"
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
        state = await call(_state, client, resource.id)
        if state is None:
            await call(
                client.create_key,
                Description=str(given.get("description") or ""),
                KeyUsage=str(given.get("keyUsage") or "ENCRYPT_DECRYPT"),
                KeySpec=str(given.get("customerMasterKeySpec") or "SYMMETRIC_DEFAULT"),
                Tags=[{"TagKey": KEY_ID_TAG, "TagValue": resource.id}],
            )
        elif state == "PendingDeletion":
            # Destroyed and made again on this machine: the provider computes the same id.
            await call(client.cancel_key_deletion, KeyId=resource.id)
            await call(client.enable_key, KeyId=resource.id)

    async def remove(self, resource: Resource) -> None:
        """Schedule the key's deletion: from then on it signs nothing."""
        client = self._clients.client("kms", region_of(resource, DEFAULT_REGION))
        if await call(_state, client, resource.id) not in (None, "PendingDeletion"):
            await call(client.schedule_key_deletion, KeyId=resource.id, PendingWindowInDays=DELETION_DAYS)


class AliasActor:
    """`aws:kms/alias:Alias`."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def ensure(self, resource: Resource) -> None:
        """Point the alias at its key. Raises ActorError if the key is not there."""
        client = self._clients.client("kms", region_of(resource, DEFAULT_REGION))
        wanted = str(resource.inputs["targetKeyId"]).rpartition("/")[2]
        if await call(_state, client, wanted) is None:
            raise ActorError(f"alias {resource.id} points at key {wanted}, which is not there; make the key first")
        try:
            await call(client.create_alias, AliasName=_name(resource), TargetKeyId=wanted)
        except ClientError as error:
            if error_code(error) != "AlreadyExistsException":
                raise
            await call(client.update_alias, AliasName=_name(resource), TargetKeyId=wanted)

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


def _state(client: Any, identity: str) -> str | None:
    """Return a key's state, None if there is no such key."""
    try:
        return str(client.describe_key(KeyId=identity)["KeyMetadata"]["KeyState"])
    except ClientError as error:
        if error_code(error) != "NotFoundException":
            raise
        return None
