"""The Cloud Run functions: decode the event, call the room that does the work, acknowledge by returning. No more.

A fault that may pass is raised, so the event is delivered again; one that no retry can mend goes to the dead topic with its
reason and is acknowledged.
"""

import os
import time
from collections.abc import Callable
from functools import cache

import functions_framework
from cloudevents.http.event import CloudEvent

from functions import settings, telemetry
from functions.errors import PermanentError
from functions.events import PubSubMessage, finalized_key, pubsub_message
from functions.parking import park_message
from functions.settings import Settings
from functions.stores.clients import Clients
from functions.telemetry import LOGGER

telemetry.configure()


@cache
def _clients(*required: str) -> tuple[Settings, Clients]:
    found = settings.read(os.environ, required)
    return found, Clients(found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@functions_framework.cloud_event
def artifact_rebuild(event: CloudEvent) -> None:
    """Handle one pack that has arrived from the other site."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS)
    from functions.artifacts.plan import decode_rebuild_job
    from functions.artifacts.rebuild import Rebuilder

    rebuilder = Rebuilder(clients.objects(found.site), _now_ms)

    def handle(message: PubSubMessage) -> None:
        job = decode_rebuild_job(message.body)
        started = time.monotonic()
        done = rebuilder.run(job)
        telemetry.emit(
            found.metrics_namespace,
            {"site": found.site, "path": "artifacts", "step": "rebuild"},
            {
                "completed": (int(done.bytes_raw > 0), "Count"),
                "bytes_raw": (done.bytes_raw, "Bytes"),
                "bytes_wire": (done.bytes_wire, "Bytes"),
                "seconds": (time.monotonic() - started, "Seconds"),
            },
        )

    _or_park(event, found, clients, handle)


@functions_framework.cloud_event
def artifact_verify(event: CloudEvent) -> None:
    """Handle the notification that a manifest has become visible on this site."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS)
    from functions.artifacts.paths import parse_key
    from functions.artifacts.verify import verify

    def handle(message: PubSubMessage) -> None:
        key = finalized_key(message)
        named = parse_key(key) if key else None
        if named is None or named[0] != "manifests":
            return
        _, model, version = named
        receipt = verify(clients.objects(found.site), model, version, site=found.site, clock_ms=_now_ms)
        telemetry.emit(
            found.metrics_namespace,
            {"site": found.site, "path": "artifacts", "step": "verify"},
            {
                "verified": (1, "Count"),
                "bytes_raw": (receipt.bytes_raw, "Bytes"),
                "seconds": (receipt.seconds, "Seconds"),
            },
        )

    _or_park(event, found, clients, handle)


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
