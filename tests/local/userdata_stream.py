"""The way back of user data: the change stream's job in a thread of its own, its topic, and what takes messages off it."""

import asyncio
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.pubsub_v1.types import pubsub as messages

from functions.settings import Site
from functions.userdata.arrive import ArrivalApplier, Arrived
from functions.userdata.schema import CHANGE_STREAM
from local.clouds.gcp.pubsub import PubSub
from local.clouds.gcp.spanner_stream import Parameters, SpannerFaults, SpannerJob
from tests.local.userdata_sites import PROJECT, UserDataSites, now_ms

_numbers = itertools.count(1)


class Subscriber:
    """What takes messages off the topic and applies them, as the function does that a subscription pushes to."""

    def __init__(self, sites: UserDataSites, name: str) -> None:
        self.sites = sites
        self.name = name
        self.topic = f"projects/{PROJECT}/topics/{self.name}"
        self.subscription = f"projects/{PROJECT}/subscriptions/{self.name}"
        channel = grpc.insecure_channel(sites.ground.endpoints.pubsub)
        self._pull = channel.unary_unary(
            "/google.pubsub.v1.Subscriber/Pull",
            messages.PullRequest.pb().SerializeToString,
            messages.PullResponse.pb().FromString,
        )
        self._acknowledge = channel.unary_unary(
            "/google.pubsub.v1.Subscriber/Acknowledge",
            messages.AcknowledgeRequest.pb().SerializeToString,
            lambda data: data,
        )

    def applier(self) -> ArrivalApplier:
        """Return what a function over the topic works with."""
        return ArrivalApplier(Site.AWS, self.sites.home, self.sites.far, self.sites.tables, now_ms)

    def take(self, most: int = 100) -> list[tuple[str, str]]:
        """Return messages with their tickets; they come again until they are acknowledged."""
        request = messages.PullRequest.pb()(subscription=self.subscription, max_messages=most, return_immediately=True)
        found = self._pull(request, timeout=10).received_messages
        return [(item.ack_id, item.message.data.decode()) for item in found]

    def acknowledge(self, tickets: list[str]) -> None:
        """Let messages go."""
        if tickets:
            self._acknowledge(
                messages.AcknowledgeRequest.pb()(subscription=self.subscription, ack_ids=tickets), timeout=10
            )

    def refuse(self, tickets: list[str]) -> None:
        """Have messages delivered again."""
        channel = grpc.insecure_channel(self.sites.ground.endpoints.pubsub)
        modify = channel.unary_unary(
            "/google.pubsub.v1.Subscriber/ModifyAckDeadline",
            messages.ModifyAckDeadlineRequest.pb().SerializeToString,
            lambda data: data,
        )
        modify(
            messages.ModifyAckDeadlineRequest.pb()(
                subscription=self.subscription, ack_ids=tickets, ack_deadline_seconds=0
            ),
            timeout=10,
        )
        channel.close()

    def deliver(self) -> list[Arrived]:
        """Apply what lies on the topic now; what waits is delivered again."""
        applier, results = self.applier(), []
        done, again = [], []
        for ticket, body in self.take():
            arrived = applier.run(body)
            results.append(arrived)
            (again if arrived.waiting else done).append(ticket)
        self.acknowledge(done)
        if again:
            self.refuse(again)
        return results


class Stream(Subscriber):
    """A running job over the sites' change stream, the topic that it publishes to, and a subscription."""

    def __init__(self, sites: UserDataSites, folder: Path, faults: SpannerFaults | None = None) -> None:
        super().__init__(sites, f"changes{next(_numbers)}-{os.getpid()}")
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        channel = grpc.insecure_channel(sites.ground.endpoints.pubsub)
        create = channel.unary_unary(
            "/google.pubsub.v1.Subscriber/CreateSubscription",
            messages.Subscription.pb().SerializeToString,
            messages.Subscription.pb().FromString,
        )
        self._run(PubSub(sites.ground.endpoints.pubsub).ensure_topic(self.topic))
        create(messages.Subscription.pb()(name=self.subscription, topic=self.topic, ack_deadline_seconds=10))
        self.job = self._run(self._make(faults or SpannerFaults()))

    def kill_and_start_again(self) -> None:
        """End the job at once, as a lost worker does, and start another on what it kept."""
        faults = self.job.faults
        self._run(self.job.stop())
        self.job = self._run(self._make(faults))

    def close(self) -> None:
        """End the job."""
        self._run(self.job.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _make(self, faults: SpannerFaults) -> SpannerJob:
        parameters = Parameters(self.sites.spanner_name, CHANGE_STREAM, self.topic)
        endpoints = self.sites.ground.endpoints
        job = SpannerJob(
            parameters, endpoints.spanner, PubSub(endpoints.pubsub), self._folder / f"{self.name}.json", "test"
        )
        job.faults = faults
        job.start()
        return job

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@contextmanager
def streaming(sites: UserDataSites, folder: Path, faults: SpannerFaults | None = None) -> Iterator[Stream]:
    """Run a job for the length of a block."""
    stream = Stream(sites, folder, faults)
    try:
        yield stream
    finally:
        stream.close()
