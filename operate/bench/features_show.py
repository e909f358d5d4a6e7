"""What `bench features` shows people: tables, and the growth as a picture."""

from collections.abc import Mapping
from pathlib import Path

from operate.bench.features import FeaturesBench
from operate.bench.features_curve import curve
from operate.bench.features_lag import LagFigures
from operate.output import say, write_table


def show(found: FeaturesBench, runs: int, picture: Path | None, *, to_table: bool) -> None:
    """Write tables to standard output, and the growth to `picture` where one is named."""
    if picture is not None and found.growth:
        host = f"{found.processes} processes, {found.host.cpu}, {found.host.cores} cores"
        picture.write_text(
            curve(found.growth, f"Feature rows a second into Bigtable's emulator: {host}"), encoding="utf-8"
        )
        say(f"The growth is drawn in {picture}.")
    if not to_table:
        return
    host = f"{found.host.cpu}, {found.host.cores} cores, {found.host.memory}"
    ways = [
        ("Lifeboat, plain features", found.rows_s, "1"),
        *(
            (f"{name}, plain features", speed, f"{found.rows_s / speed:.1f}")
            for name, speed in found.official_by_way.items()
        ),
        ("seed article's code", found.seed_article_rows_s, f"{found.times_article:.1f}"),
        ("Lifeboat, rows of the client library", found.sealed_rows_s, "1"),
        ("best official way, the same rows", found.official_sealed_rows_s, f"{found.times_official_sealed:.1f}"),
    ]
    write_table(
        ["way into Bigtable", "rows/s", "Lifeboat is so many times as fast"],
        [(name, f"{speed:,}", times) for name, speed, times in ways],
        title=f"medians of {runs} on {host}, {found.processes} processes",
    )
    lags = {"aws to gcp": found.lag_ms, "gcp to aws": found.lag_back_ms}
    show_lag({name: lag for name, lag in lags.items() if lag is not None})
    if found.reconcile is not None:
        each = found.reconcile
        write_table(
            ["reconciled rows", "differing", "scan s", "repair s", "read again", "equal"],
            [
                (
                    f"{each.rows:,}",
                    f"{each.differing:,}",
                    f"{each.scan_seconds:.1f}",
                    f"{each.repair_seconds:.1f}",
                    f"{each.share_again:.2%}",
                    "yes" if each.equal else "no",
                )
            ],
        )
    if found.growth:
        write_table(
            ["varied", "setting", "rows/s"], [(p.varied, f"{p.setting:,}", f"{p.rows_s:,}") for p in found.growth]
        )


def show_lag(found: Mapping[str, LagFigures]) -> None:
    """Write the lag of each direction, and where its processor time went."""
    if not found:
        return
    rows = [
        (
            name,
            f"{lag.rows_s:,}",
            *(f"{value:,}" for value in (lag.p50, lag.p99, lag.most, lag.drained_ms)),
            f"{lag.cpu_ms_a_row:.2f}",
            f"{lag.load_average}",
        )
        for name, lag in found.items()
    ]
    titles = ["lag", "rows/s", "p50 ms", "p99 ms", "most ms", "all there after ms", "CPU ms a row", "load average"]
    write_table(titles, rows)
    names = sorted({name for lag in found.values() for name in lag.cpu_by_process})
    write_table(
        ["CPU ms a row", *found],
        [(name, *(f"{lag.cpu_by_process.get(name, 0.0):.2f}" for lag in found.values())) for name in names],
    )
