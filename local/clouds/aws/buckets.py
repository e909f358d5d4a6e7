"""S3 buckets and their separate settings, carried out on the emulator as far as it goes."""

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from local.clouds.aws.arns import region_of
from local.clouds.aws.clients import DEFAULT_REGION, AwsClients, call
from local.clouds.errors import BucketNotEmptyError
from local.state import Resource

# DeleteObjects takes a thousand keys.
DELETE_BATCH = 1000


class BucketActor:
    """`aws:s3/bucket:Bucket`."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def ensure(self, resource: Resource) -> None:
        """Create the bucket unless it is there."""
        region = region_of(resource, DEFAULT_REGION)
        await call(_create_bucket, self._clients.client("s3", region), bucket_name(resource), region)

    async def remove(self, resource: Resource) -> None:
        """Delete the bucket; with its objects only where forceDestroy says so. Raises BucketNotEmptyError."""
        client = self._clients.client("s3", region_of(resource, DEFAULT_REGION))
        await call(_delete_bucket, client, bucket_name(resource), bool(resource.inputs.get("forceDestroy")))


class BucketSettingActor:
    """Base of the resources that set one thing on a bucket; a bucket that is gone took its settings along."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def ensure(self, resource: Resource) -> None:
        """Put the setting."""
        await call(self.put, self._clients.client("s3", region_of(resource, DEFAULT_REGION)), resource)

    async def remove(self, resource: Resource) -> None:
        """Take the setting back to S3's default."""
        client = self._clients.client("s3", region_of(resource, DEFAULT_REGION))
        try:
            await call(self.reset, client, bucket_name(resource))
        except ClientError as error:
            if error_code(error) != "NoSuchBucket":
                raise

    def put(self, client: Any, resource: Resource) -> None:
        """Make the SDK call that sets it."""
        raise NotImplementedError

    def reset(self, client: Any, bucket: str) -> None:
        """Make the SDK call that takes it back."""
        raise NotImplementedError


class BucketVersioningActor(BucketSettingActor):
    """`aws:s3/bucketVersioning:BucketVersioning`; versioning once on can only be suspended."""

    def put(self, client: Any, resource: Resource) -> None:
        """Enable or suspend it; `Disabled` is the state of a bucket that never had it."""
        status = str(_block(resource.inputs.get("versioningConfiguration")).get("status", "Enabled"))
        if status != "Disabled":
            client.put_bucket_versioning(Bucket=bucket_name(resource), VersioningConfiguration={"Status": status})

    def reset(self, client: Any, bucket: str) -> None:
        """Suspend it."""
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


class BucketEncryptionActor(BucketSettingActor):
    """`aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration`."""

    def put(self, client: Any, resource: Resource) -> None:
        """Set the default encryption."""
        rules = []
        for rule in resource.inputs.get("rules") or []:
            default = _block(rule.get("applyServerSideEncryptionByDefault"))
            entry: dict[str, Any] = {"SSEAlgorithm": default.get("sseAlgorithm", "AES256")}
            if default.get("kmsMasterKeyId"):
                entry["KMSMasterKeyID"] = default["kmsMasterKeyId"]
            rules.append(
                {
                    "ApplyServerSideEncryptionByDefault": entry,
                    "BucketKeyEnabled": bool(rule.get("bucketKeyEnabled", False)),
                }
            )
        client.put_bucket_encryption(Bucket=bucket_name(resource), ServerSideEncryptionConfiguration={"Rules": rules})

    def reset(self, client: Any, bucket: str) -> None:
        """Remove it."""
        client.delete_bucket_encryption(Bucket=bucket)


class BucketPublicAccessBlockActor(BucketSettingActor):
    """`aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock`."""

    def put(self, client: Any, resource: Resource) -> None:
        """Set the four switches."""
        switches = {
            "BlockPublicAcls": "blockPublicAcls",
            "BlockPublicPolicy": "blockPublicPolicy",
            "IgnorePublicAcls": "ignorePublicAcls",
            "RestrictPublicBuckets": "restrictPublicBuckets",
        }
        client.put_public_access_block(
            Bucket=bucket_name(resource),
            PublicAccessBlockConfiguration={
                name: bool(resource.inputs.get(wire, False)) for name, wire in switches.items()
            },
        )

    def reset(self, client: Any, bucket: str) -> None:
        """Remove them."""
        client.delete_public_access_block(Bucket=bucket)


class BucketNotificationActor(BucketSettingActor):
    """`aws:s3/bucketNotification:BucketNotification`, to queues; the emulator delivers them itself."""

    def put(self, client: Any, resource: Resource) -> None:
        """Set the notifications; the emulator answers with a test event, as S3 does."""
        queues = [_queue_notification(queue) for queue in resource.inputs.get("queues") or []]
        client.put_bucket_notification_configuration(
            Bucket=bucket_name(resource), NotificationConfiguration={"QueueConfigurations": queues}
        )

    def reset(self, client: Any, bucket: str) -> None:
        """Remove them all."""
        client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})


def bucket_name(resource: Resource) -> str:
    """Return the bucket that a resource is or belongs to."""
    return str(resource.inputs.get("bucket") or resource.outputs.get("bucket") or resource.id)


def error_code(error: ClientError) -> str:
    """Return the service's own code of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _block(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _create_bucket(client: Any, bucket: str, region: str) -> None:
    options: dict[str, Any] = {}
    if region != DEFAULT_REGION:
        options["CreateBucketConfiguration"] = {"LocationConstraint": region}
    try:
        client.create_bucket(Bucket=bucket, **options)
    except ClientError as error:
        if error_code(error) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise


def _delete_bucket(client: Any, bucket: str, force: bool) -> None:
    try:
        if force:
            _empty(client, bucket)
        client.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if error_code(error) == "BucketNotEmpty":
            raise BucketNotEmptyError(
                f"bucket {bucket} still holds objects; empty it, or set forceDestroy and deploy before the destroy"
            ) from error
        if error_code(error) != "NoSuchBucket":
            raise


def _empty(client: Any, bucket: str) -> None:
    if client.get_bucket_versioning(Bucket=bucket).get("Status") == "Suspended":
        # moto 5.2.5 knows versions only while versioning is on, and fails over a deletion's marker afterwards (s3/models.py).
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        keys = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in found]
        for start in range(0, len(keys), DELETE_BATCH):
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys[start : start + DELETE_BATCH], "Quiet": True})


def _queue_notification(queue: Mapping[str, Any]) -> dict[str, Any]:
    configuration: dict[str, Any] = {"QueueArn": queue["queueArn"], "Events": list(queue["events"])}
    if queue.get("id"):
        configuration["Id"] = queue["id"]
    rules = [
        {"Name": name, "Value": queue[wire]}
        for name, wire in (("prefix", "filterPrefix"), ("suffix", "filterSuffix"))
        if queue.get(wire)
    ]
    if rules:
        configuration["Filter"] = {"Key": {"FilterRules": rules}}
    return configuration
