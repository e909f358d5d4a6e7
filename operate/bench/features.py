"""How fast rows come from stream records into Bigtable, beside the official client and the seed article's code, and how it grows.

Same rows, same run, medians. The emulator stands for Bigtable and runs on the same cores, so what is measured is the code of the
path and never Google's service; docs/features.md says what a real one adds.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from functions.settings import BigtableTable, Site
from local.supervisor import ProcessSpec, Supervisor, TcpProbe
from local.toolchain import find
from operate.bench.features_lag import LagFigures, measure_lag
from operate.bench.features_load import Load
from operate.bench.features_paths import OFFICIAL, Place, Way, make_tables
from operate.bench.features_reconcile import ReconcileFigures, measure_reconcile
from operate.bench.features_workers import Crew, crew
from operate.host import host
from operate.report.result import Host

RUNS = 3
ROWS = 40_000
BATCH = 1_000
# The official client and the article are slower by one and two orders: they are given as much time, not as many rows.
OFFICIAL_ROWS = 10_000
ARTICLE_ROWS = 200
PROCESSES = 2
SEED = 11

GROWTH_ROWS = 20_000
BATCH_SIZES = (1, 10, 100, 1_000, 10_000)
VALUE_BYTES = (0, 1_024, 4_096, 16_384)
# Of as many rows as keys nearly every one is another; of ten keys a batch comes down to ten.
SKEWED_KEYS = (0, 1_000, 10)

Progress = Callable[[str], None]
Found = TypeVar("Found")


@dataclass(frozen=True)
class GrowthPoint:
    """Rows a second at one setting of one thing, the others as in the main figure."""

    varied: str
    setting: int
    rows_s: int


@dataclass(frozen=True)
class FeaturesBench:
    """Medians. `rows_s`: twelve plain features brought into canonical form; `sealed_rows_s`: rows of the client library.

    Beside each stands what the official client's best way made of the same rows (operate/bench/features_paths.py says how), and
    how many times as fast ours is; `official_by_way` has all of its ways with plain features. `lag_ms` is of rows written at aws,
    `lag_back_ms` of rows written at gcp.
    """

    rows: int
    rows_s: int
    official_client_rows_s: int
    times_official: float
    seed_article_rows_s: int
    times_article: float
    sealed_rows_s: int
    official_sealed_rows_s: int
    times_official_sealed: float
    official_by_way: Mapping[str, int]
    cpu_us_a_row: float
    processes: int
    lag_ms: LagFigures | None
    lag_back_ms: LagFigures | None
    reconcile: ReconcileFigures | None
    growth: tuple[GrowthPoint, ...]
    host: Host


def run(runs: int, tell: Progress, *, lag: bool = True, reconcile: bool = True, growth: bool = True) -> FeaturesBench:
    """Measure. `lag` brings up the local stack, and `reconcile` fills two tables with a million rows: a minute more each."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-bench-") as folder:
        found = asyncio.run(_with_emulator(Path(folder), lambda place: _speeds(place, runs, tell, growth)))
        if reconcile:
            # An emulator of its own: what the speeds left behind is gone, and its memory with it.
            told = asyncio.run(_with_emulator(Path(folder), lambda place: measure_reconcile(place, tell)))
            found = replace(found, reconcile=told)
        lags = measure_lag(Path(folder) / "ground", tell) if lag else {}
    return replace(found, lag_ms=lags.get(Site.AWS), lag_back_ms=lags.get(Site.GCP))


async def _with_emulator(folder: Path, measure: Callable[[Place], Found]) -> Found:
    program = str(find("bigtabled"))
    async with Supervisor(folder) as supervisor:
        _, port = await supervisor.start_on_free_port(
            lambda port: ProcessSpec("bigtabled", (program, "-port", str(port)), TcpProbe(port))
        )
        place = Place(f"127.0.0.1:{port}", BigtableTable("bench", "bench", "features", "replication"))
        make_tables(place)
        return await asyncio.to_thread(measure, place)


def _speeds(place: Place, runs: int, tell: Progress, growth: bool) -> FeaturesBench:
    with crew(place, PROCESSES) as workers:
        loads = {
            Way.OURS: Load(ROWS, SEED),
            **{way: Load(OFFICIAL_ROWS, SEED) for way in OFFICIAL},
            Way.ARTICLE: Load(ARTICLE_ROWS, SEED),
        }
        plain: dict[Way, list[float]] = {way: [] for way in loads}
        sealed: dict[Way, list[float]] = {way: [] for way in (Way.OURS, *OFFICIAL)}
        cpu = []
        for number in range(1, runs + 1):
            # All ways in each run: a machine that slows down slows them alike.
            for way, load in loads.items():
                tell(f"ways into Bigtable, run {number} of {runs}; {way}, plain features")
                speed = workers.measure(way, replace(load, seed=SEED + number), BATCH)
                plain[way].append(speed.rows_s)
                cpu += [speed.cpu_us_a_row] if way is Way.OURS else []
            for way, speeds in sealed.items():
                tell(f"ways into Bigtable, run {number} of {runs}; {way}, rows of the client library")
                speeds.append(workers.measure(way, replace(loads[way], seed=SEED + number, sealed=True), BATCH).rows_s)
        points = tuple(_growth(workers, runs, tell)) if growth else ()
    ours, ours_sealed = statistics.median(plain[Way.OURS]), statistics.median(sealed[Way.OURS])
    by_way = {way: statistics.median(plain[way]) for way in OFFICIAL}
    official, official_sealed = max(by_way.values()), max(statistics.median(sealed[way]) for way in OFFICIAL)
    article = statistics.median(plain[Way.ARTICLE])
    return FeaturesBench(
        rows=ROWS,
        rows_s=round(ours),
        official_client_rows_s=round(official),
        times_official=round(ours / official, 1),
        seed_article_rows_s=round(article),
        times_article=round(ours / article, 1),
        sealed_rows_s=round(ours_sealed),
        official_sealed_rows_s=round(official_sealed),
        times_official_sealed=round(ours_sealed / official_sealed, 1),
        official_by_way={way.value: round(speed) for way, speed in by_way.items()},
        cpu_us_a_row=round(statistics.median(cpu), 1),
        processes=PROCESSES,
        lag_ms=None,
        lag_back_ms=None,
        reconcile=None,
        growth=points,
        host=host(),
    )


def as_json(found: FeaturesBench) -> dict[str, object]:
    """Return what `bench features --json` writes."""
    return {**asdict(found), "host": found.host.model_dump()}


def _growth(workers: Crew, runs: int, tell: Progress) -> list[GrowthPoint]:
    points = [("batch_rows", size, Load(GROWTH_ROWS if size > 10 else 2_000, SEED), size) for size in BATCH_SIZES]
    points += [
        ("extra_bytes", size, Load(GROWTH_ROWS if size <= 4_096 else 4_000, SEED, extra_bytes=size), BATCH)
        for size in VALUE_BYTES
    ]
    points += [("keys", keys, Load(GROWTH_ROWS, SEED, keys=keys), BATCH) for keys in SKEWED_KEYS]
    found = []
    for varied, setting, load, size in points:
        tell(f"how it grows; {varied} {setting}")
        speeds = [workers.measure(Way.OURS, replace(load, seed=SEED + number), size).rows_s for number in range(runs)]
        found.append(GrowthPoint(varied, setting, round(statistics.median(speeds))))
    return found
