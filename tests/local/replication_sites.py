"""Fresh buckets, tables, queues and topics on a ground's emulators, and the functions' settings that name them."""

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import grpc
import requests
from google.cloud.bigtable_admin_v2 import BaseBigtableTableAdminClient
from google.cloud.bigtable_admin_v2.services.bigtable_table_admin.transports import BigtableTableAdminGrpcTransport
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from functions import settings
from functions.settings import Settings, Site
from functions.stores.clients import Clients
from functions.stores.s3 import R2Objects
from local.ground.client import GroundClient
from tests.unit.artifacts.signing import pems

PROJECT = "lifeboat-test"
CHUNK_BYTES = 10 << 20
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Sites:
    """Both sites' stores and queues under names that no other test uses."""

    name: str
    environment: Mapping[str, str]
    stream_arn: str

    def settings(self, site: Site) -> Settings:
        return settings.read({**self.environment, settings.SITE: site})

    def clients(self, site: Site) -> Clients:
        return Clients(self.settings(site), self.environment)

    def receive(self, queue: str) -> list[dict[str, Any]]:
        """Take what lies on an SQS queue, in the shape in which Lambda hands it to a function."""
        client = boto3.client("sqs")
        url = client.get_queue_url(QueueName=f"{self.name}-{queue}")["QueueUrl"]
        found = client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
        )
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": message.get("MessageAttributes", {}),
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{self.name}-{queue}",
                "awsRegion": "us-east-1",
            }
            for message in found.get("Messages", [])
        ]

    def delete(self, queue: str, records: list[dict[str, Any]]) -> None:
        """Delete messages as Lambda does with those that a function did not report."""
        client = boto3.client("sqs")
        url = client.get_queue_url(QueueName=f"{self.name}-{queue}")["QueueUrl"]
        for record in records:
            client.delete_message(QueueUrl=url, ReceiptHandle=record["receiptHandle"])

    def pull(self, topic: str) -> list[dict[str, Any]]:
        """Take what lies on a topic, as bodies of a push."""
        with grpc.insecure_channel(self.environment["PUBSUB_EMULATOR_HOST"]) as channel:
            subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
            subscription = f"projects/{PROJECT}/subscriptions/{self.name}-{topic}"
            found = subscriber.pull(subscription=subscription, max_messages=1_000).received_messages
            if found:
                subscriber.acknowledge(subscription=subscription, ack_ids=[message.ack_id for message in found])
        return [
            {
                "message": json.loads(
                    type(message.message).to_json(message.message, preserving_proto_field_name=False)
                ),
                "subscription": subscription,
            }
            for message in found
        ]


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for SDKs and handlers, which read nothing else."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def sdk_variables(ground: GroundClient) -> dict[str, str]:
    return {**ground.environment(), "AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1"}


def make_sites(ground: GroundClient) -> Sites:
    """Make everything both sites need; call it inside `variables(sdk_variables(ground))`."""
    name = f"test{next(_numbers)}-{os.getpid()}"
    urls = _make_queues_and_buckets(ground, name)
    queues = {
        "aws": {"jobs": urls["jobs"], "rebuilds": urls["rebuild"]},
        "gcp": {
            "jobs": f"projects/{PROJECT}/topics/{name}-jobs",
            "rebuilds": f"projects/{PROJECT}/topics/{name}-rebuild",
        },
    }
    stream_arn = _make_dynamodb_table(f"{name}-features")
    _make_bigtable_table(ground, name)
    for topic in ("events", "jobs", "rebuild", "dead"):
        _make_topic(ground, f"{name}-{topic}")
    _make_notifications(ground, name)
    tables = {
        "aws": {"table": f"{name}-features"},
        "gcp": {"project": PROJECT, "instance": name, "table": "features", "app_profile": "replication"},
    }
    environment = {
        **sdk_variables(ground),
        settings.ARTIFACT_BUCKETS: json.dumps({"aws": f"{name}-aws", "gcp": f"{name}-gcp"}),
        settings.FEATURE_TABLES: json.dumps(tables),
        settings.ARTIFACT_QUEUES: json.dumps(queues),
        settings.DEAD_TOPIC: f"projects/{PROJECT}/topics/{name}-dead",
        settings.SIGNING_KEYS: json.dumps(pems()),
        settings.CHUNK_BYTES: str(CHUNK_BYTES),
    }
    return Sites(name, environment, stream_arn)


