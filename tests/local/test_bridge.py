"""The bridge on real queues: SQS to Pub/Sub and back through the deployed handlers, with exact counts in and out."""

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import grpc
import pytest
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from functions import settings
from functions.bridge.carriers import SQS_MESSAGES, BridgeQueue, BridgeTopic
from functions.bridge.carry import Outcome, QueueToTopic, TopicToQueue
from functions.bridge.parcel import IDENTITY, ORIGIN, from_pubsub
from functions.bridge.window import Window
from functions.gathering import Gathering
from functions.settings import Site
from functions.stores.clients import Clients
from functions.stores.errors import StoreUnavailableError
from local.ground.client import GroundClient
from local.names import Cloud, FaultMode
from tests.local.aws_cloud import wait_for
from tests.local.replication_sites import sdk_variables, variables

PROJECT = "lifeboat-test"
ARN = "arn:aws:sqs:us-east-1:123456789012"


class Ends:
    """Two queues, a topic and a subscription, and the bridge's two functions over them."""

    def __init__(self, ground: GroundClient, name: str, fifo: bool) -> None:
        self.sqs = boto3.client("sqs")
        end = ".fifo" if fifo else ""
        kind = {"FifoQueue": "true"} if fifo else {}
        self.dead = self.sqs.create_queue(QueueName=f"{name}-dead{end}", Attributes=kind)["QueueUrl"]
        redrive = json.dumps({"deadLetterTargetArn": f"{ARN}:{name}-dead{end}", "maxReceiveCount": 50})
        made = {
            purpose: self.sqs.create_queue(
                QueueName=f"{name}-{purpose}{end}", Attributes={**kind, "RedrivePolicy": redrive}
            )["QueueUrl"]
            for purpose in ("outgoing", "incoming")
        }
        self.name, self.end, self.outgoing, self.incoming = name, end, made["outgoing"], made["incoming"]
        self.topic = f"projects/{PROJECT}/topics/{name}"
        self._subscription = f"projects/{PROJECT}/subscriptions/{name}"
        channel = grpc.insecure_channel(ground.endpoints.pubsub)
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self._subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        self.publisher.create_topic(name=self.topic)
        self._subscriber.create_subscription(
            request={"name": self._subscription, "topic": self.topic, "enable_message_ordering": True}
        )
        environment = {**sdk_variables(ground), settings.SITE: "aws"}
        self.clients = Clients(settings.read(environment), environment)
        self.calls = 0
        topic: BridgeTopic = self.clients.bridge_topic(self.topic)
        self.to_topic = QueueToTopic(Site.AWS, self.clients.sources, _Counting(topic, self), Window(), lambda: 0)
        queue: BridgeQueue = self.clients.bridge_queue(self.incoming)
        self.sends = 0

        def send(entries: Any) -> Any:
            self.sends += 1
            return queue.send(entries)

        self.to_queue = TopicToQueue(Site.GCP, queue.fifo, Gathering(send, SQS_MESSAGES), Window(), lambda: 0)

    def receive(self, url: str, most: int = 10) -> list[dict[str, Any]]:
        """Take messages off a queue in the shape in which Lambda hands them to a function."""
        found = self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=most, AttributeNames=["All"], MessageAttributeNames=["All"]
        )
        return [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {
                    name: {
                        "dataType": value["DataType"],
                        **({"stringValue": value["StringValue"]} if "StringValue" in value else {}),
                        **(
                            {"binaryValue": base64.b64encode(value["BinaryValue"]).decode()}
                            if "BinaryValue" in value
                            else {}
                        ),
                    }
                    for name, value in message.get("MessageAttributes", {}).items()
                },
                "eventSourceARN": f"{ARN}:{url.rpartition('/')[2]}",
            }
            for message in found.get("Messages", [])
        ]

    def carry(self) -> dict[str, int]:
        """Feed the function until the queue is empty, as an event source mapping does; return the outcomes."""
        total: dict[str, int] = {}
        while records := self.receive(self.outgoing):
            result = self.to_topic.run(records)
            for record in records:
                if record["messageId"] not in result.failed:
                    self.sqs.delete_message(QueueUrl=self.outgoing, ReceiptHandle=record["receiptHandle"])
            for outcome, count in result.outcomes.items():
                total[outcome] = total.get(outcome, 0) + count
        return total

    def pushes(self) -> list[dict[str, Any]]:
        """Take what lies on the topic, as bodies of a push."""
        bodies = []
        while True:
            request = {"subscription": self._subscription, "max_messages": 1_000, "return_immediately": True}
            found = self._subscriber.pull(request=request).received_messages
            if not found:
                return bodies
            self._subscriber.acknowledge(subscription=self._subscription, ack_ids=[each.ack_id for each in found])
            bodies += [
                {
                    "message": {
                        "data": base64.b64encode(each.message.data).decode(),
                        "attributes": dict(each.message.attributes),
                        "messageId": each.message.message_id,
                        "orderingKey": each.message.ordering_key,
                    }
                }
                for each in found
            ]


