"""All functions of the AWS cloud: deploy, invoke, take away, count."""

import asyncio
import logging
import os
from typing import Any

from local.clouds.api import describe
from local.clouds.aws.lambda_host.archives import unpack
from local.clouds.aws.lambda_host.counters import FunctionCounters
from local.clouds.aws.lambda_host.pool import FunctionPool
from local.clouds.aws.lambda_host.runtime import Invocation
from local.clouds.aws.lambda_host.settings import FunctionSettings, function_name
from local.clouds.context import CloudContext
from local.clouds.errors import FunctionNotFoundError
from local.state import Resource, ResourceGoneError

logger = logging.getLogger(__name__)

# Two cores gain nothing from more processes of one function, and each holds 60-100 MB.
PROCESSES_PER_FUNCTION = max(2, min(4, os.cpu_count() or 2))
REAP_SECONDS = 15.0
# Time beyond a function's own limit that an old version may take to hand back its last answers.
DRAIN_EXTRA_SECONDS = 2.0


class LambdaHost:
    """Runs the functions that are deployed; calls belong to the event loop of the main thread."""

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._pools: dict[str, FunctionPool] = {}
        self._counters: dict[str, FunctionCounters] = {}
        self._drains: set[asyncio.Task[None]] = set()
        # A cloud that comes back starts all its functions, on a machine whose other cloud serves users at that moment.
        self._turns = asyncio.Semaphore(1)
        self._reaper: asyncio.Task[None] | None = None

    async def ensure(self, settings: FunctionSettings, wait: bool = True) -> None:
        """Run this version of a function; one that is up already is left alone.

        The new version is ready before the old one stops getting events, and the old one finishes what it has. Without
        `wait` the first process is only begun. Raises ArchiveError or FunctionInitError; the old version then runs on.
        """
        old = self._pools.get(settings.name)
        if old is not None and old.settings == settings:
            return
        folder = self._context.folder / "functions" / settings.name
        task_root = await asyncio.to_thread(unpack, settings.archive, settings.sha256, folder)
        pool = FunctionPool(
            settings,
            task_root,
            self._environment(settings, str(task_root)),
            self._limit(settings),
            self._context.folder / "logs" / f"{settings.name}.log",
            self._context.supervisor,
            self._counters.setdefault(settings.name, FunctionCounters()),
        )
        if wait:
            await pool.warm()
        else:
            pool.warm_soon(self._turns)
        self._pools[settings.name] = pool
        if old is not None:
            self._drain(old)
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap(), name="reap idle functions")

    async def remove(self, name: str) -> None:
        """Stop a function after what it is doing; one that is not there is no error."""
        pool = self._pools.pop(name, None)
        if pool is not None:
            await pool.drain(pool.settings.timeout_seconds + DRAIN_EXTRA_SECONDS)
        self._counters.pop(name, None)

    def deployed(self, name: str) -> bool:
        """Say whether a function of that name runs."""
        return name in self._pools

    def settings(self, name: str) -> FunctionSettings:
        """Return the settings of a deployed function. Raises FunctionNotFoundError."""
        return self._pool(name).settings

    def limit(self, name: str) -> int:
        """Return how many invocations of a function run at once. Raises FunctionNotFoundError."""
        return self._pool(name).limit

    async def invoke(self, name: str, payload: bytes, patience_seconds: float = 0.0) -> Invocation:
        """Run a function on one event. Raises FunctionNotFoundError or ThrottledError."""
        pool = self._pool(name)
        counters = self._counters[name]
        counters.concurrency_highest = max(counters.concurrency_highest, min(pool.in_flight + 1, pool.limit))
        invocation = await pool.invoke(payload, patience_seconds)
        counters.record(invocation)
        if not invocation.succeeded:
            logger.warning(
                "%s: %s in %.0f ms: %s",
                name,
                invocation.status.value,
                invocation.duration_ms,
                invocation.payload[:2000].decode(errors="replace"),
            )
        return invocation

    async def stop(self) -> None:
        """End all processes of all functions."""
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        for drain in self._drains:
            drain.cancel()
        await asyncio.gather(*self._drains, return_exceptions=True)
        await asyncio.gather(*(pool.stop() for pool in self._pools.values()))

    def statistics(self) -> dict[str, Any]:
        """Return counts and present size of every function, by name."""
        return {
            name: self._counters[name].report()
            | {
                "processes": pool.size,
                "in_flight": pool.in_flight,
                "limit": pool.limit,
                "memory_mb": pool.settings.memory_mb,
                "sha256": pool.settings.sha256,
            }
            for name, pool in self._pools.items()
        }

    def _pool(self, name: str) -> FunctionPool:
        try:
            return self._pools[name]
        except KeyError:
            raise FunctionNotFoundError(
                f"function {name} is not deployed in aws; deployed: {', '.join(self._pools) or 'none'}"
            ) from None

    def _limit(self, settings: FunctionSettings) -> int:
        if settings.reserved_concurrency is None:
            return PROCESSES_PER_FUNCTION
        return min(settings.reserved_concurrency, PROCESSES_PER_FUNCTION)

    def _environment(self, settings: FunctionSettings, task_root: str) -> dict[str, str]:
        """Compose the process's whole environment; the function's own variables never replace the platform's.

        Names: docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html. PATH is the host's, for the interpreter.
        """
        platform = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "AWS_REGION": settings.region,
            "AWS_DEFAULT_REGION": settings.region,
            "AWS_EXECUTION_ENV": "AWS_Lambda_python",
            "AWS_LAMBDA_FUNCTION_NAME": settings.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings.memory_mb),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{settings.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"[$LATEST]{settings.sha256[:32]}",
            "LAMBDA_TASK_ROOT": task_root,
            "_HANDLER": settings.handler,
        }
        return {**settings.environment, **self._context.ground.environment(), **platform}

    def _drain(self, pool: FunctionPool) -> None:
        task = asyncio.create_task(pool.drain(pool.settings.timeout_seconds + DRAIN_EXTRA_SECONDS))
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_SECONDS)
            for pool in list(self._pools.values()):
                try:
                    await pool.reap()
                except OSError as error:
                    logger.warning("%s: idle processes stay: %s", pool.settings.name, describe(error))


class FunctionActor:
    """`aws:lambda/function:Function`: code, environment, limits."""

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._host = context.part(LambdaHost)

    async def ensure(self, resource: Resource) -> None:
        """Unpack the archive and run its handler in warm processes.

        A deployment waits for the first process, so that code that cannot start is refused. A cloud that comes back
        does not: what ran before will run again, and the rest of the cloud need not wait for it.
        """
        settings = FunctionSettings.of(resource)
        await self._host.ensure(settings, wait=self._host.deployed(settings.name) or not self._stored(resource))

    async def remove(self, resource: Resource) -> None:
        """Finish running invocations and end the processes."""
        await self._host.remove(function_name(resource))

    def _stored(self, resource: Resource) -> bool:
        try:
            self._context.store.read(resource.cloud, resource.type, resource.id)
        except ResourceGoneError:
            return False
        return True
