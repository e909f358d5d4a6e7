"""The ground as a whole: its life, its faults over real emulators, its names and its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from ground_support import gone, until

from local.errors import GroundBusyError, GroundNotRunningError, GroundRequestError, GroundStartError
from local.ground.client import GroundClient, start_ground
from local.ground.descendants import descendants
from local.ground.record import RECORD_NAME, read_record
from local.names import Cloud, FaultMode
from local.supervisor import free_port

EMULATORS = {"moto-aws", "moto-r2", "pubsubd", "bigtabled", "fake-gcs-server"}


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *descendants(pid)]


def http_ok(url: str, limit_seconds: float = 5.0) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=limit_seconds) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def bare_ground(tmp_path: Path) -> Iterator[GroundClient]:
    """A ground of the test's own, without clouds; ended whatever the test did to it."""
    client = start_ground(tmp_path / "own", owned=True, clouds=())
    yield client
    if not gone(client.pid):
        client.stop()


@pytest.fixture
def page() -> Iterator[int]:
    """The port of a small web server that says what it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            seen = f"{self.command} {self.path} {self.headers['Host']} {len(body)}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(seen)))
            self.end_headers()
            self.wfile.write(seen)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def received(connection: socket.socket, end: bytes) -> bytes:
    """Return what came up to and with `end`; fail when the connection ends before."""
    data = b""
    while end not in data:
        more = connection.recv(1000)
        assert more, f"the connection ended after {data!r}"
        data += more
    return data


# --- what is there


def test_everything_runs_and_answers(ground: GroundClient) -> None:
    status = ground.status()
    assert status.ready and GroundClient.open(ground.folder).pid == ground.pid
    names = {process.name for process in status.processes}
    assert names >= EMULATORS | {"fault-proxy", "cloud-aws", "cloud-gcp", "cloud-cloudflare"}
    assert {process.state for process in status.processes} == {"ready"}
    assert ("dynamodb-local" in names) == (ground.dynamodb == "local")
    for api in (ground.endpoints.aws_api, ground.endpoints.gcp_api, ground.endpoints.cloudflare_api):
        assert http_ok(f"{api}/health")
    for host_port in (ground.endpoints.pubsub, ground.endpoints.bigtable):
        host, port = host_port.split(":")
        socket.create_connection((host, int(port)), 5).close()
    assert json.loads((ground.folder / RECORD_NAME).read_text())["dynamodb"] == ground.dynamodb
    assert (ground.folder / RECORD_NAME).stat().st_mode & 0o077 == 0


def test_environment_reaches_the_emulators(ground: GroundClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ground.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    sqs = boto3.client("sqs", region_name="eu-central-1")
    assert sqs.create_queue(QueueName="environment")["QueueUrl"].startswith(ground.endpoints.aws)
    dynamodb = boto3.client("dynamodb", region_name="eu-central-1")
    dynamodb.create_table(
        TableName="environment",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    assert (
        len(
            boto3.client("dynamodbstreams", region_name="eu-central-1").list_streams(TableName="environment")["Streams"]
        )
        == 1
    )
    dynamodb.delete_table(TableName="environment")


# --- faults


def s3(url: str) -> "boto3.client":  # type: ignore[valid-type]
    once = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=1)
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b", config=once
    )


@pytest.mark.parametrize("mode", [FaultMode.KILL, FaultMode.BLACK_HOLE, FaultMode.HANG])
def test_a_lost_cloud_takes_no_other_and_comes_back_with_its_data(
    ground: GroundClient, no_faults: None, mode: FaultMode
) -> None:
    aws, r2 = s3(ground.endpoints.aws), s3(ground.endpoints.r2)
    for store in (aws, r2):
        store.create_bucket(Bucket=f"bucket-{mode}")
        store.put_object(Bucket=f"bucket-{mode}", Key="k", Body=b"kept")
    before = {process.name: process.pid for process in ground.status().processes}

    ground.fault(Cloud.AWS, mode)

    assert ground.status().faults[Cloud.AWS] is mode
    with pytest.raises((BotoCoreError, ClientError)):
        aws.get_object(Bucket=f"bucket-{mode}", Key="k")
    for url in (ground.endpoints.aws_api + "/health", ground.endpoints.dynamodb):
        assert not http_ok(url, limit_seconds=0.5)
    assert r2.get_object(Bucket=f"bucket-{mode}", Key="k")["Body"].read() == b"kept"
    assert http_ok(f"{ground.endpoints.gcp_api}/health") and http_ok(f"{ground.endpoints.cloudflare_api}/health")
    during = {process.name: process.pid for process in ground.status().processes}
    assert (during["cloud-aws"] is None) == (mode is FaultMode.KILL)
    assert all(during[name] == before[name] for name in before if name != "cloud-aws")

    ground.restore(Cloud.AWS)

    assert http_ok(f"{ground.endpoints.aws_api}/health")
    assert aws.get_object(Bucket=f"bucket-{mode}", Key="k")["Body"].read() == b"kept"
    after = {process.name: process.pid for process in ground.status().processes}
    assert (after["cloud-aws"] == before["cloud-aws"]) == (mode is not FaultMode.KILL)


def test_a_slow_cloud_answers_later(ground: GroundClient, no_faults: None) -> None:
    url = f"{ground.endpoints.cloudflare_api}/health"
    assert http_ok(url)
    ground.fault(Cloud.CLOUDFLARE, FaultMode.SLOW, latency_ms=150)
    begun = time.monotonic()
    assert http_ok(url)
    assert time.monotonic() - begun >= 0.3
    ground.fault(Cloud.CLOUDFLARE, FaultMode.NONE)
    assert ground.status().faults[Cloud.CLOUDFLARE] is FaultMode.NONE


def test_a_killed_cloud_that_gets_another_fault_runs_again(ground: GroundClient, no_faults: None) -> None:
    ground.fault(Cloud.GCP, FaultMode.KILL)
    ground.fault(Cloud.GCP, FaultMode.KILL)
    ground.fault(Cloud.GCP, FaultMode.SLOW, latency_ms=1)
    assert http_ok(f"{ground.endpoints.gcp_api}/health")


def test_a_cloud_that_dies_by_itself_comes_back(ground: GroundClient) -> None:
    def cloud() -> tuple[int | None, str, int]:
        process = next(p for p in ground.status().processes if p.name == "cloud-gcp")
        return process.pid, process.state, process.restarts

    pid, _, restarts = cloud()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: cloud()[1:] == ("ready", restarts + 1), "the cloud's return")
    assert http_ok(f"{ground.endpoints.gcp_api}/health")


def test_a_fault_proxy_that_dies_comes_back_with_ports_and_faults(ground: GroundClient, no_faults: None) -> None:
    ground.fault(Cloud.AWS, FaultMode.BLACK_HOLE)
    proxy = next(process for process in ground.status().processes if process.name == "fault-proxy")
    assert proxy.pid is not None
    os.kill(proxy.pid, signal.SIGKILL)
    until(lambda: http_ok(f"{ground.endpoints.gcp_api}/health"), "the proxy's return")
    assert not http_ok(f"{ground.endpoints.aws_api}/health")
    assert ground.route("after-restart", Cloud.GCP, free_port()) > 0
    ground.remove_route("after-restart")


# --- routes and names


def test_routes_keep_their_port_and_follow_their_clouds_faults(
    ground: GroundClient, no_faults: None, page: int
) -> None:
    dead = ground.route("instance a/1", Cloud.GCP, free_port())
    public = ground.route("instance a/1", Cloud.GCP, page)
    assert public == dead and public != page
    assert http_ok(f"http://127.0.0.1:{public}/")
    ground.fault(Cloud.GCP, FaultMode.BLACK_HOLE)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", public), 5)
    ground.restore(Cloud.GCP)
    assert http_ok(f"http://127.0.0.1:{public}/")
    ground.remove_route("instance a/1")
    ground.remove_route("instance a/1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", public), 5)
    with pytest.raises(GroundRequestError, match="the ground's own"):
        ground.route("endpoint:aws", Cloud.AWS, page)


def test_published_names_are_the_grounds_internet(ground: GroundClient, page: int) -> None:
    ground.publish_name("recommend.lifeboat.example", page)
    assert ground.names()["recommend.lifeboat.example"] == page
    with httpx.Client(proxy=ground.endpoints.probe_proxy) as client:
        answer = client.get("http://recommend.lifeboat.example/ready?x=1")
        assert answer.text == "GET /ready?x=1 recommend.lifeboat.example 0"
        body = os.urandom(3 << 20)
        answer = client.post("http://RECOMMEND.lifeboat.example./upload", content=body)
        assert answer.text.startswith("POST /upload") and answer.text.endswith(str(len(body)))
        answer = client.get("http://nobody.example/")
        assert answer.status_code == 502
        assert "no such name in the ground: nobody.example" in answer.text
        ground.publish_name("dead.example", free_port())
        answer = client.get("http://dead.example/")
        assert answer.status_code == 502 and "dead.example refused the connection" in answer.text
    for name in ("recommend.lifeboat.example", "dead.example", "never.example"):
        ground.withdraw_name(name)
    assert ground.names() == {}


def test_connect_and_nonsense_at_the_grounds_internet(ground: GroundClient, page: int) -> None:
    ground.publish_name("tunnel.example", page)
    port = int(ground.endpoints.probe_proxy.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 5) as tunnel:
        tunnel.sendall(b"CONNECT tunnel.example:443 HTTP/1.1\r\nHost: tunnel.example:443\r\n\r\n")
        assert received(tunnel, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        tunnel.sendall(b"GET /inside HTTP/1.1\r\nHost: tunnel.example\r\n\r\n")
        received(tunnel, b"GET /inside tunnel.example")
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(b"GET /origin-form HTTP/1.1\r\nHost: x\r\n\r\n")
        assert received(client, b"not a request that this proxy takes").startswith(b"HTTP/1.1 400")
    ground.withdraw_name("tunnel.example")


def test_control_needs_the_token(ground: GroundClient) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{ground.endpoints.control}/status", timeout=5)


def test_refused_requests_say_why(ground: GroundClient) -> None:
    with pytest.raises(GroundRequestError, match="wrong or missing value"):
        ground._request("PUT", "/faults/aws", {"mode": "flood"})
    with pytest.raises(GroundRequestError, match="azure"):
        ground._request("DELETE", "/faults/azure")


# --- life and death


def test_ports_and_names_survive_restarts_and_follow_a_port_that_must_move(tmp_path: Path, page: int) -> None:
    first = start_ground(tmp_path, owned=True, clouds=())
    endpoints, public = first.endpoints, first.route("kept", Cloud.AWS, page)
    first.publish_name("kept.example", public)
    assert http_ok(f"http://127.0.0.1:{public}/")
    pids = [process.pid for process in family(first.pid)]
    first.stop()
    assert all(gone(pid) for pid in pids)
    with pytest.raises(GroundNotRunningError, match="has no ground"):
        GroundClient.open(tmp_path)

    second = start_ground(tmp_path, owned=True, clouds=())
    assert second.endpoints.aws == endpoints.aws and second.endpoints.probe_proxy == endpoints.probe_proxy
    assert second.names() == {"kept.example": public}
    # The old target may be anybody's by now: nothing is forwarded until its owner asks again.
    assert not http_ok(f"http://127.0.0.1:{public}/")
    assert second.route("kept", Cloud.AWS, page) == public
    assert http_ok(f"http://127.0.0.1:{public}/")
    second.stop()

    with socket.create_server(("127.0.0.1", public)):
        third = start_ground(tmp_path, owned=True, clouds=())
        moved = third.route("kept", Cloud.AWS, page)
        assert moved != public and third.names() == {"kept.example": moved}
        assert third.endpoints.aws == endpoints.aws
        third.stop()


def test_kill_minus_nine_leaves_nothing(bare_ground: GroundClient) -> None:
    everything = [process.pid for process in family(bare_ground.pid)]
    assert len(everything) > len(EMULATORS)
    os.kill(bare_ground.pid, signal.SIGKILL)
    for pid in everything:
        until(lambda pid=pid: gone(pid), f"the end of process {pid}")  # type: ignore[misc]
    with pytest.raises(GroundNotRunningError, match="stale"):
        GroundClient.open(bare_ground.folder)
    with pytest.raises(GroundNotRunningError, match="no longer answers"):
        bare_ground.status()


def test_a_record_of_another_process_or_version_is_no_ground(tmp_path: Path, ground: GroundClient) -> None:
    # The pid lives, but has come to another process, which started later: this one.
    record = json.loads((ground.folder / RECORD_NAME).read_text())
    stale = record | {"pid": os.getpid(), "started": record["started"] - 3600}
    (tmp_path / RECORD_NAME).write_text(json.dumps(stale))
    with pytest.raises(GroundNotRunningError, match=f"process {os.getpid()} has ended"):
        read_record(tmp_path)
    (tmp_path / RECORD_NAME).write_text("{}")
    with pytest.raises(GroundNotRunningError, match="not written by this version"):
        read_record(tmp_path)


OWNER = """
    import sys
    from pathlib import Path
    from local.ground.client import start_ground
    client = start_ground(Path(sys.argv[1]), owned=sys.argv[2] == "owned", clouds=())
    print(client.pid, flush=True)
    sys.stdin.read()