class _Counting:
    def __init__(self, topic: BridgeTopic, ends: Ends) -> None:
        self._topic, self._ends = topic, ends

    def publish(self, messages: Any) -> None:
        self._ends.calls += 1
        self._topic.publish(messages)


@pytest.fixture
def make(ground: GroundClient, request: pytest.FixtureRequest) -> Iterator[Callable[[bool], Ends]]:
    name = f"bridge-{abs(hash(request.node.name)) % 10**8}-{os.getpid()}"
    with variables(sdk_variables(ground)):
        yield lambda fifo: Ends(ground, name, fifo)


def test_a_hundred_messages_go_over_in_ten_calls_and_none_twice(make: Callable[[bool], Ends]) -> None:
    ends = make(False)
    for batch in range(10):
        entries = [
            {
                "Id": str(number),
                "MessageBody": f"body {batch}-{number} ü",
                "MessageAttributes": {
                    "color": {"DataType": "String", "StringValue": "blue"},
                    "size": {"DataType": "Number", "StringValue": "42"},
                    "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
                },
            }
            for number in range(10)
        ]
        ends.sqs.send_message_batch(QueueUrl=ends.outgoing, Entries=entries)
    outcomes = ends.carry()
    assert outcomes == {**dict.fromkeys(Outcome, 0), Outcome.CARRIED: 100}
    assert ends.calls <= 12
    pushed = [from_pubsub(body, Site.GCP) for body in ends.pushes()]
    assert len(pushed) == 100 and len({parcel.identity for parcel in pushed}) == 100
    assert {parcel.data.decode() for parcel in pushed} == {f"body {b}-{n} ü" for b in range(10) for n in range(10)}
    assert all(parcel.origin is Site.AWS and parcel.types["size"] == "Number" for parcel in pushed)
    assert base64.b64decode(pushed[0].attributes["raw"]) == b"\x00\xff"


def test_a_topics_messages_reach_the_queue_in_shared_calls_and_ours_do_not_come_back(
    make: Callable[[bool], Ends],
) -> None:
    ends = make(False)
    ends.sqs.send_message(QueueUrl=ends.outgoing, MessageBody="ours")
    ends.carry()
    messages = [{"data": f"theirs {number}".encode(), "attributes": {"n": str(number)}} for number in range(60)]
    messages.append({"data": b"\x00\x01\xff", "attributes": {}})
    ends.publisher.publish(topic=ends.topic, messages=messages)
    bodies = ends.pushes()
    assert len(bodies) == 62
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda body=body: outcomes.append(ends.to_queue.run(from_pubsub(body, Site.GCP))))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (outcomes.count(Outcome.CARRIED), outcomes.count(Outcome.LOOP)) == (61, 1)
    assert ends.sends < 61
    arrived: list[dict[str, Any]] = []
    while found := ends.receive(ends.incoming):
        arrived += found
    assert len(arrived) == 61
    assert all(each["messageAttributes"][ORIGIN]["stringValue"] == "gcp" for each in arrived)
    assert len({each["messageAttributes"][IDENTITY]["stringValue"] for each in arrived}) == 61
    again = [ends.to_queue.run(from_pubsub(body, Site.GCP)) for body in bodies]
    assert again.count(Outcome.REPEAT) == 61


