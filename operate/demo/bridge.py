"""Messages over the bridge, both ways: sent by programs that know only their own cloud's queue, and received as such."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from google.pubsub_v1.types import pubsub

from functions.bridge.carriers import SQS_MESSAGES, BridgeTopic
from functions.bridge.parcel import ORIGIN, Outgoing
from functions.errors import FunctionError
from functions.settings import Site
from functions.stores.clients import Clients
from functions.stores.queues import sqs_errors
from functions.stores.wire import open_channel, rpc_errors
from operate.demo.writers import BACK_OFF_SECONDS
from operate.report.result import LagSample

# A listener of its own beside the bridge's: what any other program of the topic would see.
LISTENER = "demo-listener"
CALL_SECONDS = 5.0
# A long poll would answer when the wait is over and not when a message comes: that is the local queue's way.
LOOK_SECONDS = 0.05
PULLED = 100


@dataclass(frozen=True)
class Sent:
    """A message that its cloud's queue took, and when (monotonic seconds)."""

    identity: str
    site: Site
    at: float


class BridgeTraffic:
    """Sends some messages a second from either cloud, and receives at both ends, from threads of its own."""

    def __init__(self, clients: Clients, ends: Mapping[str, str], pubsub_address: str, per_second: int) -> None:
        self._sqs = clients.aws("sqs")
        self._ends = ends
        self._topic = clients.bridge_topic(ends["topic"])
        self._google = _Listener(pubsub_address, ends["topic"])
        self._per_second = per_second
        self._numbers = count(1)
        self._stop = threading.Event()
        self._paused: set[Site] = set()
        self._lock = threading.Lock()
        self.sent: dict[str, Sent] = {}
        self._arrived: dict[str, list[float]] = {}
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (
                ("bridge-sender", self._send_all),
                ("bridge-aws-end", lambda: self._receive(self._from_sqs)),
                ("bridge-gcp-end", lambda: self._receive(self._google.take)),
            )
        ]

    def start(self) -> None:
        """Begin to listen, then to send."""
        self._google.make()
        for thread in self._threads:
            thread.start()

    def pause(self, *sites: Site) -> None:
        """Let programs of these sites, and of no others, send nothing."""
        self._paused = set(sites)

    def stop(self) -> None:
        """Stop sending and listening."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def waiting(self, site: Site | None = None) -> list[Sent]:
        """Return the messages, of one site or all, that have not come out at the other end."""
        with self._lock:
            return [
                each for each in self.sent.values() if site in (None, each.site) and each.identity not in self._arrived
            ]

    def repeats(self) -> int:
        """Return how many messages came out more than once, as both clouds' queues allow."""
        with self._lock:
            return sum(len(times) - 1 for times in self._arrived.values())

    def lags(self, began: float, site: Site) -> list[LagSample]:
        """Return how long each message of a site took."""
        with self._lock:
            return [
                LagSample(second=each.at - began, lag_ms=round((self._arrived[each.identity][0] - each.at) * 1000, 2))
                for each in self.sent.values()
                if each.site is site and each.identity in self._arrived
            ]

    def _send_all(self) -> None:
        while not self._stop.wait(1.0):
            for site in Site:
                if site not in self._paused:
                    try:
                        self._send(site)
                    except FunctionError:
                        continue

    def _send(self, site: Site) -> None:
        identities = [f"{site}-{next(self._numbers)}" for _ in range(self._per_second)]
        if site is Site.AWS:
            for begin in range(0, len(identities), SQS_MESSAGES):
                entries = [
                    {"Id": str(place), "MessageBody": json.dumps({"id": identity})}
                    for place, identity in enumerate(identities[begin : begin + SQS_MESSAGES])
                ]
                with sqs_errors(f"queue {self._ends['outgoing']}"):
                    self._sqs.send_message_batch(QueueUrl=self._ends["outgoing"], Entries=entries)
        else:
            self._topic.publish([Outgoing(json.dumps({"id": identity}).encode(), {}, "") for identity in identities])
        now = time.monotonic()
        with self._lock:
            self.sent |= {identity: Sent(identity, site, now) for identity in identities}

    def _receive(self, take: Callable[[], Iterator[str]]) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                for identity in take():
                    with self._lock:
                        self._arrived.setdefault(identity, []).append(time.monotonic())
            except FunctionError:
                # The end's cloud is away.
                self._stop.wait(BACK_OFF_SECONDS)

    def _from_sqs(self) -> Iterator[str]:
        url = self._ends["incoming"]
        with sqs_errors(f"queue {url}"):
            answer = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=SQS_MESSAGES)
            for message in answer.get("Messages", ()):
                yield str(json.loads(message["Body"])["id"])
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


class _Listener:
    """A subscription of the topic, pulled."""

    def __init__(self, address: str, topic: str) -> None:
        self._channel = open_channel(address, BridgeTopic.HOST, None)
        self._topic = topic
        self._name = f"{topic.rpartition('/topics/')[0]}/subscriptions/{LISTENER}"

    def make(self) -> None:
        """Make the subscription: what is published from now on comes."""
        request = pubsub.Subscription.pb(pubsub.Subscription(name=self._name, topic=self._topic))
        self._call("CreateSubscription", request, type(request))

    def take(self) -> Iterator[str]:
        """Yield what came over from AWS, and let it go; programs of the topic's own cloud publish here as well."""
        pull = pubsub.PullRequest.pb(pubsub.PullRequest(subscription=self._name, max_messages=PULLED))
        answer = self._call("Pull", pull, type(pubsub.PullResponse.pb(pubsub.PullResponse())))
        taken = list(answer.received_messages)
        for each in taken:
            if each.message.attributes.get(ORIGIN) == Site.AWS:
                yield str(json.loads(each.message.data)["id"])
        if taken:
            done = pubsub.AcknowledgeRequest.pb(
                pubsub.AcknowledgeRequest(subscription=self._name, ack_ids=[each.ack_id for each in taken])
            )
            from google.protobuf.empty_pb2 import Empty

            self._call("Acknowledge", done, Empty)

    def _call(self, method: str, request: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.Subscriber/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        with rpc_errors(self._name):
            return call(request, timeout=CALL_SECONDS)
