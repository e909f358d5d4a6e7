"""The command line. Commands import what they need when they run, so that the start stays fast.

Exit codes: 0 done, 1 something is wrong (the message says what to do), 2 the command was called wrongly.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from operate.arguments import Json, StackName
from operate.bench.commands import bench_app
from operate.errors import is_expected
from operate.models_commands import models_app

if TYPE_CHECKING:
    from functions.stores.clients import Clients
    from local.ground.client import GroundClient
    from local.names import GroundKind
    from operate.models import Catalogue

app = typer.Typer(
    name="lifeboat",
    help="Keeps an AI service alive when a whole cloud is lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
local_app = typer.Typer(help="Both clouds on this machine, up to play with.", no_args_is_help=True)
app.add_typer(local_app, name="local")
app.add_typer(bench_app, name="bench")

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}

# The ground that stack `local` lives on, and that commands mean when they name none.
GROUND_NAME = "local"
# Commands of the engine that reach resources; the others (config, stack, version) need no ground.
NEEDS_GROUND = frozenset({"up", "update", "preview", "pre", "destroy", "dn", "refresh", "import", "watch"})


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what Lifeboat found on this machine, what is missing and how to get it."""
    from operate.doctor import State, examine, is_complete
    from operate.output import write_json, write_table

    findings = examine()
    complete = is_complete(findings)
    if as_json:
        write_json({"complete": complete, "findings": findings})
    else:
        colours = {State.FOUND: "green", State.MISSING: "red", State.ABSENT: "yellow"}
        rows = [
            (
                f.name,
                f.purpose,
                f"[{colours[f.state]}]{f.state.value}[/]",
                f.version,
                shorten(f.where) or f.next_step or "-",
            )
            for f in findings
        ]
        write_table(["tool", "for", "state", "version", "where, or how to get it"], rows)
    raise typer.Exit(0 if complete else 1)


