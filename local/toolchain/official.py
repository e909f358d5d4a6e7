"""Installs Pulumi with its own installer, where the network lets it; the engine and its language host come together."""

import shutil
import socket
import sys
from pathlib import Path

from local.toolchain.golang import Progress
from local.toolchain.pins import PULUMI_VERSION
from local.toolchain.places import UNFINISHED, official_pulumi_folder, tools_folder
from local.toolchain.running import run

INSTALLER_HOST = "get.pulumi.com"
# Most machines without a direct way out fail at once; the few that hang must not hold the build up.
REACH_SECONDS = 3.0
# 110 MB; a line too slow for that is slower than building.
INSTALL_SECONDS = 180.0

_PROGRAM = """
import sys
from semver import VersionInfo
from pulumi.automation import PulumiCommand
PulumiCommand.install(root=sys.argv[1], version=VersionInfo.parse(sys.argv[2]))
"""


def install(progress: Progress, lock: int, environment: dict[str, str]) -> bool:
    """Try the installer; return whether it worked. A failure is no error: building from source comes next."""
    if not _reachable():
        return False
    progress(f"installing Pulumi {PULUMI_VERSION} with its own installer: no pulumi >= 3.238 on PATH")
    unfinished = tools_folder() / f"{UNFINISHED}pulumi"
    command = [sys.executable, "-c", _PROGRAM, str(unfinished), PULUMI_VERSION]
    outcome = run(command, environment=environment, seconds=INSTALL_SECONDS, keep_open=lock)
    target = official_pulumi_folder()
    if outcome.exit_code != 0 or not _complete(unfinished):
        shutil.rmtree(unfinished, ignore_errors=True)
        return False
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return True


def _complete(folder: Path) -> bool:
    return all((folder / "bin" / name).exists() for name in ("pulumi", "pulumi-language-python"))


def _reachable() -> bool:
    try:
        with socket.create_connection((INSTALLER_HOST, 443), timeout=REACH_SECONDS):
            return True
    except OSError:
        return False
