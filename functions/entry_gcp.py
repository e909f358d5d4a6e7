"""The Cloud Run functions: decode the event, call the room that does the work, acknowledge by returning. No more.

A fault that may pass is raised, so the event is delivered again; one that no retry can mend goes to the dead topic with its
reason and is acknowledged.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

import functions_framework
from cloudevents.http.event import CloudEvent
from functions_framework import aio

from functions import settings, telemetry
from functions.errors import PermanentError, TransientError
from functions.events import PubSubMessage, finalized_key, pubsub_message
from functions.parking import park_message
from functions.settings import Settings
from functions.stores.clients import Clients
from functions.telemetry import LOGGER

if TYPE_CHECKING:
    from flask import Request
    from starlette.requests import Request as AsyncRequest

    from functions.bridge.carry import TopicToQueue
    from functions.gathering import AsyncGathering
    from functions.stores.spanner_userdata import SpannerUserData

telemetry.configure()

# Requests that run at once in one instance are hardly more; it bounds what one batch holds in memory.
FEATURE_MESSAGES = 200
# What a message may wait for others that come with it: a read and a round of puts cost more than some messages more in them.
FEATURE_WINDOW_SECONDS = 0.005


@cache
def _clients(*required: str) -> tuple[Settings, Clients]:
    found = settings.read(os.environ, required)
    return found, Clients(found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@functions_framework.cloud_event
def artifact_plan(event: CloudEvent) -> None:
    """Handle the notification that a manifest or alias was written on this site."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_QUEUES)
    from functions.artifacts.steps import announcer

    announce = announcer(found, clients)

    def handle(message: PubSubMessage) -> None:
        key = finalized_key(message)
        if key:
            announce.run(key)

    _or_park(event, found, clients, handle)


@functions_framework.cloud_event
def artifact_encode(event: CloudEvent) -> None:
    """Handle one message that names a batch of a version to send."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_QUEUES)
    from functions.artifacts.steps import sender

    send = sender(found, clients)
    _or_park(event, found, clients, lambda message: send(message.body))


@functions_framework.cloud_event
def artifact_rebuild(event: CloudEvent) -> None:
    """Handle one message that names a pack that has arrived from the other site."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_QUEUES)
    from functions.artifacts.steps import receiver

    receive = receiver(found, clients, _now_ms)
    _or_park(event, found, clients, lambda message: receive(message.body))


@functions_framework.http
def artifact_sweep(request: "Request") -> dict[str, int]:
    """Handle a tick of the schedule: compare the artifacts of both sites and repair what events did not bring about."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_QUEUES)
    from functions.artifacts.steps import sweep

    return asdict(sweep(found, clients, _now_ms))


@functions_framework.cloud_event
def artifact_inbox(event: CloudEvent) -> None:
    """Handle the notification that something was left in this site's inbox."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.SIGNING_KEYS, settings.SIGNING_KEY)
    from functions.artifacts.steps import inbox

    box = inbox(found, clients, _now_ms)

    def handle(message: PubSubMessage) -> None:
        key = finalized_key(message)
        if key:
            box.run(key)

    _or_park(event, found, clients, handle)


# Sixty seconds less than its limit: what is at hand is still finished and written down.
_AUDIT_SECONDS = 420


@functions_framework.http
def artifact_audit(request: "Request") -> dict[str, object]:
    """Handle the daily tick: look at this site's versions, retire and delete what its time is up for."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.SIGNING_KEYS, settings.SIGNING_KEY)
    from functions.artifacts.steps import audit

    ends = time.monotonic() + _AUDIT_SECONDS
    return asdict(audit(found, clients, _now_ms, lambda: time.monotonic() > ends))


@cache
def _feature_messages() -> "AsyncGathering[PubSubMessage, bool]":
    """Return what joins concurrent requests into batches; it answers whether a message is done with."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.FEATURE_TABLES)
    from functions.features.apply import FeatureApplier
    from functions.features.metrics import report
    from functions.features.policies.rows import target
    from functions.features.policies.rules import parse_policies
    from functions.features.reconcile.steps import watermark
    from functions.features.reread.apply import RereadApplier
    from functions.gathering import AsyncGathering
    from functions.parking import ObjectParkingLot

    peer = found.site.peer
    applier = RereadApplier(
        FeatureApplier(
            site=found.site,
            home=clients.home_rows(found.site),
            far=target(clients.feature_table(peer), peer, parse_policies(found.feature_policies), _now_ms),
            parking=ObjectParkingLot(clients.objects(found.site), "features"),
            clock_ms=_now_ms,
        )
    )

    mark = watermark(found.site, clients, _now_ms)

    def work(messages: Sequence[PubSubMessage]) -> list[bool]:
        mark.check()
        done = applier.run(messages)
        if not done.failed:
            mark.advance()
        report(found.metrics_namespace, found.site, done.result)
        return [message.identity not in done.failed for message in messages]

    return AsyncGathering(work, FEATURE_MESSAGES, FEATURE_WINDOW_SECONDS)