def test_keys_keep_their_order_over_fifo_queues_both_ways(make: Callable[[bool], Ends]) -> None:
    ends = make(True)
    for number in range(20):
        ends.sqs.send_message(
            QueueUrl=ends.outgoing,
            MessageBody=str(number),
            MessageGroupId=f"user-{number % 2}",
            MessageDeduplicationId=f"d{number}",
        )
    assert ends.carry()[Outcome.CARRIED] == 20
    bodies = ends.pushes()
    by_key: dict[str, list[int]] = {}
    for body in bodies:
        parcel = from_pubsub(body, Site.GCP)
        by_key.setdefault(parcel.key, []).append(int(parcel.data))
    assert by_key == {"user-0": list(range(0, 20, 2)), "user-1": list(range(1, 20, 2))}
    for body in bodies:
        # As if they were the other side's own.
        body["message"]["attributes"][ORIGIN] = "gcp"
        assert ends.to_queue.run(from_pubsub(body, Site.GCP)) is Outcome.CARRIED
        # A repeat from another process, whose window knows nothing: the queue's own window takes it once.
        fresh = TopicToQueue(Site.GCP, True, ends.to_queue.sending, Window(), lambda: 0)
        assert fresh.run(from_pubsub(body, Site.GCP)) is Outcome.CARRIED
    arrived: list[dict[str, Any]] = []
    while found := ends.receive(ends.incoming):
        arrived += found
        for each in found:
            ends.sqs.delete_message(QueueUrl=ends.incoming, ReceiptHandle=each["receiptHandle"])
    assert len(arrived) == 20
    order = [int(each["body"]) for each in arrived if each["attributes"]["MessageGroupId"] == "user-0"]
    assert order == list(range(0, 20, 2))


def test_nothing_is_deleted_while_the_other_cloud_is_away_and_all_of_it_goes_over_after(
    ground: GroundClient, make: Callable[[bool], Ends], no_faults: None
) -> None:
    ends = make(False)
    ends.sqs.send_message(QueueUrl=ends.outgoing, MessageBody="kept")
    ground.fault(Cloud.GCP, FaultMode.BLACK_HOLE)
    (record,) = ends.receive(ends.outgoing)
    result = ends.to_topic.run([record])
    assert result.failed == [record["messageId"]]
    ground.restore(Cloud.GCP)
    # The channel tries the cloud again within a second or two.
    wait_for(lambda: ends.to_topic.run([record]).outcomes[Outcome.CARRIED] == 1)
    assert [from_pubsub(body, Site.GCP).data for body in ends.pushes()] == [b"kept"]
    ground.fault(Cloud.AWS, FaultMode.BLACK_HOLE)
    with pytest.raises(StoreUnavailableError):
        ends.to_queue.run(from_pubsub({"message": {"messageId": "1", "data": ""}}, Site.GCP))


def test_what_can_never_pass_lands_on_the_dead_letter_queue_with_its_reason(make: Callable[[bool], Ends]) -> None:
    ends = make(False)
    long = {"DataType": "String", "StringValue": "v" * 2_000}
    ends.sqs.send_message(QueueUrl=ends.outgoing, MessageBody="bad", MessageAttributes={"long": long})
    ends.sqs.send_message(QueueUrl=ends.outgoing, MessageBody="good")
    outcomes = ends.carry()
    assert (outcomes[Outcome.CARRIED], outcomes[Outcome.PARKED]) == (1, 1)
    (dead,) = ends.receive(ends.dead)
    assert dead["body"] == "bad" and "allowed 1024" in dead["messageAttributes"]["reason"]["stringValue"]
    assert len(ends.pushes()) == 1
