"""The Lambda functions: decode the event, call the room that does the work, encode the answer. No more.

Clients live as long as the process; each function loads only what its own work needs.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from functions import batch, settings, telemetry
from functions.errors import SettingsError
from functions.events import created_keys
from functions.settings import Settings, Site
from functions.stores.clients import Clients

if TYPE_CHECKING:
    from functions.bridge.window import Window
    from functions.features.reconcile.rule import Watermark
    from functions.stores.spanner_userdata import SpannerUserData


class LambdaContext(Protocol):
    """What the handlers read of Lambda's context object."""

    invoked_function_arn: str

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is left of the function's limit."""


telemetry.configure()

# Work in turns ends this long before the function's limit: what is at hand is still finished and written down.
_RESERVE_MS = 60_000


@cache
def _clients(*required: str) -> tuple[Settings, Clients]:
    found = settings.read(os.environ, required)
    return found, Clients(found)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def artifact_plan(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle SQS messages with S3 notifications of manifests and aliases."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_QUEUES)
    from functions.artifacts.steps import announcer

    announce = announcer(found, clients)

    def handle(body: str) -> None:
        for key in created_keys(body):
            announce.run(key)

    return batch.run(event, handle, clients.sources)


def artifact_encode(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle SQS messages that name batches of versions to send."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_QUEUES)
    from functions.artifacts.steps import sender

    return batch.run(event, sender(found, clients), clients.sources)


def artifact_rebuild(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle SQS messages that name packs that have arrived from the other site."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_QUEUES)
    from functions.artifacts.steps import receiver

    return batch.run(event, receiver(found, clients, _now_ms), clients.sources)


def artifact_sweep(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle a tick of the schedule: compare the artifacts of both sites and repair what events did not bring about."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.ARTIFACT_QUEUES)
    from functions.artifacts.steps import sweep

    return asdict(sweep(found, clients, _now_ms))


def artifact_inbox(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle SQS messages with S3 notifications of what was left in the inbox."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.SIGNING_KEYS, settings.SIGNING_KEY)
    from functions.artifacts.steps import inbox

    box = inbox(found, clients, _now_ms)

    def handle(body: str) -> None:
        for key in created_keys(body):
            box.run(key)

    return batch.run(event, handle, clients.sources)


def artifact_audit(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle the daily tick: look at this site's versions, retire and delete what its time is up for."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.SIGNING_KEYS, settings.SIGNING_KEY)
    from functions.artifacts.steps import audit

    remaining = context.get_remaining_time_in_millis
    return asdict(audit(found, clients, _now_ms, lambda: remaining() < _RESERVE_MS))


def signing_keys(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Answer the program with the public halves of the keys that the event lists by site."""
    _, clients = _clients()
    from functions.artifacts.keys import public_keys

    return public_keys(clients, event)


def third_copy_disposal(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle the stages of a stack's life: when it ends, so does everything in the third copy's bucket."""
    # The provider says under `tf` what is about to happen to the call that this is (`terraform_key` of aws.lambda.Invocation).
    if event.get("tf", {}).get("action") != "delete":
        return {"deleted": 0}
    _, clients = _clients(settings.R2_BUCKET)
    if clients.third is None:
        raise SettingsError("there is no third copy to empty; name its bucket in the environment")
    return {"deleted": clients.third.empty()}


@cache
def _feature_watermark(site: Site, clients: Clients) -> "Watermark":
    from functions.features.reconcile.steps import watermark

    return watermark(site, clients, _now_ms)


def features_apply(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle a batch of the feature table's change stream; answers with the first sequence number to send again from."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.FEATURE_TABLES)
    from functions.features.apply import FeatureApplier
    from functions.features.metrics import report
    from functions.features.policies.rows import target
    from functions.features.policies.rules import parse_policies
    from functions.parking import ObjectParkingLot

    peer = found.site.peer
    applier = FeatureApplier(
        site=found.site,
        home=clients.adopting_rows,
        far=target(clients.feature_table(peer), peer, parse_policies(found.feature_policies), _now_ms),
        parking=ObjectParkingLot(clients.objects(found.site), "features"),
        clock_ms=_now_ms,
    )
    mark = _feature_watermark(found.site, clients)
    mark.check()
    result = applier.run(event.get("Records", ()))
    if result.failed is None:
        mark.advance()
    report(found.metrics_namespace, found.site, result)
    return {"batchItemFailures": [] if result.failed is None else [{"itemIdentifier": result.failed}]}


def features_reconcile(event: Mapping[str, Any], context: LambdaContext) -> dict[str, object]:
    """Take this site's turn in reconciling the feature tables, as its clock asks for it."""
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.FEATURE_TABLES)
    from functions.features.reconcile.steps import tell, turn

    remaining = context.get_remaining_time_in_millis
    phase, report = turn(found, clients, _now_ms).run(lambda: remaining() < _RESERVE_MS)
    return tell(found.metrics_namespace, found.site, phase, report)


def redis_forward(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle a tick of the schedule: carry what changes in this site's Redis into its table."""
    found, clients = _clients(settings.FEATURE_TABLES, settings.REDIS)
    from functions.features.redis.call import call

    return call(found, clients, _now_ms, event)


def feast_apply(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle a batch of the change stream of one of Feast's tables, or {"action": "bootstrap", "table": its name}.

    A batch is answered as `features_apply` does, the first copy of a table with its counts.
    """
    found, clients = _clients(settings.ARTIFACT_BUCKETS, settings.FEATURE_TABLES, settings.FEAST_VIEWS)
    from functions.features.feast.layout import table_of, view_of
    from functions.features.feast.stores import FeastCopy, FeastDynamoRows
    from functions.features.metrics import report
    from functions.parking import ObjectParkingLot

    records, first_copy = event.get("Records", ()), event.get("action") == "bootstrap"
    if not records and not first_copy:
        return {"batchItemFailures": []}
    table = str(event.get("table", "")) if first_copy else table_of(records[0])
    copy = FeastCopy(
        FeastDynamoRows(clients.aws("dynamodb"), table),
        clients.feast_rows(view_of(table, found.feast_views)),
        ObjectParkingLot(clients.objects(found.site), "features"),
        _now_ms,
    )
    if first_copy:
        return {outcome.value: count for outcome, count in copy.bootstrap().items()}
    result = copy.run(records)
    report(found.metrics_namespace, found.site, result)
    return {"batchItemFailures": [] if result.failed is None else [{"itemIdentifier": result.failed}]}


@cache
def _bridge_window() -> "Window":
    from functions.bridge.window import Window

    return Window()


def bridge_to_topic(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Handle SQS messages that are to be on the other side's topic; answers with those that are to come again."""
    found, clients = _clients(settings.BRIDGE_TOPIC)
    from functions.bridge.carry import QueueToTopic

    topic = clients.bridge_topic(found.bridge_topic)
    carry = QueueToTopic(found.site, clients.sources, topic, _bridge_window(), _now_ms)
    result = carry.run(event.get("Records", ()))
    counts: dict[str, tuple[float, str]] = {name.value: (count, "Count") for name, count in result.outcomes.items()}
    telemetry.emit(found.metrics_namespace, {"source": found.site, "path": "bridge"}, counts)
    return {"batchItemFailures": [{"itemIdentifier": identity} for identity in result.failed]}


@cache
def _spanner_userdata() -> "SpannerUserData":
    """Return the one Spanner store of this process: its session is made once."""
    _, clients = _clients(settings.USER_DATABASES)
    from functions.userdata.schema import REFERENCE_TABLES

    return clients.spanner(REFERENCE_TABLES, _now_ms)


def userdata_drain(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Drain the outbox of the user database: called by the database, by the clock, and by the program."""
    found, clients = _clients(settings.USER_DATABASES)
    from functions.userdata.handle import DrainRequests
    from functions.userdata.schema import REFERENCE_TABLES

    home = clients.aurora(REFERENCE_TABLES)
    requests = DrainRequests(clients.data_api, home, _spanner_userdata(), REFERENCE_TABLES, _now_ms)
    remaining_ms = context.get_remaining_time_in_millis()
    return requests.run(event, context.invoked_function_arn, remaining_ms, found.metrics_namespace)
