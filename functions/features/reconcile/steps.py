"""What a scheduled reconciliation is made of: the site's turn out of settings and clients, its watermark, its metric line."""

import time
from collections.abc import Callable, Mapping

from functions import telemetry
from functions.features.policies.rows import target
from functions.features.policies.rules import parse_policies
from functions.features.reconcile.reconciler import Report
from functions.features.reconcile.rule import BIGTABLE_KEEPS_MS, DYNAMODB_KEEPS_MS, Watermark
from functions.features.reconcile.survey import BucketShelf, SteadyPace
from functions.features.reconcile.turn import Phase, Turn
from functions.parking import ObjectParkingLot
from functions.settings import Settings, Site
from functions.stores.clients import Clients

# Programs that know nothing of versions change items of DynamoDB in place and leave the version as it was. In Bigtable a write
# past the library carries the server's own time and shows by that.
PLAIN_WRITERS = frozenset({Site.AWS})
# How long what a site's store tells of its changes waits for a path that does not take it.
KEEPS_MS: Mapping[Site, int] = {Site.AWS: DYNAMODB_KEEPS_MS, Site.GCP: BIGTABLE_KEEPS_MS}


def shelves(clients: Clients) -> dict[Site, BucketShelf]:
    """Return where each site's documents lie."""
    return {site: BucketShelf(clients.objects(site)) for site in Site}


def watermark(site: Site, clients: Clients, clock_ms: Callable[[], int]) -> Watermark:
    """Return the watermark of the path that begins at `site`. It looks at the bucket once a minute, so keep it."""
    return Watermark(BucketShelf(clients.objects(site)), "features", KEEPS_MS[site], clock_ms)


def turn(found: Settings, clients: Clients, clock_ms: Callable[[], int]) -> Turn:
    """Return the turn of the site that these settings are of."""
    tables = {site: clients.feature_table(site) for site in Site}
    policies = parse_policies(found.feature_policies)
    return Turn(
        site=found.site,
        tables=tables,
        targets={site: target(table, site, policies, clock_ms) for site, table in tables.items()},
        shelves=shelves(clients),
        parking=ObjectParkingLot(clients.objects(found.site), "features"),
        clock_ms=clock_ms,
        plain_writers=PLAIN_WRITERS,
        pace=SteadyPace(found.reconcile_rows_per_second, time.monotonic, time.sleep),
    )


def tell(namespace: str, site: Site, phase: Phase, report: Report | None) -> dict[str, object]:
    """Write the metric line of a turn and return what the function answers."""
    if report is None:
        return {"phase": phase.value}
    metrics: dict[str, tuple[float, str]] = {
        "rows": (report.rows[site], "Count"),
        "differing": (report.differing, "Count"),
        "unsettled": (len(report.unsettled), "Count"),
        "parked": (report.parked, "Count"),
        "equal": (int(report.equal), "Count"),
    }
    telemetry.emit(namespace, {"site": site, "path": "reconcile"}, metrics)
    return {
        "phase": phase.value,
        "equal": report.equal,
        "rows": {each.value: count for each, count in report.rows.items()},
        "digests": {each.value: digest for each, digest in report.digests.items()},
        "differing": report.differing,
        "parked": report.parked,
    }
