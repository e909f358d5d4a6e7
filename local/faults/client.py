"""The ground daemon's side of the fault proxy's admin port."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass

from local.errors import FaultProxyError
from local.faults.state import ProxyState
from local.supervisor.ports import LOOPBACK

APPLY_SECONDS = 10.0
LINE_BYTES_LIMIT = 16 << 20


@dataclass(frozen=True)
class PublicPorts:
    """Where the proxy listens: by route name, and the ground's internet."""

    routes: Mapping[str, int]
    internet: int


class FaultProxyClient:
    """Sends wanted states to the proxy."""

    def __init__(self, admin_port: int, token: str) -> None:
        self._admin_port = admin_port
        self._token = token

    async def apply(self, state: ProxyState) -> PublicPorts:
        """Bring the proxy in line and return its ports; on return every fault is in force.

        Raises FaultProxyError with the proxy's reason, ConnectionError when it is not there.
        """
        async with asyncio.timeout(APPLY_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, self._admin_port, limit=LINE_BYTES_LIMIT)
            try:
                request = {"token": self._token, "state": state.encode()}
                writer.write(json.dumps(request).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
        if not line:
            raise ConnectionResetError("the fault proxy closed the connection without an answer")
        answer = json.loads(line)
        if "error" in answer:
            raise FaultProxyError(f"fault proxy: {answer['error']}")
        return PublicPorts(routes=answer["public_ports"], internet=int(answer["internet_port"]))
