"""What a reconciliation costs: time, and bytes read, for tables of which few rows differ.

Both tables are Bigtable's emulator: DynamoDB's takes some hundred rows a second, and a million would take the better part of an
hour. What a comparison reads and sends does not depend on the store.
"""

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from functions.features.envelope import Envelope, encode
from functions.features.reconcile.reconciler import Reconciler
from functions.features.reconcile.survey import FreePace, MemoryShelf, Run, Survey
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.bigtable import BigtableRows
from functions.stores.protocols import FeatureTable, Row
from functions.stores.wire import open_channel
from operate.bench.features_load import features
from operate.bench.features_paths import Place, make_tables

ROWS = 1_000_000
DIFFERING = 100

_BATCH = 10_000
# Contents that the rows share: what a comparison reads and hashes is as long as if each had its own.
_CONTENTS = 4_096

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ReconcileFigures:
    """One reconciliation: `scan_seconds` is the longer side's, both scanned at once.

    `share_again` is what was read beyond the one scan of each side, rows and documents, over the bytes of both sides' rows.
    """

    rows: int
    differing: int
    row_bytes: int
    scan_seconds: float
    repair_seconds: float
    bytes_scanned: int
    bytes_exchanged: int
    bytes_again: int
    share_again: float
    equal: bool


def measure_reconcile(place: Place, tell: Progress) -> ReconcileFigures:
    """Fill two tables with a million rows, let a hundred differ, and reconcile them."""
    now_ms = time.time_ns() // 1_000_000
    chance = random.Random(5)  # noqa: S311 - a load, not a secret
    contents = [encode(Envelope(features(chance, 0))) for _ in range(_CONTENTS)]
    rows = [
        Row(f"user#{number:09d}", stamp(now_ms - 3_600_000, 0, Site.AWS), contents[number % _CONTENTS])
        for number in range(ROWS)
    ]
    tables: dict[Site, FeatureTable] = {}
    for site in Site:
        at = replace(place, table=replace(place.table, instance=f"reconcile-{site}"))
        make_tables(at)
        tables[site] = BigtableRows(open_channel(at.address, "", None), at.table)
        tell(f"reconciliation: {ROWS:,} rows for site {site}")
        fill(tables[site], rows)
    age(tables, rows, DIFFERING, lambda: now_ms)
    tell(f"reconciliation of {ROWS:,} rows, {DIFFERING} of which differ")
    return measure(tables, DIFFERING, lambda: time.time_ns() // 1_000_000)


def fill(table: FeatureTable, rows: Sequence[Row]) -> None:
    """Bring rows in, in bounded calls."""
    for start in range(0, len(rows), _BATCH):
        table.apply(rows[start : start + _BATCH])


def age(tables: dict[Site, FeatureTable], rows: Sequence[Row], count: int, clock_ms: Callable[[], int]) -> None:
    """Write newer versions of `count` random rows, each on one of the sides alone."""
    chance = random.Random(3)  # noqa: S311 - a load, not a secret
    for row in chance.sample(list(rows), count):
        site = chance.choice(list(Site))
        tables[site].apply([Row(row.key, stamp(clock_ms(), row.version, site), row.envelope)])


def measure(tables: dict[Site, FeatureTable], differing: int, clock_ms: Callable[[], int]) -> ReconcileFigures:
    """Reconcile two tables and return what it took."""
    now_ms = clock_ms()
    run = Run(str(now_ms), now_ms // 1000)
    surveys = {site: Survey(site, tables[site], MemoryShelf(), run) for site in Site}
    began = time.perf_counter()
    with ThreadPoolExecutor(len(surveys)) as pool:
        list(pool.map(lambda survey: survey.scan(FreePace(), lambda: False), surveys.values()))
    scanned = time.perf_counter()
    report = Reconciler(surveys, None, clock_ms, lambda: None).run()
    ended = time.perf_counter()
    if report.differing != differing or report.unsettled:
        raise AssertionError(f"{differing} rows were aged, {report.differing} found, {len(report.unsettled)} left")
    total = sum(summary.bytes_read for summary in report.surveys.values())
    rows = report.rows[Site.AWS]
    return ReconcileFigures(
        rows=rows,
        differing=differing,
        row_bytes=round(total / 2 / rows),
        scan_seconds=round(scanned - began, 2),
        repair_seconds=round(ended - scanned, 2),
        bytes_scanned=total,
        bytes_exchanged=report.bytes_exchanged,
        bytes_again=report.bytes_again,
        share_again=round((report.bytes_exchanged + report.bytes_again) / total, 5),
        equal=report.equal,
    )
