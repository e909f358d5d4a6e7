"""The Cloud Run functions host: revisions deployed from archives in Cloud Storage, requests by hostname.

Every function has a port of its own behind the ground's fault proxy, published under the hostname of its run.app URL.
A new revision takes requests only when it is up; the old one finishes what it has. Requirements of an archive are not
installed: the host's environment, which holds the project's pinned dependencies, is the one for all functions.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.clouds.context import CloudContext
from local.clouds.errors import FunctionNotFoundError
from local.clouds.gcp.archives import unpack
from local.clouds.gcp.errors import FunctionStartError
from local.clouds.gcp.frontend import Frontend
from local.clouds.gcp.function_settings import FunctionSettings
from local.clouds.gcp.instances import Counters, FunctionRequest, FunctionResponse, RevisionInstances
from local.clouds.gcp.storage import Storage
from local.names import Cloud

logger = logging.getLogger(__name__)

# What a container sees of the machine; everything else is the function's own or the ground's.
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")


@dataclass(eq=False)
class DeployedFunction:
    """A function: its present revision, its port, and its counters over all revisions."""

    hostname: str
    route: str
    counters: Counters = field(default_factory=Counters)
    current: RevisionInstances | None = None
    frontend: Frontend | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def serving(self) -> RevisionInstances:
        """Return the present revision. Raises FunctionNotFoundError while there is none."""
        if self.current is None:
            raise FunctionNotFoundError(f"no revision of {self.hostname} serves; see why its deployment failed")
        return self.current


class FunctionHost:
    """All functions of this cloud. Belongs to the main thread's event loop."""

    def __init__(self, context: CloudContext, storage: Storage) -> None:
        self._context = context
        self._storage = storage
        self._folder = context.folder / "functions"
        # Left by a process that was killed; nothing runs from it any more.
        shutil.rmtree(self._folder, ignore_errors=True)
        self._deployments = 0
        self._functions: dict[str, DeployedFunction] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def deploy(self, settings: FunctionSettings) -> None:
        """Bring a function in line with its settings; equal settings and archive change nothing.

        Raises ArchiveError, FunctionStartError or StorageUnreachableError; the old revision then still serves.
        """
        route = f"function-{settings.id.replace('/', '-')}"
        function = self._functions.setdefault(settings.id, DeployedFunction(settings.hostname, route))
        async with function.lock:
            what = f"gs://{settings.archive_bucket}/{settings.archive_object}"
            metadata = await self._storage.object_metadata(settings.archive_bucket, settings.archive_object) or {}
            revision = settings.revision(str(metadata.get("md5Hash")))
            if function.current is not None and function.current.revision == revision:
                return
            data = await self._storage.download(settings.archive_bucket, settings.archive_object)
            self._deployments += 1
            # Numbered, because a revision may come back while its predecessor of that name still finishes.
            archive = self._folder / f"{self._deployments}-{revision}"
            archive.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(unpack, data, archive, what)
            if not (archive / "main.py").is_file():
                raise FunctionStartError(f"function {settings.name}: {what} has no main.py; the platform starts there")
            await self._swap(function, settings, revision, archive)
            await self._publish(function)

    async def remove(self, identity: str) -> None:
        """End a function; one that is not there is no error."""
        function = self._functions.pop(identity, None)
        if function is None:
            return
        async with function.lock:
            ground = self._context.ground
            await asyncio.to_thread(ground.withdraw_name, function.hostname)
            await asyncio.to_thread(ground.remove_route, function.route)
            await _end(function)
            if function.current is not None:
                shutil.rmtree(function.current.archive, ignore_errors=True)

    async def stop(self) -> None:
        """End all functions in order."""
        for task in list(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(_end(function) for function in self._functions.values()))

    def hosts(self, hostname: str) -> bool:
        """Tell whether the hostname is a function's."""
        return any(function.hostname == hostname for function in self._functions.values())

    def capacity(self, hostname: str) -> int:
        """Return how many requests a function runs at once; 0 while none of its revisions serves."""
        function = self._by_hostname(hostname)
        return 0 if function.current is None else function.current.capacity

    async def invoke(self, hostname: str, request: FunctionRequest) -> FunctionResponse:
        """Run one request. Raises FunctionNotFoundError or InvocationError."""
        return await self._by_hostname(hostname).serving().invoke(request)

    def statistics(self) -> dict[str, Any]:
        """Return what every function has done since this process started."""
        return {identity: _statistics(function) for identity, function in self._functions.items()}

    async def _swap(self, function: DeployedFunction, settings: FunctionSettings, revision: str, archive: Path) -> None:
        instances = RevisionInstances(
            settings=settings,
            revision=revision,
            archive=archive,
            environment=self._environment(settings, revision),
            supervisor=self._context.supervisor,
            log=self._context.folder / "logs" / f"function-{settings.name}.log",
            counters=function.counters,
        )
        try:
            await instances.start()
        except BaseException:
            await instances.stop()
            shutil.rmtree(archive, ignore_errors=True)
            raise
        old, function.current = function.current, instances
        if old is not None:
            task = asyncio.create_task(self._retire(old))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _retire(self, old: RevisionInstances) -> None:
        await old.retire()
        shutil.rmtree(old.archive, ignore_errors=True)

    async def _publish(self, function: DeployedFunction) -> None:
        if function.frontend is None:

            async def answer(request: FunctionRequest) -> FunctionResponse:
                return await function.serving().invoke(request)

            function.frontend = Frontend(answer)
            await function.frontend.start()
        ground = self._context.ground
        public = await asyncio.to_thread(ground.route, function.route, Cloud.GCP, function.frontend.port)
        await asyncio.to_thread(ground.publish_name, function.hostname, public)

    def _environment(self, settings: FunctionSettings, revision: str) -> Mapping[str, str]:
        host = {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}
        return {
            **host,
            **self._context.ground.environment(),
            **settings.environment,
            **settings.platform_environment(revision),
        }

    def _by_hostname(self, hostname: str) -> DeployedFunction:
        for function in self._functions.values():
            if function.hostname == hostname:
                return function
        known = ", ".join(sorted(one.hostname for one in self._functions.values())) or "none"
        raise FunctionNotFoundError(f"no function at {hostname}; deployed here: {known}")


async def _end(function: DeployedFunction) -> None:
    if function.frontend is not None:
        await function.frontend.stop()
    if function.current is not None:
        await function.current.stop()


def _statistics(function: DeployedFunction) -> dict[str, Any]:
    current = function.current
    return {
        **vars(function.counters),
        "revision": None if current is None else current.revision,
        "instances": 0 if current is None else current.size,
        "in_flight": 0 if current is None else current.in_flight,
    }
