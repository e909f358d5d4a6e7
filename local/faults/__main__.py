"""The fault proxy's process: `python -m local.faults ADMIN_PORT`, with its token in LIFEBOAT_FAULTS_TOKEN.

The admin port takes one JSON line a connection, the wanted ProxyState and the token, and answers with one: the public
port of every route, or an error.
"""

import asyncio
import hmac
import json
import os
import resource
import sys
from typing import Any

import uvloop

from local.errors import LocalError
from local.faults.listener import Listener
from local.faults.state import Fault, ProxyState
from local.ground.internet import Internet
from local.supervisor import stopped_by_signals
from local.supervisor.ports import LOOPBACK

# A state of some hundred routes is some tens of KB.
LINE_BYTES_LIMIT = 16 << 20
OPEN_FILES = 65_536


class FaultProxy:
    """Holds the listeners in line with the wanted state."""

    def __init__(self) -> None:
        self._listeners: dict[str, Listener] = {}
        self._internet = Internet()

    async def apply(self, state: ProxyState) -> dict[str, Any]:
        """Bring everything in line. Raises FaultProxyError when a port is taken; applying again is safe."""
        for name in self._listeners.keys() - {route.name for route in state.routes}:
            self._listeners.pop(name).close()
        # Cuts first: a cloud must not be half dead for as long as other ports take to open.
        for route in sorted(state.routes, key=lambda route: not _fault(state, route.cloud).cut):
            fault = _fault(state, route.cloud)
            known = self._listeners.get(route.name)
            if known is not None and (known.route.cloud, known.public_port) == (route.cloud, route.public_port):
                known.update(route, fault)
                continue
            if known is not None:
                known.close()
            self._listeners[route.name] = Listener(route, fault, may_move=state.may_move)
        internet_port = await self._internet.apply(state.names, state.internet_port, may_move=state.may_move)
        ports = {name: listener.public_port for name, listener in self._listeners.items()}
        return {"public_ports": ports, "internet_port": internet_port}


def _fault(state: ProxyState, cloud: object) -> Fault:
    return next((fault for known, fault in state.faults.items() if known == cloud), Fault())


async def serve(admin_port: int, token: str) -> None:
    """Serve until SIGTERM."""
    proxy = FaultProxy()
    lock = asyncio.Lock()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            if not hmac.compare_digest(str(request["token"]), token):
                reply: dict[str, Any] = {"error": "wrong token"}
            else:
                async with lock:
                    reply = await proxy.apply(ProxyState.decode(request["state"]))
        except (LocalError, OSError) as error:
            reply = {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            reply = {"error": f"not a wanted state: {error!r}"}
        writer.write(json.dumps(reply).encode() + b"\n")
        writer.close()

    async with stopped_by_signals():
        server = await asyncio.start_server(answer, LOOPBACK, admin_port, limit=LINE_BYTES_LIMIT)
        await server.serve_forever()


def main() -> None:
    """Raise the limit of open files, as every connection holds two, then serve."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), os.environ["LIFEBOAT_FAULTS_TOKEN"]))


if __name__ == "__main__":
    main()