def r2_objects(ground: GroundClient, sites: Sites) -> R2Objects:
    endpoint = ground.environment()["LIFEBOAT_R2_ENDPOINT"]
    return R2Objects(boto3.client("s3", endpoint_url=endpoint), f"{sites.name}-r2")


def _make_queues_and_buckets(ground: GroundClient, name: str) -> dict[str, str]:
    sqs, s3 = boto3.client("sqs"), boto3.client("s3")
    arn = "arn:aws:sqs:us-east-1:123456789012"
    sqs.create_queue(QueueName=f"{name}-letters")
    redrive = json.dumps({"deadLetterTargetArn": f"{arn}:{name}-letters", "maxReceiveCount": 50})
    urls = {
        queue: sqs.create_queue(QueueName=f"{name}-{queue}", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
        for queue in ("events", "jobs", "rebuild")
    }
    s3.create_bucket(Bucket=f"{name}-aws")
    s3.put_bucket_notification_configuration(
        Bucket=f"{name}-aws",
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "QueueArn": f"{arn}:{name}-events",
                    "Events": ["s3:ObjectCreated:*"],
                    "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}},
                }
                for prefix in ("manifests/", "aliases/")
            ]
        },
    )
    environment = ground.environment()
    boto3.client("s3", endpoint_url=environment["LIFEBOAT_R2_ENDPOINT"]).create_bucket(Bucket=f"{name}-r2")
    url = f"{environment['STORAGE_EMULATOR_HOST']}/storage/v1/b?project={PROJECT}"
    requests.post(url, json={"name": f"{name}-gcp"}, timeout=10).raise_for_status()
    return urls


def _make_notifications(ground: GroundClient, name: str) -> None:
    url = f"{ground.environment()['STORAGE_EMULATOR_HOST']}/storage/v1/b/{name}-gcp/notificationConfigs"
    for prefix in ("manifests/", "aliases/"):
        body = {
            "topic": f"//pubsub.googleapis.com/projects/{PROJECT}/topics/{name}-events",
            "payload_format": "JSON_API_V1",
            "event_types": ["OBJECT_FINALIZE"],
            "object_name_prefix": prefix,
        }
        requests.post(url, json=body, timeout=10).raise_for_status()


def _make_dynamodb_table(name: str) -> str:
    arn: str = boto3.client("dynamodb").create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": settings.FEATURE_KEY, "AttributeType": "S"}],
        KeySchema=[{"AttributeName": settings.FEATURE_KEY, "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )["TableDescription"]["LatestStreamArn"]
    return arn


def _make_bigtable_table(ground: GroundClient, instance: str) -> None:
    with grpc.insecure_channel(ground.environment()["BIGTABLE_EMULATOR_HOST"]) as channel:
        admin = BaseBigtableTableAdminClient(transport=BigtableTableAdminGrpcTransport(channel=channel))
        families = {settings.FEATURE_FAMILY: {"gc_rule": {"max_num_versions": 1}}}
        admin.create_table(
            parent=f"projects/{PROJECT}/instances/{instance}", table_id="features", table={"column_families": families}
        )


def _make_topic(ground: GroundClient, name: str) -> None:
    with grpc.insecure_channel(ground.environment()["PUBSUB_EMULATOR_HOST"]) as channel:
        topic = f"projects/{PROJECT}/topics/{name}"
        PublisherClient(transport=PublisherGrpcTransport(channel=channel)).create_topic(name=topic)
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        subscriber.create_subscription(name=f"projects/{PROJECT}/subscriptions/{name}", topic=topic)
