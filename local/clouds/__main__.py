"""One cloud as a process: `python -m local.clouds aws|gcp|cloudflare`.

The module `local.clouds.<cloud>` gives `actors(context)` and, where it has them, `routes(context)`,
`async start(context)` and `async stop(context)`. Stored resources are made real again before the port opens, and
SIGTERM stops the cloud's children in order.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from local.clouds.api import ControlPlane, control_routes
from local.clouds.context import CloudContext
from local.clouds.errors import CloudProcessError
from local.ground.client import GroundClient
from local.names import Cloud
from local.state import ResourceStore
from local.supervisor import Supervisor

# Calls still running at SIGTERM get this long; a provider plugin repeats what was cut off.
GRACEFUL_SHUTDOWN_SECONDS = 3
# Blocking SDK calls run in threads, and each long poll of a queue holds one; the default of cores + 4 would starve them.
SDK_THREADS = 32


class CloudServer(uvicorn.Server):
    """A uvicorn server that leaves signals to this process, so that it ends with status 0 after its own clean-up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Set the flag that ends the server at SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        yield

    def _end(self) -> None:
        self.should_exit = True


def application(context: CloudContext) -> Starlette:
    """Return the cloud's HTTP application; its lifespan starts and stops everything that runs in the cloud."""
    module = importlib.import_module(f"local.clouds.{context.cloud.value}")
    plane = ControlPlane(context, module.actors(context))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if hasattr(module, "start"):
            await module.start(context)
        await plane.start()
        yield
        await plane.stop()
        if hasattr(module, "stop"):
            await module.stop(context)

    extra = module.routes(context) if hasattr(module, "routes") else []
    return Starlette(routes=[*control_routes(plane, context), *extra], lifespan=lifespan)


async def serve(cloud: Cloud, ground_folder: Path, port: int) -> None:
    """Run a cloud until SIGTERM or SIGINT."""
    folder = ground_folder / "clouds" / cloud.value
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(SDK_THREADS, "sdk"))
    async with Supervisor(folder / "logs") as supervisor:
        context = CloudContext(
            cloud=cloud,
            ground=GroundClient.open(ground_folder),
            store=ResourceStore(ground_folder),
            folder=folder,
            supervisor=supervisor,
        )
        config = uvicorn.Config(
            application(context),
            host="127.0.0.1",
            port=port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECONDS,
        )
        await CloudServer(config).serve()


def main() -> None:
    """Read the cloud's name and the ground's environment, then serve."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        cloud = Cloud(sys.argv[1])
        ground_folder = Path(os.environ["LIFEBOAT_GROUND_FOLDER"])
        port = int(os.environ["LIFEBOAT_CLOUD_API_PORT"])
    except (IndexError, ValueError, KeyError) as error:
        raise CloudProcessError(
            f"cannot start a cloud: {error!r}; call python -m local.clouds aws|gcp|cloudflare"
            " with LIFEBOAT_GROUND_FOLDER and LIFEBOAT_CLOUD_API_PORT set"
        ) from error
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(cloud, ground_folder, port))


if __name__ == "__main__":
    main()
