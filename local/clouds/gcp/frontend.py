"""A function's own HTTP port: takes requests for its URL and hands them to the revision that serves."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local.clouds.errors import FunctionNotFoundError
from local.clouds.gcp.errors import InvocationError
from local.clouds.gcp.instances import FunctionRequest, FunctionResponse

# HTTP requests to Cloud Run end at 32 MiB (https://cloud.google.com/run/quotas).
REQUEST_BYTES_LIMIT = 32 << 20
STOP_SECONDS = 2
# These belong to one connection, and the body arrives here decoded.
DROPPED_HEADERS = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "te", "trailer", "upgrade"}
)
REQUEST_HEADERS_DROPPED = DROPPED_HEADERS - {"content-encoding"} | {"accept-encoding"}


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield


class Frontend:
    """One listening port, started and stopped with its function."""

    def __init__(self, answer: Callable[[FunctionRequest], Awaitable[FunctionResponse]]) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            self._application,
            # Named, because uvicorn takes a bound method for an application of the older interface.
            interface="asgi3",
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer; connections made since the port was opened wait in its queue."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """Stop answering and close the port."""
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)
        self._socket.close()

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        body = bytearray()
        async for block in request.stream():
            body += block
            if len(body) > REQUEST_BYTES_LIMIT:
                return Response(f"a request body ends at {REQUEST_BYTES_LIMIT} bytes", status_code=413)
        query = f"?{request.url.query}" if request.url.query else ""
        headers = {name: value for name, value in request.headers.items() if name not in REQUEST_HEADERS_DROPPED}
        try:
            answer = await self._answer(
                FunctionRequest(request.method, f"{request.url.path}{query}", headers, bytes(body))
            )
        except InvocationError as error:
            return Response(str(error), status_code=error.status)
        except FunctionNotFoundError as error:
            return Response(str(error), status_code=404)
        kept = {name: value for name, value in answer.headers.items() if name not in DROPPED_HEADERS}
        return Response(answer.body, status_code=answer.status, headers=kept)
