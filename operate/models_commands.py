"""`./lifeboat models`: what people ask of models, as tables or JSON.

The context's object opens the catalogue of a stack: only the command line knows the environment. What is heavy is imported when a
command runs.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from functions.settings import Site
from operate.arguments import Json, StackName
from operate.errors import LifeboatError
from operate.output import say, write_json, write_table

if TYPE_CHECKING:
    from operate.models import Catalogue, ListedVersion

models_app = typer.Typer(help="Models: their versions, where copies are, what aliases point to.", no_args_is_help=True)

# Reasons hold addresses and answers; a line for people takes their beginning, JSON all of it.
MOST_REASON = 160

Model = Annotated[str, typer.Argument(help="Name of the model.")]
Version = Annotated[str, typer.Argument(help="A version, the beginning of one (8 characters or more), or an alias.")]


@models_app.command("list")
def list_versions(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Name of a model; all of them without one.")] = None,
    stack: StackName = "local",
    as_json: Json = False,
) -> None:
    """List versions, newest first: from where, how large, at which places, by which aliases."""
    catalogue = _catalogue(context, stack)
    found = catalogue.versions(model)
    if as_json:
        write_json({"versions": [asdict(each) for each in found], "unreached": catalogue.unreached})
        return
    columns = [
        "model",
        "version",
        "parent",
        "origin",
        "published (UTC)",
        "files",
        "MB",
        "at",
        "aliases",
        "fit",
        "retired",
    ]
    write_table(columns, [_row(each) for each in found])
    _tell_unreached(catalogue)


@models_app.command()
def show(
    context: typer.Context, model: Model, version: Version, stack: StackName = "local", as_json: Json = False
) -> None:
    """Show a version: its files, lineage, place in the history, and what each copy was found to be."""
    catalogue = _catalogue(context, stack)
    found = catalogue.show(model, version)
    manifest = found.manifest
    if as_json:
        write_json(
            {
                **asdict(found.listed),
                "manifest": manifest.model_dump(mode="json"),
                "copies": found.copies,
                "unreached": catalogue.unreached,
            }
        )
        return
    listed = found.listed
    before = f"{manifest.previous.kind} {manifest.previous.version}" if manifest.previous else "-"
    rows = [
        ("version", listed.version),
        ("parent", listed.parent or "-"),
        ("published", f"{_when(listed.created_ms)} UTC on {listed.origin}, epoch {manifest.epoch}"),
        ("statement", f"{manifest.sequence} of {listed.origin}, after {before}"),
        ("aliases", ", ".join(listed.aliases) or "-"),
        ("retired", listed.retired or "-"),
        *((f"lineage: {name}", str(value)) for name, value in manifest.lineage.items()),
    ]
    for place, copy in found.copies.items():
        verified = _when(copy["verified_ms"]) if copy["verified_ms"] else "not yet"
        crossed = f", {copy['bytes_wire'] / 1e6:,.1f} MB crossed" if copy["bytes_wire"] is not None else ""
        rows.append((f"copy at {place}", f"verified {verified}{crossed}"))
        if copy["verdict"] and not copy["verdict"]["passed"]:
            rows.append((f"refused at {place}", str(copy["verdict"]["checks"])))
    write_table(["of", model], rows)
    write_table(
        ["file", "bytes", "tensors", "SHA-256"],
        [(file.path, f"{file.size:,}", str(len(file.tensors)), file.sha256) for file in manifest.files],
    )
    _tell_unreached(catalogue)


@models_app.command()
def url(
    context: typer.Context,
    model: Model,
    version: Version,
    base: Annotated[str | None, typer.Option(help="Public address of the third copy, where it has one.")] = None,
    seconds: Annotated[int, typer.Option(min=1, max=604_800, help="How long a signed URL is good.")] = 3600,
    stack: StackName = "local",
    as_json: Json = False,
) -> None:
    """Print where a version's files can be read: at a site, or at R2 when no site answers."""
    found = _catalogue(context, stack).locate(model, version, base, seconds)
    if as_json:
        write_json(asdict(found))
        return
    for place, reason in found.passed_over.items():
        say(f"{place} was passed over: {reason[:MOST_REASON]}")
    for address in found.urls.values():
        typer.echo(address)


@models_app.command()
def promote(
    context: typer.Context,
    model: Model,
    version: Version,
    alias: Annotated[str, typer.Option(help="Name to move, such as prod.")] = "prod",
    site: Annotated[str, typer.Option(help="Site to move it at: aws or gcp.")] = "aws",
    epoch: Annotated[
        int, typer.Option(min=0, help="Epoch of the mover; an older one than the alias's is refused.")
    ] = 0,
    stack: StackName = "local",
    as_json: Json = False,
) -> None:
    """Point an alias at a version that passed validation; its copy to the other site starts by itself."""
    moved = _catalogue(context, stack).promote(model, version, alias, _site(site), epoch)
    if as_json:
        write_json(moved.model_dump(mode="json"))
        return
    write_table(["model", "alias", "version", "epoch", "site"], [(model, alias, moved.version, str(moved.epoch), site)])


@models_app.command()
def retire(
    context: typer.Context,
    model: Model,
    version: Version,
    reason: Annotated[str, typer.Option(help="Why; it is signed and stays.")],
    stack: StackName = "local",
    as_json: Json = False,
) -> None:
    """End a version that nothing needs: no alias may point to it any more, its files are deleted after a week."""
    tombstone = _catalogue(context, stack).retire(model, version, reason)
    if as_json:
        write_json(tombstone.model_dump(mode="json"))
        return
    row = (model, tombstone.version, tombstone.origin.value, _when(tombstone.created_ms), tombstone.reason)
    write_table(["model", "version", "origin", "retired (UTC)", "reason"], [row])


def _catalogue(context: typer.Context, stack: str) -> "Catalogue":
    opened: Catalogue = context.obj(stack)
    return opened


def _row(each: "ListedVersion") -> tuple[str, ...]:
    fit = {True: "[green]yes[/]", False: "[red]no[/]", None: "-"}[each.passed]
    parent = each.parent[:12] if each.parent else "-"
    return (
        each.model,
        each.version[:12],
        parent,
        each.origin,
        _when(each.created_ms),
        str(each.files),
        f"{each.bytes_raw / 1e6:,.1f}",
        " ".join(each.at),
        " ".join(each.aliases) or "-",
        fit,
        each.retired or "-",
    )


def _tell_unreached(catalogue: "Catalogue") -> None:
    for place, reason in catalogue.unreached.items():
        say(f"{place} does not answer, what is there is not shown: {reason[:MOST_REASON]}")


def _when(ms: int) -> str:
    """Return a time for people, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else "-"


def _site(text: str) -> Site:
    if text not in set(Site):
        raise LifeboatError(f"site {text!r} is unknown; it may be {' or '.join(Site)}")
    return Site(text)
