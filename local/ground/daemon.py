"""The ground: its processes, in their order, and what happens to a cloud that is lost and comes back."""

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from local.errors import GroundRequestError
from local.faults.state import Fault
from local.ground.descendants import descendants, wait_gone
from local.ground.emulators import dynamodb_kind, start_emulators
from local.ground.progress import Progress
from local.ground.proxy import GroundProxy
from local.ground.record import RECORD_NAME, DynamodbKind, Endpoints, GroundRecord, own_start_time
from local.ground.routing import ENDPOINT_PREFIX, Routing
from local.names import Cloud, FaultMode
from local.paths import ROOT
from local.supervisor import HttpProbe, ManagedProcess, ProcessSpec, RestartPolicy, Supervisor
from local.supervisor.ports import LOOPBACK

logger = logging.getLogger(__name__)

# A cloud that comes back starts every function and instance that it runs before it answers.
CLOUD_READY_SECONDS = 90.0
CLOUD_STOP_SECONDS = 20.0
RESTORE_SECONDS = 30.0
RESTORE_POLL_SECONDS = 0.02


class GroundDaemon:
    """Everything of one ground. Its supervisor owns the processes and ends them."""

    def __init__(self, folder: Path, clouds: Collection[Cloud], supervisor: Supervisor, control_port: int) -> None:
        self.folder = folder
        self.routing = Routing(folder)
        self.stop_requested = asyncio.Event()
        self.token = secrets.token_hex(16)
        self._clouds = frozenset(clouds)
        self._supervisor = supervisor
        self._control_port = control_port
        self._proxy = GroundProxy(supervisor, self.routing)
        self._locks = {cloud: asyncio.Lock() for cloud in Cloud}
        self._record: GroundRecord | None = None

    async def start(self, progress: Progress) -> None:
        """Start everything and write ground.json: when the ports are known, and again when all is ready."""
        progress.say("starting the fault proxy")
        await self._proxy.start()
        self._record = self._describe(dynamodb_kind())
        self._record.write(self.folder)
        progress.say(f"starting the emulators and the clouds {', '.join(sorted(self._clouds)) or '(none)'}")
        try:
            async with asyncio.TaskGroup() as group:
                for cloud in Cloud:
                    group.create_task(self._start_emulators_and_cloud(cloud))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._record = replace(self._record, ready=True)
        self._record.write(self.folder)

    def forget(self) -> None:
        """Remove ground.json; the last thing a ground does."""
        (self.folder / RECORD_NAME).unlink(missing_ok=True)

    @property
    def ready(self) -> bool:
        """True once everything has been started."""
        return self._record is not None and self._record.ready

    @property
    def faults(self) -> dict[Cloud, FaultMode]:
        """The fault mode of every cloud."""
        return {cloud: fault.mode for cloud, fault in self._proxy.faults.items()}

    def processes(self) -> list[ManagedProcess]:
        """Return the ground's processes in order of start."""
        return self._supervisor.processes()

    async def route(self, name: str, cloud: Cloud, port: int) -> int:
        """Return the public port that forwards to a private one; same name, same public port."""
        _refuse_own(name)
        self.routing.set_route(name, cloud, port)
        await self._proxy.apply()
        return self.routing.public_port(name)

    async def remove_route(self, name: str) -> None:
        """Close a public port made by `route`."""
        _refuse_own(name)
        self.routing.remove_route(name)
        await self._proxy.apply()

    async def publish_name(self, hostname: str, port: int) -> None:
        """Point a hostname at a public port."""
        self.routing.publish(hostname, port)
        await self._proxy.apply()

    async def withdraw_name(self, hostname: str) -> None:
        """Take a hostname off the ground's internet."""
        self.routing.withdraw(hostname)
        await self._proxy.apply()

    async def fault(self, cloud: Cloud, fault: Fault) -> None:
        """Put a cloud into a fault and return when it is in force."""
        async with self._locks[cloud]:
            killed = self._proxy.faults[cloud].mode is FaultMode.KILL
            if fault.mode is FaultMode.NONE or (killed and fault.mode is not FaultMode.KILL):
                # In every other mode the cloud's processes live on, so they have to be there first.
                await self._restore(cloud)
            if fault.mode is FaultMode.NONE:
                return
            self._proxy.faults[cloud] = fault
            await self._proxy.apply()
            if fault.mode is FaultMode.KILL:
                await self._kill_cloud(cloud)
            logger.info("%s: %s", cloud, fault)

    async def restore(self, cloud: Cloud) -> None:
        """End a cloud's fault and return when the cloud answers through its public port."""
        async with self._locks[cloud]:
            await self._restore(cloud)
            logger.info("%s: restored", cloud)

    async def _restore(self, cloud: Cloud) -> None:
        # Ports first: the cloud's process reaches its stores through them while it starts.
        self._proxy.faults[cloud] = Fault()
        await self._proxy.apply()
        if cloud not in self._clouds:
            return
        if not any(process.name == _process_name(cloud) and process.alive for process in self.processes()):
            await self._start_cloud(cloud)
        probe = HttpProbe(f"http://{LOOPBACK}:{self.routing.endpoint_port(f'{cloud.value}_api')}/health")
        try:
            async with asyncio.timeout(RESTORE_SECONDS):
                while not await probe.ready():
                    await asyncio.sleep(RESTORE_POLL_SECONDS)
        except TimeoutError:
            raise GroundRequestError(
                f"{cloud} did not answer {probe.url} within {RESTORE_SECONDS:g} s of its return: see"
                f" {self.folder / 'logs' / _process_name(cloud)}.log"
            ) from None

    async def _kill_cloud(self, cloud: Cloud) -> None:
        """SIGKILL a cloud's process; on return all that ran in the cloud is gone too."""
        process = next((p for p in self.processes() if p.name == _process_name(cloud)), None)
        if process is None:
            return
        # Looked up before: orphans cannot be found by their parent.
        family = descendants(process.pid) if process.pid is not None else []
        await process.kill()
        await wait_gone(family)

    async def _start_emulators_and_cloud(self, cloud: Cloud) -> None:
        """Start a cloud when its own emulators are ready; the others' may take longer."""
        storage = self.routing.endpoint_port("storage")
        targets = await start_emulators(cloud, self._supervisor, self.folder / "emulators", storage)
        for endpoint, port in targets.items():
            self.routing.set_target(endpoint, port)
        await self._proxy.apply()
        if cloud in self._clouds:
            await self._start_cloud(cloud)

    async def _start_cloud(self, cloud: Cloud) -> None:
        def spec(port: int) -> ProcessSpec:
            return ProcessSpec(
                name=_process_name(cloud),
                command=(sys.executable, "-m", "local.clouds", cloud.value),
                env={
                    "LIFEBOAT_GROUND_FOLDER": str(self.folder),
                    "LIFEBOAT_CLOUD_API_PORT": str(port),
                    # Clouds start children while their gRPC threads run: gRPC's own fork handlers crash one in some hundred
                    # of them before it becomes its program (SIGSEGV in event_engine), and no child here uses gRPC before.
                    "GRPC_ENABLE_FORK_SUPPORT": "false",
                },
                ready=HttpProbe(f"http://{LOOPBACK}:{port}/health"),
                ready_seconds=CLOUD_READY_SECONDS,
                restart=RestartPolicy(),
                stop_seconds=CLOUD_STOP_SECONDS,
                stage=2,
                cwd=ROOT,
            )

        _, port = await self._supervisor.start_on_free_port(spec)
        self.routing.set_target(f"{cloud.value}_api", port)
        await self._proxy.apply()

    def _describe(self, dynamodb: DynamodbKind) -> GroundRecord:
        def address(endpoint: str) -> str:
            return f"{LOOPBACK}:{self.routing.endpoint_port(endpoint)}"

        return GroundRecord(
            pid=os.getpid(),
            started=own_start_time(),
            ready=False,
            dynamodb=dynamodb,
            token=self.token,
            endpoints=Endpoints(
                aws_api=f"http://{address('aws_api')}",
                aws=f"http://{address('aws')}",
                dynamodb=f"http://{address('dynamodb')}",
                rds_data=f"http://{address('rds_data')}",
                postgres=address("postgres"),
                gcp_api=f"http://{address('gcp_api')}",
                storage=f"http://{address('storage')}",
                pubsub=address("pubsub"),
                bigtable=address("bigtable"),
                spanner=address("spanner"),
                cloudflare_api=f"http://{address('cloudflare_api')}",
                r2=f"http://{address('r2')}",
                probe_proxy=f"http://{LOOPBACK}:{self.routing.internet_port}",
                control=f"http://{LOOPBACK}:{self._control_port}",
            ),
        )


def _process_name(cloud: Cloud) -> str:
    return f"cloud-{cloud.value}"


def _refuse_own(name: str) -> None:
    if name.startswith(ENDPOINT_PREFIX):
        raise GroundRequestError(f"route {name} is the ground's own: choose a name without {ENDPOINT_PREFIX}")
