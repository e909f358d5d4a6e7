"""The two kinds of clouds behind the plugins: on record, and a control plane over HTTP."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local.names import Cloud
from local.providers import injections
from local.providers.clouds import GroundCloud, RecordCloud
from local.providers.errors import (
    AlreadyExistsError,
    CancelledError,
    CloudRefusedError,
    CloudUnreachableError,
    InjectedError,
    NotFoundError,
)
from local.state import Resource, ResourceStore

QUEUE = Resource("aws", "aws:sqs/queue:Queue", "q", "jobs", "urn:q", {"name": "q"}, {"name": "q", "arn": "arn:q"})


class ControlPlane(ThreadingHTTPServer):
    """Answers as told and remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: ControlPlane

    def do_GET(self) -> None:
        self._answer(200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        self._answer(self.server.status, self.server.answer)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    server = ControlPlane()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ground_cloud(port: int, folder: Path) -> GroundCloud:
    return GroundCloud(Cloud.AWS, f"http://127.0.0.1:{port}", folder)


def test_a_record_keeps_what_exists(tmp_path: Path) -> None:
    cloud = RecordCloud(Cloud.AWS, tmp_path)
    cloud.create(QUEUE)
    assert cloud.read(QUEUE) == QUEUE
    with pytest.raises(AlreadyExistsError, match="aws holds aws:sqs/queue:Queue q already"):
        cloud.create(QUEUE)
    cloud.delete(QUEUE)
    cloud.delete(QUEUE)
    assert cloud.read(QUEUE) is None
    with pytest.raises(NotFoundError, match="pulumi refresh"):
        cloud.update(QUEUE, {})


def test_operations_go_to_the_control_plane_as_agreed(plane: ControlPlane, tmp_path: Path) -> None:
    plane.answer = {"outputs": QUEUE.outputs}
    cloud = ground_cloud(plane.server_port, tmp_path)
    assert cloud.create(QUEUE) == QUEUE.outputs
    assert cloud.update(QUEUE, {"name": "old"}) == QUEUE.outputs
    cloud.delete(QUEUE)
    assert [path for path, _ in plane.asked] == ["/resources/create", "/resources/update", "/resources/delete"]
    body = plane.asked[1][1]
    assert set(body) == {"type", "id", "name", "urn", "inputs", "outputs", "old_inputs"}
    assert body["old_inputs"] == {"name": "old"}


def test_a_read_joins_the_clouds_outputs_with_the_grounds_inputs(plane: ControlPlane, tmp_path: Path) -> None:
    cloud = ground_cloud(plane.server_port, tmp_path)
    plane.answer = {"outputs": {"arn": "arn:new"}}
    assert cloud.read(QUEUE) is None
    ResourceStore(tmp_path).create(QUEUE)
    read = cloud.read(QUEUE)
    assert read is not None
    assert (read.inputs, read.outputs) == (QUEUE.inputs, {"arn": "arn:new"})
    plane.status = 404
    assert cloud.read(QUEUE) is None


def test_a_refusal_reaches_the_user_as_it_is(plane: ControlPlane, tmp_path: Path) -> None:
    plane.status, plane.answer = 422, {"error": "the role may not be assumed"}
    with pytest.raises(CloudRefusedError, match=r'refused create of aws:sqs/queue:Queue "jobs".*may not be assumed'):
        ground_cloud(plane.server_port, tmp_path).create(QUEUE)
    plane.status = 409
    with pytest.raises(AlreadyExistsError):
        ground_cloud(plane.server_port, tmp_path).create(QUEUE)


@pytest.mark.parametrize("listens", [True, False], ids=["hangs", "refuses"])
def test_a_lost_cloud_is_named_within_seconds(listens: bool, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if listens:
            listener.listen()
        cloud = ground_cloud(listener.getsockname()[1], tmp_path)
        started = time.monotonic()
        with pytest.raises(CloudUnreachableError) as caught:
            cloud.create(QUEUE)
        assert time.monotonic() - started < 4
    text = str(caught.value)
    for part in ("aws does not answer", 'create of aws:sqs/queue:Queue "jobs"', "./lifeboat local status"):
        assert part in text


def test_an_injection_fails_the_operations_it_names_as_often_as_it_says(tmp_path: Path) -> None:
    never = threading.Event()
    injections.add(tmp_path, injections.Injection(QUEUE.type, "create", error="quota", times=1))
    injections.apply(tmp_path, QUEUE.type, "update", never)
    injections.apply(tmp_path, "aws:s3/bucket:Bucket", "create", never)
    with pytest.raises(InjectedError, match="quota"):
        injections.apply(tmp_path, QUEUE.type, "create", never)
    injections.apply(tmp_path, QUEUE.type, "create", never)


def test_an_injected_delay_ends_when_the_engine_cancels(tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    injections.add(tmp_path, injections.Injection("*", "create", delay_seconds=60))
    with pytest.raises(CancelledError):
        injections.apply(tmp_path, QUEUE.type, "create", cancelled)
    injections.clear(tmp_path)
    injections.apply(tmp_path, QUEUE.type, "create", cancelled)
