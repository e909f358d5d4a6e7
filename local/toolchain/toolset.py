"""The tools of one machine as a whole: found by `find`, made where missing by `ensure`."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.toolchain import dynamodb, golang, kernel, official
from local.toolchain.bootstrap import exclusive
from local.toolchain.errors import ToolBuildError, ToolMissingError
from local.toolchain.pins import ADVICE, GO_TOOLS, SERVERS, Tool
from local.toolchain.places import UNFINISHED, locate, lock_file, tools_folder


@dataclass(frozen=True)
class Toolset:
    """Where every tool of this machine is. `notes` says in sentences what is missing and what takes its place."""

    pulumi: Path
    language_host_folder: Path | None
    fake_gcs_server: Path
    pubsubd: Path
    bigtabled: Path
    dynamodb_local: tuple[str, ...] | None
    java: Path | None
    go: Path | None
    notes: tuple[str, ...] = ()


def find(name: str) -> Path:
    """Return where a tool is, by the name of its program (`local.toolchain.pins.Tool`). Makes and fetches nothing.

    Raises ToolMissingError, which says how to get the tool and whether the demo goes on without it.
    """
    tool = Tool(name)
    found = locate(tool)
    if found is None:
        advice = ADVICE[tool]
        cause = f"not found ({advice.purpose})"
        raise ToolMissingError(tool.value, cause, advice.next_step, optional=advice.optional)
    return found


def dynamodb_local() -> tuple[str, ...] | None:
    """Return the command that starts DynamoDB Local, but for port and storage options; None where moto takes over."""
    jars, java = locate(Tool.DYNAMODB_LOCAL), locate(Tool.JAVA)
    return dynamodb.command(jars, java) if jars and java else None


def ensure(progress: Callable[[str], None] | None = None) -> Toolset:
    """Find every tool, make those that are missing, and return them all.

    `progress` is told what is being done and why. One process makes at a time; others wait for it. Raises
    ToolBuildError when a tool that nothing can stand in for cannot be made; a missing DynamoDB Local or kernel is a note.
    """
    say = progress or _quiet
    notes: list[str] = []
    if _missing():
        # Looked at again under the lock: another process may have made them meanwhile.
        with exclusive(lock_file(), lambda: say("waiting for another Lifeboat that is making the tools")) as lock:
            notes += _make(_missing(), say, lock)
    if dynamodb_local() is None and not any("DynamoDB" in note for note in notes):
        notes.append(f"DynamoDB Local is not used, moto takes over: no Java >= 17 found. {ADVICE[Tool.JAVA].next_step}")
    language_host = locate(Tool.LANGUAGE_HOST)
    return Toolset(
        pulumi=find(Tool.PULUMI),
        language_host_folder=language_host.parent if language_host else None,
        fake_gcs_server=find(Tool.FAKE_GCS_SERVER),
        pubsubd=find(Tool.PUBSUBD),
        bigtabled=find(Tool.BIGTABLED),
        dynamodb_local=dynamodb_local(),
        java=locate(Tool.JAVA),
        go=locate(Tool.GO),
        notes=tuple(notes),
    )


def _quiet(_: str) -> None:
    """Say nothing."""


def _missing() -> set[Tool]:
    wanted = {*GO_TOOLS, Tool.CODECS_KERNEL} | ({Tool.DYNAMODB_LOCAL} if locate(Tool.JAVA) else set())
    missing = {tool for tool in wanted if locate(tool) is None}
    return missing if all(kernel.locate(machine) for machine in kernel.wanted()) else missing | {Tool.CODECS_KERNEL}


def _make(missing: set[Tool], progress: Callable[[str], None], lock: int) -> list[str]:
    """Make what is missing; return a note for what could not be made and has a stand-in."""
    for left_over in tools_folder().glob(f"{UNFINISHED}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    notes = []
    if Tool.DYNAMODB_LOCAL in missing:
        try:
            dynamodb.fetch(progress, lock)
        except ToolBuildError as error:
            notes.append(str(error))
    if Tool.CODECS_KERNEL in missing:
        try:
            for machine in kernel.wanted():
                kernel.build(progress, lock, machine)
        except ToolBuildError as error:
            notes.append(str(error))
    if Tool.PULUMI in missing and official.install(progress, lock, dict(os.environ)):
        missing = missing - {Tool.PULUMI}
    to_build = tuple(tool for tool in (*SERVERS, Tool.PULUMI) if tool in missing)
    if to_build:
        golang.build(to_build, progress, lock)
    return notes
