"""The daemon's hold on the fault proxy: its process, and bringing it in line with the routing and the faults."""

import asyncio
import logging
import secrets
import sys

from local.errors import FaultProxyError
from local.faults.client import FaultProxyClient
from local.faults.state import Fault
from local.ground.routing import Routing
from local.names import Cloud
from local.paths import ROOT
from local.supervisor import CallProbe, ManagedProcess, ProcessSpec, ProcessState, RestartPolicy, Supervisor

logger = logging.getLogger(__name__)

NAME = "fault-proxy"
# The proxy of a ground that was just killed may hold the ports for a moment longer.
KEEP_PORTS_SECONDS = 1.0
READY_SECONDS = 30.0
RESTART_SECONDS = 15.0


class GroundProxy:
    """Owns the wanted state of the proxy."""

    def __init__(self, supervisor: Supervisor, routing: Routing) -> None:
        self.faults = {cloud: Fault() for cloud in Cloud}
        self._supervisor = supervisor
        self._routing = routing
        self._token = secrets.token_hex(16)
        self._process: ManagedProcess | None = None
        self._client: FaultProxyClient | None = None
        self._lock = asyncio.Lock()
        self._may_move_at = 0.0

    async def start(self) -> None:
        """Start the proxy; on return every public port is open."""
        self._may_move_at = asyncio.get_running_loop().time() + KEEP_PORTS_SECONDS
        self._process, _ = await self._supervisor.start_on_free_port(self._spec)

    async def apply(self) -> None:
        """Bring the proxy in line; on return routes and faults are in force. Raises FaultProxyError."""
        try:
            await self._send(may_move=False)
        except OSError:
            # It died and is being started again; its probe sends the state too, but maybe before this change of it.
            await self._until_ready()
            await self._send(may_move=False)

    async def _until_ready(self) -> None:
        assert self._process is not None
        try:
            async with asyncio.timeout(RESTART_SECONDS):
                await self._process.wait_state(ProcessState.READY)
        except TimeoutError:
            raise FaultProxyError(
                f"the fault proxy is {self._process.state} and did not come back within {RESTART_SECONDS:g} s:"
                f" see {self._process.log}"
            ) from None

    def _spec(self, admin_port: int) -> ProcessSpec:
        self._client = FaultProxyClient(admin_port, self._token)
        return ProcessSpec(
            name=NAME,
            command=(sys.executable, "-m", "local.faults", str(admin_port)),
            env={"LIFEBOAT_FAULTS_TOKEN": self._token},
            ready=CallProbe("the fault proxy to open its ports", self._probe),
            ready_seconds=READY_SECONDS,
            restart=RestartPolicy(),
            stage=1,
            cwd=ROOT,
        )

    async def _probe(self) -> bool:
        first = self._process is None
        try:
            # Ports move only in a start, before anybody was told of them.
            await self._send(may_move=first and asyncio.get_running_loop().time() > self._may_move_at)
        except OSError:
            return False
        except FaultProxyError as error:
            logger.warning("%s", error)
            return False
        return True

    async def _send(self, *, may_move: bool) -> None:
        assert self._client is not None
        # One at a time, and the state read inside: the last one sent is the newest.
        async with self._lock:
            ports = await self._client.apply(self._routing.state(self.faults, may_move=may_move))
            self._routing.adopt(ports)
