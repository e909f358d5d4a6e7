"""SQS queues; visibility, retention and redrive are the emulator's own work."""

import json
from typing import Any

from botocore.exceptions import ClientError

from local.clouds.aws.arns import Arn, region_of
from local.clouds.aws.buckets import error_code
from local.clouds.aws.clients import DEFAULT_REGION, AwsClients, call
from local.state import Resource

GONE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")

# Wire name of the resource -> attribute of the queue (API_SetQueueAttributes).
ATTRIBUTES = {
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "maxMessageSize": "MaximumMessageSize",
    "delaySeconds": "DelaySeconds",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "kmsMasterKeyId": "KmsMasterKeyId",
    "kmsDataKeyReusePeriodSeconds": "KmsDataKeyReusePeriodSeconds",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
    "contentBasedDeduplication": "ContentBasedDeduplication",
    "redrivePolicy": "RedrivePolicy",
    "redriveAllowPolicy": "RedriveAllowPolicy",
    "policy": "Policy",
}


class QueueActor:
    """`aws:sqs/queue:Queue`."""

    def __init__(self, clients: AwsClients) -> None:
        self._clients = clients

    async def ensure(self, resource: Resource) -> None:
        """Create the queue, or set its attributes when it is there."""
        client = self._clients.client("sqs", region_of(resource, DEFAULT_REGION))
        await call(_ensure_queue, client, queue_name(resource), _attributes(resource))

    async def remove(self, resource: Resource) -> None:
        """Delete the queue and its messages."""
        client = self._clients.client("sqs", region_of(resource, DEFAULT_REGION))
        url = await call(queue_url, client, queue_name(resource))
        if url is not None:
            await call(client.delete_queue, QueueUrl=url)


class QueueSettingActor:
    """A resource that sets one attribute of a queue: `queuePolicy`, `redrivePolicy`, `redriveAllowPolicy`."""

    def __init__(self, clients: AwsClients, wire_name: str) -> None:
        self._clients = clients
        self._wire_name = wire_name

    async def ensure(self, resource: Resource) -> None:
        """Set the attribute."""
        await self._set(resource, _text(resource.inputs[self._wire_name]))

    async def remove(self, resource: Resource) -> None:
        """Clear the attribute; a queue that is gone took it along."""
        await self._set(resource, "")

    async def _set(self, resource: Resource, value: str) -> None:
        client = self._clients.client("sqs", region_of(resource, DEFAULT_REGION))
        url = await call(queue_url, client, _last_part(str(resource.inputs["queueUrl"])))
        if url is not None:
            attributes = {ATTRIBUTES[self._wire_name]: value}
            await call(client.set_queue_attributes, QueueUrl=url, Attributes=attributes)


def queue_name(resource: Resource) -> str:
    """Return the queue's name in its cloud."""
    return str(resource.outputs.get("name") or resource.inputs.get("name") or _last_part(resource.id))


def queue_url(client: Any, name: str) -> str | None:
    """Return the emulator's URL of a queue, None when there is no such queue."""
    try:
        return str(client.get_queue_url(QueueName=name)["QueueUrl"])
    except ClientError as error:
        if error_code(error) in GONE:
            return None
        raise


def queue_url_of_arn(clients: AwsClients, arn: str) -> str | None:
    """Return the emulator's URL of the queue that an ARN names, None when there is none."""
    parsed = Arn.parse(arn)
    return queue_url(clients.client("sqs", parsed.region), parsed.resource)


def _ensure_queue(client: Any, name: str, attributes: dict[str, str]) -> None:
    url = queue_url(client, name)
    if url is None:
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        client.create_queue(QueueName=name, Attributes=attributes | fifo)
    elif attributes:
        client.set_queue_attributes(QueueUrl=url, Attributes=attributes)


def _attributes(resource: Resource) -> dict[str, str]:
    values = {wire: resource.inputs[wire] for wire in ATTRIBUTES if resource.inputs.get(wire) is not None}
    return {ATTRIBUTES[wire]: _text(value) for wire, value in values.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    # Numbers come as floats over Pulumi's wire.
    return str(int(value)) if isinstance(value, int | float) else json.dumps(value)


def _last_part(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]