"""


def starter(folder: Path, kind: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(folder), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_an_owned_ground_dies_with_its_owner_and_a_detached_one_does_not(tmp_path: Path) -> None:
    owned = starter(tmp_path / "owned", "owned")
    pid = int(first_line(owned))
    processes = [process.pid for process in family(pid)]
    with pytest.raises(GroundBusyError, match="belongs to another process"):
        start_ground(tmp_path / "owned", owned=True)
    end(owned)
    for number in processes:
        until(lambda number=number: gone(number), f"the end of process {number}")  # type: ignore[misc]

    detached = starter(tmp_path / "detached", "detached")
    pid = int(first_line(detached))
    end(detached)
    client = GroundClient.open(tmp_path / "detached")
    assert client.pid == pid and client.status().ready
    assert start_ground(tmp_path / "detached", clouds=()).pid == pid
    client.stop()
    until(lambda: gone(pid), "the daemon's end")


def test_two_starts_at_once_give_one_ground(tmp_path: Path) -> None:
    starters = [starter(tmp_path, "detached") for _ in range(2)]
    pids = {int(first_line(process)) for process in starters}
    assert len(pids) == 1
    client = GroundClient.open(tmp_path)
    assert {client.pid} == pids
    for process in starters:
        end(process)
    client.stop()


def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    broken = tools / "pubsubd"
    broken.write_text("#!/bin/sh\necho pubsub has no legs\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("LIFEBOAT_TOOLS", str(tools))
    said: list[str] = []
    with pytest.raises(GroundStartError, match=r"(?s)pubsubd ended with exit code 3.*pubsub has no legs"):
        start_ground(tmp_path / "ground", said.append, owned=True, clouds=())
    assert said[0] == "starting the fault proxy"
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path / "ground") in (p.info["cmdline"] or [])]
    assert not (tmp_path / "ground" / RECORD_NAME).exists()