@app.command(context_settings=PASS_THROUGH)
def test(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[PYTEST ARGUMENTS]...", help="Given to pytest as they are.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check format, rules and types, then run the tests."""
    from operate.test import run

    raise typer.Exit(run(arguments or [], as_json=as_json))


@app.command()
def demo(
    report: Annotated[Path, typer.Option(help="Folder for demo.json and index.html.")] = Path("report"),
    as_json: Json = False,
) -> None:
    """Run all of it on this machine: both clouds, a model, live features, the loss of AWS, a failover, a report."""
    from operate.demo.run import run

    raise typer.Exit(run(report.resolve(), as_json=as_json))


@app.command()
def up(stack: StackName = GROUND_NAME, as_json: Json = False) -> None:
    """Bring a stack in line with its config."""
    _operate("up", stack, as_json)


@app.command()
def preview(stack: StackName = GROUND_NAME, as_json: Json = False) -> None:
    """Show what `up` would change."""
    _operate("preview", stack, as_json)


@app.command()
def destroy(stack: StackName = GROUND_NAME, as_json: Json = False) -> None:
    """Delete everything in a stack; data that the stack protects refuses."""
    _operate("destroy", stack, as_json)


def _operate(operation: str, name: str, as_json: bool) -> None:
    from local.paths import ROOT
    from operate.output import say, write_json, write_table
    from operate.stacks import Stack

    stack = Stack(ROOT, name, _engine_environment(_environment_kind(), needs_ground=True))
    operate = {"up": stack.up, "preview": stack.preview, "destroy": stack.destroy}[operation]
    outcome = operate(say)
    if as_json:
        write_json(
            {
                "stack": name,
                "operation": operation,
                "seconds": round(outcome.seconds, 2),
                "resources": outcome.resources,
                "changes": outcome.changes,
            }
        )
        return
    rows = [(kind, str(count)) for kind, count in sorted(outcome.changes.items())]
    write_table(["change", "resources"], rows, title=f"{operation} of stack {name}: {outcome.seconds:.1f} s")


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of the model's files.", exists=True, file_okay=False)],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    parent: Annotated[
        str | None, typer.Option(help="Version that this one was trained from, or an alias that points to it.")
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Name to move to this version, such as prod.")] = None,
    lineage: Annotated[
        Path | None, typer.Option(help="JSON: training_data, code, metrics, author.", exists=True, dir_okay=False)
    ] = None,
    site: Annotated[str, typer.Option(help="Site to publish at: aws or gcp.")] = "aws",
    epoch: Annotated[int, typer.Option(min=0, help="Epoch of the publisher; an alias of a newer one stays.")] = 0,
    stack: StackName = GROUND_NAME,
    as_json: Json = False,
) -> None:
    """Publish a folder as a signed version of a model; its copies start by themselves. Run it again after a break."""
    from dataclasses import asdict

    from operate.output import progress, write_json, write_table
    from operate.publish import Request, publish_folder

    with progress() as tell:
        published = publish_folder(_clients(stack), Request(folder, model, site, parent, alias, lineage, epoch), tell)
    if as_json:
        fields = asdict(published)
        fields |= {name: value.model_dump(mode="json") for name in ("alias", "verdict") if (value := fields[name])}
        write_json(fields)
        return
    row = (published.model, published.version, str(published.files), f"{published.bytes_raw / 1e6:,.1f}", alias or "-")
    write_table(["model", "version", "files", "MB", "alias"], [row])


@app.command()
def verify(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[models|features|users]...", help="What to verify; all of it without a name."),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend first: models from a good copy, user data to the newer row."),
    ] = False,
    sample: Annotated[
        int | None, typer.Option(min=0, help="Read back so many versions of models, by turns; all without it.")
    ] = None,
    stack: StackName = GROUND_NAME,
    as_json: Json = False,
) -> None:
    """Compare all copies store by store: versions and rows, digests, lag, parked. Exit code 1 on divergence."""
    from operate.verify.command import run

    kind = _environment_kind()
    environment = {**os.environ, **_engine_environment(kind, needs_ground=True)}
    raise typer.Exit(run(parts or [], stack, environment, kind, repair=repair, sample=sample, as_json=as_json))


def _clients(stack: str) -> "Clients":
    from operate.access import of_stack

    return of_stack(stack, {**os.environ, **_engine_environment(_environment_kind(), needs_ground=True)})


def _catalogue(stack: str) -> "Catalogue":
    from operate.models import Catalogue

    return Catalogue(_clients(stack))


app.add_typer(models_app, name="models", context_settings={"obj": _catalogue})


@app.command(context_settings=PASS_THROUGH, add_help_option=False)
def pulumi(context: typer.Context) -> None:
    """Run Pulumi with the local ground's environment; everything after the word goes to it as it is.

    LIFEBOAT_GROUND=record uses fake providers that only record, so nothing has to run. Outside a Pulumi project it works on
    Lifeboat's own.
    """
    from local import paths
    from local.toolchain import find

    kind = _environment_kind()
    environment = {**os.environ, **_engine_environment(kind, needs_ground=reaches_resources(context.args))}
    program = str(find("pulumi"))
    if not _in_a_project(Path.cwd()):
        os.chdir(paths.ROOT)
    # Pulumi takes this process's place: its prompts, colours and Ctrl-C are then its own.
    os.execve(program, [program, *context.args], environment)  # noqa: S606 - no shell is wanted


@local_app.command("up")
def local_up(as_json: Json = False) -> None:
    """Start the local ground, or find it running; it stays up until `local down`."""
    from local import paths
    from local.ground.client import start_ground
    from local.toolchain import ensure
    from operate.output import progress, say

    with progress() as tell:
        tools = ensure(tell)
        ground = start_ground(paths.ground_folder(GROUND_NAME), progress=tell)
    for note in tools.notes:
        say(note)
    _show_ground(ground, as_json)


@local_app.command("down")
def local_down(as_json: Json = False) -> None:
    """Stop the local ground and everything that runs on it."""
    from local import paths
    from local.errors import GroundNotRunningError
    from local.ground.client import GroundClient
    from operate.output import progress, say, write_json

    try:
        ground = GroundClient.open(paths.ground_folder(GROUND_NAME))
    except GroundNotRunningError:
        ground = None
    if ground:
        with progress() as tell:
            tell("stopping the local ground")
            ground.stop()
    if as_json:
        write_json({"stopped": ground is not None})
    else:
        say("The local ground is down." if ground else "No local ground was running.")


@local_app.command("status")
def local_status(as_json: Json = False) -> None:
    """Show the local ground's processes, faults and names."""
    from local import paths
    from local.ground.client import GroundClient

    _show_ground(GroundClient.open(paths.ground_folder(GROUND_NAME)), as_json)


@local_app.command("env")
def local_env(
    ground: Annotated[
        str, typer.Option(help="local: the running ground; record: fake providers that only record.")
    ] = "local",
    as_json: Json = False,
) -> None:
    """Print the exports that plain `pulumi` needs: eval "$(./lifeboat local env)"."""
    from operate.output import write_json

    kind = _ground_kind(ground, "--ground")
    environment = _engine_environment(kind, needs_ground=True)
    # Where it is set, every run of the program compiles the provider packages again: seconds each time.
    environment["PYTHONDONTWRITEBYTECODE"] = ""
    if as_json:
        write_json(environment)
        return
    for name, value in sorted(environment.items()):
        typer.echo(f"export {name}={quote(value)}")


def quote(value: str) -> str:
    """Return a value in single quotes, safe for any POSIX shell, also when a plain word would do without."""
    quoted = shlex.quote(value)
    return quoted if quoted.startswith("'") else f"'{value}'"


def shorten(path: str) -> str:
    """Return a path as people write it: from the repository or from home where it lies below one."""
    from local import paths

    for folder, sign in ((paths.ROOT, "."), (Path.home(), "~")):
        if path.startswith(f"{folder}{os.sep}"):
            return f"{sign}{path.removeprefix(str(folder))}"
    return path


def reaches_resources(arguments: list[str]) -> bool:
    """Tell whether these arguments make the engine reach resources, so that a ground must be there for them."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0] in NEEDS_GROUND
    # Options come first, and only the engine knows which of them take a value.
    return not NEEDS_GROUND.isdisjoint(arguments)


def _in_a_project(folder: Path) -> bool:
    return any((place / "Pulumi.yaml").exists() for place in (folder, *folder.parents))


def _ground_kind(text: str, named_by: str) -> "GroundKind":
    from local.names import GroundKind

    try:
        return GroundKind(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither local nor record.", param_hint=named_by) from None


def _environment_kind() -> "GroundKind":
    """Return the ground that LIFEBOAT_GROUND names, the local one where it names none."""
    return _ground_kind(os.environ.get("LIFEBOAT_GROUND") or GROUND_NAME, "LIFEBOAT_GROUND")


def _engine_environment(kind: "GroundKind", *, needs_ground: bool) -> dict[str, str]:
    """Return what the engine needs on top of this process's environment, making tools first where they are missing."""
    from local import paths
    from local.engine.environment import engine_environment
    from local.errors import GroundNotRunningError
    from local.ground.client import GroundClient
    from local.names import GroundKind
    from local.toolchain import ensure
    from operate.output import progress

    with progress() as tell:
        ensure(tell)
    if kind is GroundKind.RECORD:
        return engine_environment(paths.home(), None, paths.home() / "record")
    try:
        ground = GroundClient.open(paths.ground_folder(GROUND_NAME))
    except GroundNotRunningError:
        if needs_ground:
            raise
        # Nothing is reached by config, stack and version; the record ground needs nothing to run.
        return engine_environment(paths.home(), None, paths.home() / "record")
    return engine_environment(paths.home(), ground, None)


def _show_ground(ground: "GroundClient", as_json: bool) -> None:
    from operate.output import write_json, write_table

    status = ground.status()
    if as_json:
        write_json({"folder": ground.folder, "endpoints": ground.endpoints, "status": status})
        return
    rows = [(p.name, p.state, str(p.pid or "-"), str(p.restarts)) for p in status.processes]
    write_table(
        ["process", "state", "pid", "restarts"], rows, title=f"Local ground in {ground.folder}, pid {status.pid}"
    )
    write_table(["cloud", "fault"], [(cloud.value, fault.value) for cloud, fault in status.faults.items()])
    if status.names:
        write_table(["name", "address"], [(name, f"127.0.0.1:{port}") for name, port in sorted(status.names.items())])


def main() -> None:
    """Run a command; show an error that the user can act on without a traceback."""
    try:
        app(prog_name="lifeboat")
    except Exception as error:
        if not is_expected(error):
            raise
        from operate.output import say, write_json

        if "--json" in sys.argv:
            write_json({"error": {"kind": type(error).__name__, "message": str(error)}})
        say(f"lifeboat: {error}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
