"""Reads versions out of what tools print about themselves."""

import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path

from local.toolchain.pins import Tool, Version

# A shim or a stub may hang or ask for input; a real tool answers in well under a second, on a busy machine in a few.
VERSION_SECONDS = 20.0

_VERSION_ARGUMENTS = {
    Tool.PULUMI: ("version",),
    Tool.GO: ("version",),
    Tool.JAVA: ("-version",),
    Tool.MAVEN: ("-B", "--version"),
    Tool.POSTGRES: ("--version",),
    Tool.VALKEY: ("--version",),
    Tool.CHROMIUM: ("--version",),
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NUMBER = re.compile(r"(?<![\w.])(?:v|go)?(\d+(?:\.\d+)*)")


def parse_version(text: str) -> Version | None:
    """Return the first version in `text` as numbers; None when there is none.

    Understands `go version go1.26.0 linux/amd64`, `openjdk version "17.0.15"`, Java's old `1.8.0` (which is 8), `v3.259.0`.
    """
    # Maven writes its name in bold even when told not to; the colour codes hold numbers.
    found = _NUMBER.search(_COLOUR.sub("", text))
    if found is None:
        return None
    version = tuple(int(part) for part in found.group(1).split("."))
    if "java version" in text.lower() or "openjdk version" in text.lower():
        return version[1:] if version[0] == 1 and len(version) > 1 else version
    return version


def show(version: Version | None) -> str:
    """Return a version as people write it."""
    return ".".join(str(part) for part in version) if version else "unknown"


def version_of(tool: Tool, program: Path) -> Version | None:
    """Run a program to learn its version; None when it does not run, which a shim on PATH may well do."""
    try:
        changed_ns = program.stat().st_mtime_ns
    except OSError:
        return None
    return _ask(tool, program, changed_ns)


@lru_cache(maxsize=64)
def _ask(tool: Tool, program: Path, changed_ns: int) -> Version | None:
    # The time of change is part of the key: a tool that is replaced while we run is asked again.
    del changed_ns
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true", "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            [str(program), *_VERSION_ARGUMENTS[tool]],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(f"{done.stdout}\n{done.stderr}") if done.returncode == 0 else None
