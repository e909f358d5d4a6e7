"""The servers behind user data: PostgreSQL with the RDS Data API in front of it, and the Spanner emulator.

Neither is in every machine's reach: without one of them user data is left out, by name, and everything else runs. Nobody's
rows outlive a ground: the database's folder is made anew at every start, as the other emulators forget everything too.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from local.errors import GroundStartError
from local.paths import ROOT
from local.supervisor import HttpProbe, ProcessSpec, Supervisor, TcpProbe
from local.supervisor.ports import LOOPBACK
from local.supervisor.process import TRAMPOLINE
from local.toolchain.pins import Tool
from local.toolchain.places import locate

POSTGRES_USER = "postgres"
_READY_SECONDS = 60.0
_NOBODY = 65534


def missing() -> str:
    """Return why user data can't run on this machine, empty where it can."""
    for tool, stands_for in ((Tool.POSTGRES, "Aurora"), (Tool.SPANNER_EMULATOR, "Spanner")):
        if locate(tool) is None:
            return f"user data is left out: nothing stands for {stands_for} here ({tool.value}: see ./lifeboat doctor)"
    if not _may_drop_root():
        return "user data is left out: PostgreSQL refuses root, and this machine allows no user namespace; run as another user"
    return ""


def database_name(cluster: str, database: str) -> str:
    """Return the name that a cluster's database has in the one server that stands for all clusters."""
    return f"{cluster}.{database}"


async def start_postgres(supervisor: Supervisor, folder: Path) -> int:
    """Make a database folder, start PostgreSQL on it and return its port."""
    program = locate(Tool.POSTGRES)
    assert program is not None
    data = folder / "postgres"
    shutil.rmtree(data, ignore_errors=True)
    makes = await asyncio.create_subprocess_exec(
        *(*_unprivileged(), str(program.with_name("initdb")), "-D", str(data), "-U", POSTGRES_USER),
        *("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await makes.communicate()
    if makes.returncode != 0:
        raise GroundStartError(f"PostgreSQL made no database folder in {data}: {errors.decode().strip()}")
    _, port = await supervisor.start_on_free_port(_postgres(program, data))
    return port


def _postgres(program: Path, data: Path) -> Callable[[int], ProcessSpec]:
    def spec(port: int) -> ProcessSpec:
        settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            "max_connections": "200",
            # The folder is thrown away: what these protect from is a machine that stops.
            "fsync": "off",
            "full_page_writes": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return ProcessSpec(
            name="postgres",
            command=(*_unprivileged(), *_bound(), str(program), "-D", str(data), "-p", str(port), *options),
            ready=TcpProbe(port),
            ready_seconds=_READY_SECONDS,
            # Fast stop: SIGTERM would wait for every client to leave (PostgreSQL documentation, shutting down the server).
            stop_signal=signal.SIGINT,
        )

    return spec


def rds_data(postgres_port: int) -> Callable[[int], ProcessSpec]:
    """Return the Data API's process over a PostgreSQL at a port."""

    def spec(port: int) -> ProcessSpec:
        return ProcessSpec(
            name="rds-data",
            command=(
                *(sys.executable, "-m", "local.ground.rds_data"),
                *("--port", str(port), "--postgres-port", str(postgres_port)),
            ),
            ready=HttpProbe(f"http://{LOOPBACK}:{port}/health"),
            ready_seconds=_READY_SECONDS,
            cwd=ROOT,
            # Before PostgreSQL, whose clients it holds.
            stage=1,
        )

    return spec


def spanner(port: int) -> ProcessSpec:
    """Return the Spanner emulator's process; its REST gateway would leave it behind when told to stop."""
    program = locate(Tool.SPANNER_EMULATOR)
    assert program is not None
    return ProcessSpec(
        name="spanner-emulator",
        command=(str(program), f"--host_port={LOOPBACK}:{port}"),
        ready=TcpProbe(port),
        ready_seconds=_READY_SECONDS,
    )


@cache
def _may_drop_root() -> bool:
    command = _unprivileged()
    if not command:
        return True
    try:
        return (
            subprocess.run([*command, "true"], capture_output=True, timeout=_READY_SECONDS, check=False).returncode == 0
        )
    except OSError:
        return False


def _unprivileged() -> tuple[str, ...]:
    """PostgreSQL refuses to run as root; in a user namespace it is nobody, and files stay the caller's."""
    if os.geteuid() != 0:
        return ()
    return ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")


def _bound() -> tuple[str, ...]:
    """Tie the server's life to the supervisor's once more: a change of namespace makes the kernel forget the first tie."""
    if os.geteuid() != 0:
        return ()
    return (sys.executable, "-I", "-S", str(TRAMPOLINE), str(os.getpid()))
