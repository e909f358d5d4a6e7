"""The bench's commands for model artifacts."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from operate.arguments import Json

if TYPE_CHECKING:
    from operate.bench.artifacts import ArtifactBench
    from operate.bench.pairs import Pair


def artifacts(
    parent: Annotated[
        Path | None, typer.Option(help="Safetensors file of the parent.", exists=True, dir_okay=False)
    ] = None,
    child: Annotated[
        Path | None, typer.Option(help="Safetensors file of the child.", exists=True, dir_okay=False)
    ] = None,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Fine-tune a real text encoder first; needs pip install -e '.\\[bench]'.")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, max=50, help="Runs to take the median of.")] = 5,
    as_json: Json = False,
) -> None:
    """Measure what a version costs on the wire and how fast: two given files, or the recommender's versions 1 and 2."""
    from operate.bench import pairs
    from operate.bench.artifacts import BenchFileError, bench
    from operate.output import progress, write_json

    if parent and not child:
        raise BenchFileError("a parent alone cannot be measured. Name the child as well, with --child FILE")
    with progress() as tell, TemporaryDirectory() as folder:
        chosen: list[Pair]
        if child:
            chosen = [pairs.Pair(child.name, parent, child)]
        elif encoder:
            chosen = pairs.encoder(tell)
        else:
            chosen = [pairs.recommender(Path(folder), tell)]
        found = {pair.name: bench(pair.parent, pair.child, runs, tell=_about(pair.name, tell)) for pair in chosen}
    if not as_json:
        _show(found)
    elif encoder and not child:
        write_json({"pairs": found})
    else:
        write_json(next(iter(found.values())))
    raise typer.Exit(0 if all(each.identical for each in found.values()) else 1)


def _about(name: str, tell: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: tell(f"{name}: {text}")


def _show(found: "dict[str, ArtifactBench]") -> None:
    from operate.output import write_table

    first = next(iter(found.values()))
    rows = [
        (
            name,
            f"{each.bytes_raw / 1e6:,.1f}",
            f"{each.ratio:.4f}",
            f"{each.xor.ratio:.4f}",
            f"{each.zstd3.ratio:.4f}",
            f"{each.encode_mb_s:,.0f}",
            f"{each.decode_mb_s:,.0f}",
            f"{each.zstd3.mb_s:,.0f}",
            f"{each.core.encode_mb_s:,.0f} / {each.core.decode_mb_s:,.0f} / {each.core.zstd3_mb_s:,.0f}",
            "yes" if each.identical else "NO",
        )
        for name, each in found.items()
    ]
    columns = [
        "pair",
        "MB",
        "wire / raw",
        "XOR",
        "zstd -3",
        "encode MB/s",
        "decode MB/s",
        "zstd -3 MB/s",
        "a core's",
        "identical",
    ]
    title = (
        f"medians of {first.runs}, {first.workers} threads ({first.form}; zstd has one), "
        f"on {first.host.cpu}, {first.host.cores} cores, {first.host.memory}"
    )
    write_table(columns, rows, title=title)


def large(
    gib: Annotated[
        list[float] | None, typer.Option(help="Size of a model in GiB; may be given several times.", min=0.125, max=64)
    ] = None,
    workers: Annotated[
        list[int] | None, typer.Option(help="Processes at work; may be given several times.", min=1, max=64)
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a large model through planner, encoders and rebuilders: time by size and by workers, peak memory of a job."""
    from local.toolchain import ensure
    from operate.bench.large import GIBIBYTE, run
    from operate.output import progress, write_json, write_table

    with progress() as tell:
        ensure(tell)
        found = run([int(each * GIBIBYTE) for each in gib or (1.0, 4.0)], workers or (1, 2), tell)
    if as_json:
        write_json(found)
    else:
        rows = [
            (
                f"{point.bytes_raw / GIBIBYTE:.2f}",
                str(point.workers),
                f"{point.bytes_wire / point.bytes_raw:.4f}",
                f"{step.jobs}",
                f"{step.seconds:.1f}",
                f"{step.core_seconds:.1f}",
                f"{step.peak_mib}",
            )
            for point in found.points
            for step in (point.encode, point.rebuild)
        ]
        titles = ["GiB", "workers", "wire / raw", "jobs", "s", "core s", "peak MiB of a job"]
        write_table(titles, rows, title=f"encode, then rebuild, on {found.host.cpu}, {found.host.cores} cores")
    raise typer.Exit(0 if all(point.identical for point in found.points) else 1)


def lag(
    versions: Annotated[int, typer.Option(min=1, max=1_000, help="Versions to publish one after the other.")] = 20,
    site: Annotated[str, typer.Option(help="Site to publish at: aws or gcp.")] = "aws",
    as_json: Json = False,
) -> None:
    """Measure how long after its publish a version is proven and served on the other side of the local stack."""
    from functions.settings import Site
    from local.toolchain import ensure
    from operate.bench.artifact_lag import run
    from operate.output import progress, write_json, write_table

    if site not in set(Site):
        raise typer.BadParameter(f"{site!r} is neither aws nor gcp.", param_hint="--site")
    with progress() as tell:
        ensure(tell)
        found = run(versions, Site(site), tell)
    if as_json:
        write_json(found)
        return
    row = (
        str(found.versions),
        f"{found.bytes_raw / 1e6:,.1f}",
        *(f"{s:.2f}" for s in (found.p50, found.p99, found.most)),
    )
    title = f"published at {site}, served on the other side; on {found.host.cpu}, {found.host.cores} cores"
    write_table(["versions", "MB", "p50 s", "p99 s", "most s"], [row], title=title)
