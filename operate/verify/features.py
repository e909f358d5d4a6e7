"""Parity of the feature tables: both sides scanned, digests compared, what differs looked at again until it settles.

Nothing is changed. A row that is on its way between the sites while the tables are scanned is no divergence: a key counts only if
it still differs after the paths had time to bring it.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from functions.features.reconcile.reconciler import Reconciler, Report
from functions.features.reconcile.steps import PLAIN_WRITERS
from functions.features.reconcile.survey import FreePace, MemoryShelf, Run, Survey
from functions.features.version import written_ms
from functions.parking import PREFIX
from functions.settings import Site
from functions.stores.clients import Clients
from operate.output import Progress
from operate.verify.parity import SideParity, StoreParity
from service import heartbeat

# How long a row may take to be on both sides before it counts as a divergence, in five looks.
SETTLE_SECONDS = 2.0
_PARKED_KIND = "features"


def verify_features(clients: Clients, clock_ms: Callable[[], int], tell: Progress) -> StoreParity:
    """Compare both sides' feature tables. Raises the stores' errors.

    A side's lag is the age of the peer's newest heartbeat there.
    """
    began = time.monotonic()
    now_ms = clock_ms()
    run = Run(str(now_ms), now_ms // 1000)
    surveys = {site: Survey(site, clients.feature_table(site), MemoryShelf(), run) for site in Site}
    tell("both feature tables are scanned")
    with ThreadPoolExecutor(len(surveys)) as pool:
        list(pool.map(lambda survey: survey.scan(FreePace(), lambda: False), surveys.values()))
    tell("digests are compared")
    wait = lambda: time.sleep(SETTLE_SECONDS / 5)  # noqa: E731 - the rounds are the condition, this is their pace
    report = Reconciler(surveys, None, clock_ms, wait, PLAIN_WRITERS, repair=False).run()
    sides = {site.value: _side(site, report, clients, clock_ms) for site in Site}
    # What holds no envelope can't be compared, so it is a divergence too.
    equal = report.equal and not any(side.unreadable for side in sides.values())
    return StoreParity(
        "features", equal, sides, len(report.unsettled), report.unsettled, round(time.monotonic() - began, 2)
    )


def _side(site: Site, report: Report, clients: Clients, clock_ms: Callable[[], int]) -> SideParity:
    beat = clients.rows(site).read([heartbeat.key(site.peer)]).get(heartbeat.key(site.peer))
    lag_ms = None if beat is None else max(0, clock_ms() - written_ms(beat.version))
    parked = sum(1 for _ in clients.objects(site).list(f"{PREFIX}/{_PARKED_KIND}/"))
    survey = report.surveys[site]
    return SideParity(report.rows[site], survey.tombstones, report.digests[site], survey.unreadable, lag_ms, parked)
