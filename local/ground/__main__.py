"""The ground daemon: `python -m local.ground FOLDER [--clouds aws,gcp,cloudflare] [--owned]`.

It ends at SIGINT, SIGTERM, a stop request, and, when owned, at the end of its standard input, which its owner holds open.
Exit codes: 0 stopped, 1 failed, 75 another daemon has the folder.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import uvloop

from local.errors import LocalError
from local.ground.control import control_server
from local.ground.daemon import GroundDaemon
from local.ground.lock import GroundLock
from local.ground.progress import Progress
from local.names import Cloud
from local.supervisor import Supervisor, free_port, stopped_by_signals
from local.supervisor.ports import LOOPBACK
from local.toolchain.errors import ToolchainError

logger = logging.getLogger("local.ground")

EXIT_FAILED = 1
EXIT_BUSY = 75
STANDARD_INPUT = 0


async def run(folder: Path, clouds: Collection[Cloud], progress: Progress, *, owned: bool) -> int:
    """Run the ground until it is told to end; return the exit code."""
    async with stopped_by_signals(), Supervisor(folder / "logs") as supervisor:
        control = socket.create_server((LOOPBACK, free_port()))
        daemon = GroundDaemon(folder, clouds, supervisor, control.getsockname()[1])
        try:
            async with _control(daemon, control):
                if owned:
                    asyncio.get_running_loop().add_reader(STANDARD_INPUT, _owner_said, daemon.stop_requested)
                if await _start(daemon, progress):
                    progress.ready()
                    await daemon.stop_requested.wait()
        except (LocalError, ToolchainError) as error:
            progress.failed(str(error))
            return EXIT_FAILED
        finally:
            # Before the record goes: who sees it gone may start the next ground in the folder.
            try:
                await supervisor.stop_all()
            finally:
                daemon.forget()
    return 0


async def _start(daemon: GroundDaemon, progress: Progress) -> bool:
    """Start the ground; False when it was told to stop before it was ready."""
    starting = asyncio.create_task(daemon.start(progress))
    stopping = asyncio.create_task(daemon.stop_requested.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            return True
        return False
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


@contextlib.asynccontextmanager
async def _control(daemon: GroundDaemon, listener: socket.socket) -> AsyncIterator[None]:
    server = control_server(daemon)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _owner_said(stop: asyncio.Event) -> None:
    """The owner never says anything: what can be read is the end, and that is the end of the owner."""
    asyncio.get_running_loop().remove_reader(STANDARD_INPUT)
    logger.info("the owner is gone")
    stop.set()


def main() -> int:
    """Take the folder's lock and run."""
    parser = argparse.ArgumentParser(prog="python -m local.ground", description="Run one local ground.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clouds", default=",".join(Cloud), help="cloud processes to run, separated by commas")
    parser.add_argument("--owned", action="store_true", help="end when standard input ends")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    folder, progress = arguments.folder.resolve(), Progress()
    folder.mkdir(parents=True, exist_ok=True)
    lock = GroundLock(folder).take()
    if lock is None:
        progress.busy()
        return EXIT_BUSY
    clouds = [Cloud(name) for name in arguments.clouds.split(",") if name]
    logger.info("ground %s, pid %d", folder, os.getpid())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run(folder, clouds, progress, owned=arguments.owned))
    finally:
        lock.release()


if __name__ == "__main__":
    sys.exit(main())
