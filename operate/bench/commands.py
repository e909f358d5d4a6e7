"""The bench's commands. They import what they need when they run, so that the start of every command stays fast."""

from pathlib import Path
from typing import Annotated

import typer

from operate.arguments import Json
from operate.bench import artifact_commands

bench_app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
bench_app.command("artifacts")(artifact_commands.artifacts)
bench_app.command("artifacts-large")(artifact_commands.large)
bench_app.command("artifacts-lag")(artifact_commands.lag)


@bench_app.command("engine")
def bench_engine(
    runs: Annotated[int, typer.Option(min=1, max=50, help="Runs to take the median of.")] = 3, as_json: Json = False
) -> None:
    """Measure up, an empty second up and a flip: stack local with everything live, stack prod on record."""
    from dataclasses import asdict

    from local.toolchain import ensure
    from operate.bench.engine import run
    from operate.output import progress, write_json, write_table

    with progress() as tell:
        ensure(tell)
        result = run(runs, tell)
    if as_json:
        write_json({**asdict(result.local), "record": asdict(result.record), "host": result.host.model_dump()})
        return
    rows = [
        (
            each.stack,
            str(each.resources),
            f"{each.up_seconds:.1f}",
            f"{each.noop_seconds:.1f}",
            f"{each.flip_seconds:.1f}",
        )
        for each in (result.local, result.record)
    ]
    host = result.host
    write_table(
        ["stack", "resources", "up s", "empty up s", "flip s"],
        rows,
        title=f"medians of {runs} on {host.cpu}, {host.cores} cores, {host.memory}",
    )


@bench_app.command("features")
def bench_features(
    runs: Annotated[int, typer.Option(min=1, max=20, help="Runs to take the median of.")] = 3,
    lag: Annotated[bool, typer.Option(help="Measure the lag both ways on the local stack.")] = True,
    reconcile: Annotated[bool, typer.Option(help="Reconcile two tables of a million rows.")] = True,
    growth: Annotated[bool, typer.Option(help="Measure how speed grows with batch, value and skew.")] = True,
    curve: Annotated[Path | None, typer.Option(help="File for the growth as a picture (SVG).")] = None,
    as_json: Json = False,
) -> None:
    """Measure the feature path: rows a second beside the official client, lag both ways, a reconciliation, growth."""
    from local.toolchain import ensure
    from operate.bench.features import as_json as plain
    from operate.bench.features import run
    from operate.bench.features_show import show
    from operate.output import progress, write_json

    with progress() as tell:
        ensure(tell)
        found = run(runs, tell, lag=lag, reconcile=reconcile, growth=growth)
    show(found, runs, curve, to_table=not as_json)
    if as_json:
        write_json(plain(found))


@bench_app.command("features-lag")
def bench_features_lag(
    rate: Annotated[float, typer.Option(min=1.0, max=100_000.0, help="Rows a second to write.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=1.0, max=3_600.0, help="How long to write at each site.")] = 20.0,
    as_json: Json = False,
) -> None:
    """Measure how old rows are on the other side under a steady load, both ways, and the CPU of each process for a row."""
    from tempfile import TemporaryDirectory

    from local.toolchain import ensure
    from operate.bench.features_lag import measure_lag
    from operate.bench.features_show import show_lag
    from operate.host import host
    from operate.output import progress, write_json

    with progress() as tell, TemporaryDirectory(prefix="lifeboat-bench-") as folder:
        ensure(tell)
        found = measure_lag(Path(folder) / "ground", tell, rate, seconds)
    if as_json:
        write_json({"lag_ms": {site.value: each for site, each in found.items()}, "host": host().model_dump()})
        return
    show_lag({f"{site} to {site.peer}": each for site, each in found.items()})
