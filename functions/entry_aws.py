"""The Lambda functions: decode the event, call the room that does the work, encode the answer. No more.

Clients live as long as the process; each function loads only what its own work needs.
"""

import os
import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from functions import batch, settings, telemetry
from functions.events import created_keys
from functions.settings import Settings
from functions.stores.clients import Clients

telemetry.configure()


@cache
def _clients(*required: str) -> tuple[Settings, Clients]:
    found = settings.read(os.environ, required)
    return found, Clients(found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def artifact_plan(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle SQS messages with S3 notifications of manifests and aliases."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_JOBS_QUEUE)
    from functions.artifacts.announce import Announcer

    announcer = Announcer(
        site=found.site,
        here=clients.objects(found.site),
        there=clients.objects(found.site.peer),
        jobs=clients.queue(found.artifact_jobs_queue),
        chunk_bytes=found.chunk_bytes,
    )

    def handle(body: str) -> None:
        for key in created_keys(body):
            announcer.run(key)

    return batch.run(event, handle, clients.sources)


def artifact_encode(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle SQS messages with chunk jobs."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.REBUILD_TOPIC)
    from functions.artifacts.encode import encode_chunk
    from functions.artifacts.plan import decode_chunk_job

    here, there = clients.objects(found.site), clients.objects(found.site.peer)
    topic = clients.topic(found.rebuild_topic)

    def handle(body: str) -> None:
        job = decode_chunk_job(body)
        started = time.monotonic()
        sent = encode_chunk(here, there, topic, job)
        telemetry.emit(
            found.metrics_namespace,
            {"site": found.site, "path": "artifacts", "step": "encode"},
            {
                "bytes_raw": (sent.bytes_raw, "Bytes"),
                "bytes_wire": (sent.bytes_wire, "Bytes"),
                "seconds": (time.monotonic() - started, "Seconds"),
            },
        )

    return batch.run(event, handle, clients.sources)


def features_apply(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle a batch of the feature table's change stream; answers with the first sequence number to send again from."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.FEATURE_TABLES)
    from functions.features.apply import FeatureApplier
    from functions.features.metrics import report
    from functions.parking import ObjectParkingLot

    applier = FeatureApplier(
        site=found.site,
        home=clients.adopting_rows,
        far=clients.rows(found.site.peer),
        parking=ObjectParkingLot(clients.objects(found.site), "features"),
        clock_ms=_now_ms,
    )
    result = applier.run(event.get("Records", ()))
    report(found.metrics_namespace, found.site, result)
    return {"batchItemFailures": [] if result.failed is None else [{"itemIdentifier": result.failed}]}
