"""The daemon's control API on a loopback port: what GroundClient calls."""

import contextlib
import hmac
import json
import logging
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from local.errors import LocalError
from local.faults.state import Fault
from local.ground.client import TOKEN_HEADER
from local.ground.daemon import GroundDaemon
from local.names import Cloud, FaultMode

logger = logging.getLogger(__name__)


class ControlServer(uvicorn.Server):
    """A uvicorn server that leaves the signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def control_server(daemon: GroundDaemon) -> ControlServer:
    """Return the control API's server; give it its listening socket."""
    return ControlServer(
        uvicorn.Config(
            _TokenRequired(_application(daemon), daemon.token),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )


class _TokenRequired:
    """Refuses requests without the ground's token, as any page in a browser can send one to a loopback port."""

    def __init__(self, application: ASGIApp, token: str) -> None:
        self._application = application
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Request(scope).headers.get(TOKEN_HEADER, "") if scope["type"] == "http" else ""
        if hmac.compare_digest(given, self._token):
            await self._application(scope, receive, send)
        else:
            await _error(403, "the token of ground.json is missing or wrong")(scope, receive, send)


def _application(daemon: GroundDaemon) -> Starlette:
    async def status(_: Request) -> Response:
        processes = [
            {
                "name": process.name,
                "pid": process.pid,
                "state": process.state.value,
                "restarts": process.restarts,
                "exit_code": process.exit_code,
            }
            for process in daemon.processes()
        ]
        return JSONResponse(
            {
                "ready": daemon.ready,
                "processes": processes,
                "faults": {cloud.value: mode.value for cloud, mode in daemon.faults.items()},
                "names": dict(daemon.routing.names),
            }
        )

    async def fault(request: Request) -> Response:
        cloud, body = Cloud(request.path_params["cloud"]), await request.json()
        await daemon.fault(cloud, Fault(FaultMode(body["mode"]), int(body.get("latency_ms", 0))))
        return Response(status_code=204)

    async def restore(request: Request) -> Response:
        await daemon.restore(Cloud(request.path_params["cloud"]))
        return Response(status_code=204)

    async def route(request: Request) -> Response:
        body = await request.json()
        port = await daemon.route(request.path_params["name"], Cloud(body["cloud"]), int(body["port"]))
        return JSONResponse({"public_port": port})

    async def remove_route(request: Request) -> Response:
        await daemon.remove_route(request.path_params["name"])
        return Response(status_code=204)

    async def publish(request: Request) -> Response:
        await daemon.publish_name(request.path_params["hostname"], int((await request.json())["port"]))
        return Response(status_code=204)

    async def withdraw(request: Request) -> Response:
        await daemon.withdraw_name(request.path_params["hostname"])
        return Response(status_code=204)

    async def stop(_: Request) -> Response:
        daemon.stop_requested.set()
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/status", status),
            Route("/faults/{cloud}", fault, methods=["PUT"]),
            Route("/faults/{cloud}", restore, methods=["DELETE"]),
            Route("/routes/{name:path}", route, methods=["PUT"]),
            Route("/routes/{name:path}", remove_route, methods=["DELETE"]),
            Route("/names/{hostname}", publish, methods=["PUT"]),
            Route("/names/{hostname}", withdraw, methods=["DELETE"]),
            Route("/stop", stop, methods=["POST"]),
        ],
        exception_handlers={LocalError: _refused, KeyError: _malformed, ValueError: _malformed},
    )


async def _refused(_: Request, error: Exception) -> Response:
    logger.warning("%s", error)
    return _error(422, str(error))


async def _malformed(_: Request, error: Exception) -> Response:
    kind = "is not JSON" if isinstance(error, json.JSONDecodeError) else f"has a wrong or missing value: {error}"
    return _error(400, f"the request {kind}")


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)