@aio.http
async def features_apply(request: "AsyncRequest") -> tuple[str, int]:
    """Handle one change of the feature table, as the change stream's template tells it through a push subscription.

    Served by an event loop and not by threads: a message is a request, and the framework's other server takes a millisecond of
    processor time for each.
    """
    message = pubsub_message(await request.body())
    # Not an exception: a store that is away fails thousands of these, and each would log its stack.
    return ("", 204) if await _feature_messages().submit(message) else ("not applied, to be sent again", 503)


@functions_framework.http
def redis_forward(request: "Request") -> dict[str, object]:
    """Handle a tick of the schedule: carry what changes in this site's Redis into its table."""
    found, clients = _clients(settings.FEATURE_TABLES, settings.REDIS)
    from functions.features.redis.call import call

    return call(found, clients, _now_ms, request.get_json(force=True, silent=True) or {})


@cache
def _bridge_to_queue() -> "TopicToQueue":
    found, clients = _clients(settings.BRIDGE_QUEUE)
    from functions.bridge.carriers import SQS_MESSAGES
    from functions.bridge.carry import TopicToQueue
    from functions.bridge.window import Window
    from functions.gathering import Gathering

    queue = clients.bridge_queue(found.bridge_queue)
    return TopicToQueue(found.site, queue.fifo, Gathering(queue.send, SQS_MESSAGES), Window(), _now_ms)


@functions_framework.http
def bridge_to_queue(request: "Request") -> tuple[str, int]:
    """Handle one message that is to be on the other side's queue; requests that run at once share their calls."""
    found, clients = _clients(settings.BRIDGE_QUEUE)
    from functions.bridge.carry import Outcome
    from functions.bridge.parcel import from_pubsub

    body = request.get_data()
    try:
        outcome = _bridge_to_queue().run(from_pubsub(body, found.site))
    except TransientError as error:
        LOGGER.warning("message not carried: %s", error)
        outcome = Outcome.FAILED
    except PermanentError as error:
        LOGGER.error("message parked", extra={"reason": str(error)})
        if not found.dead_topic:
            raise
        # The push itself, as it came: the message's own bytes may be no text.
        park_message(clients.topic(found.dead_topic), body.decode(errors="replace"), {}, str(error))
        outcome = Outcome.PARKED
    telemetry.emit(found.metrics_namespace, {"source": found.site, "path": "bridge"}, {outcome.value: (1, "Count")})
    return ("not carried, to be sent again", 503) if outcome is Outcome.FAILED else ("", 204)


@cache
def _spanner_userdata() -> "SpannerUserData":
    """Return the one Spanner store of this process: its session is made once."""
    _, clients = _clients(settings.USER_DATABASES)
    from functions.userdata.schema import REFERENCE_TABLES

    return clients.spanner(REFERENCE_TABLES, _now_ms)


@functions_framework.http
def userdata_apply(request: "Request") -> tuple[str, int]:
    """Handle one change record of the user database, as the change stream's template tells it through a push subscription."""
    found, clients = _clients(settings.USER_DATABASES)
    from functions.userdata.arrive import ArrivalApplier, demand_settled
    from functions.userdata.handle import report
    from functions.userdata.schema import REFERENCE_TABLES

    home = clients.aurora(REFERENCE_TABLES)
    applier = ArrivalApplier(found.site.peer, home, _spanner_userdata(), REFERENCE_TABLES, _now_ms)
    message = pubsub_message(request.get_data())
    try:
        arrived = applier.run(message.body)
        report(found.metrics_namespace, found.site, arrived.counts(), arrived.lags_ms)
        demand_settled(arrived)
    except TransientError as error:
        # Not an exception: a store that is away fails thousands of these, and each would log its stack.
        LOGGER.warning("change not applied: %s", error)
        return "not applied, to be sent again", 503
    except PermanentError as error:
        LOGGER.error("message parked", extra={"key": message.identity, "reason": str(error)})
        if not found.dead_topic:
            raise
        park_message(clients.topic(found.dead_topic), message.body, message.attributes, str(error))
    return "", 204


# Cloud Scheduler waits 30 minutes at most for an HTTP target; a turn that ran so long ends in order, and the next goes on.
_RECONCILE_SECONDS = 20 * 60


@functions_framework.http
def features_reconcile(request: "Request") -> tuple[dict[str, object], int]:
    """Take this site's turn in reconciling the feature tables, as its clock asks for it."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.FEATURE_TABLES)
    from functions.features.reconcile.steps import tell, turn

    ends = time.monotonic() + _RECONCILE_SECONDS
    phase, report = turn(found, clients, _now_ms).run(lambda: time.monotonic() > ends)
    return tell(found.metrics_namespace, found.site, phase, report), 200


def _or_park(event: CloudEvent, found: Settings, clients: Clients, handle: Callable[[PubSubMessage], None]) -> None:
    message = PubSubMessage("", "", {})
    try:
        message = pubsub_message(event.get_data())
        handle(message)
    except PermanentError as error:
        LOGGER.error("message parked", extra={"key": message.identity, "reason": str(error)})
        if not found.dead_topic:
            # Nowhere to park: the subscription's own dead letter policy is the last place that takes it.
            raise
        park_message(clients.topic(found.dead_topic), message.body, message.attributes, str(error))
