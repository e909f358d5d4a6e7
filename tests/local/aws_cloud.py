"""Drives the AWS cloud of a running ground as its provider plugin and its users would."""

import hashlib
import json
import os
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil

from local.ground.client import GroundClient

REGION = "eu-central-1"
ACCOUNT = "123456789012"
FUNCTION = "aws:lambda/function:Function"
MAPPING = "aws:lambda/eventSourceMapping:EventSourceMapping"
QUEUE = "aws:sqs/queue:Queue"
BUCKET = "aws:s3/bucket:Bucket"
NOTIFICATION = "aws:s3/bucketNotification:BucketNotification"
TABLE = "aws:dynamodb/table:Table"
HANDLER = Path(__file__).with_name("aws_toy_handler.py")


class RefusedError(Exception):
    """The control plane answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """A function's answer; `failed` when it is an error object."""

    status: int
    failed: bool
    body: Any


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def queue_outputs(name: str) -> dict[str, Any]:
    return {"arn": arn("sqs", name), "name": name}


def table_inputs(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "hashKey": "entity",
        "attributes": [{"name": "entity", "type": "S"}],
        "billingMode": "PAY_PER_REQUEST",
        "streamEnabled": True,
        "streamViewType": "NEW_AND_OLD_IMAGES",
        "ttl": {"attributeName": "expires", "enabled": True},
    } | changes


def table_outputs(name: str) -> dict[str, Any]:
    return {"arn": arn("dynamodb", f"table/{name}"), "name": name}


def wait_for(condition: Callable[[], Any], limit_seconds: float = 20.0) -> Any:
    """Return the condition's first true value; fail when there is none within the limit."""
    deadline = time.monotonic() + limit_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not so within {limit_seconds} s"
        time.sleep(0.02)
    return value


class AwsCloud:
    """One ground's AWS; everything that it made is taken away by `clean`."""

    def __init__(self, ground: GroundClient, scratch: Path) -> None:
        self.ground = ground
        self.scratch = scratch
        self._http = httpx.Client(base_url=ground.endpoints.aws_api, timeout=90.0)
        self._made: list[tuple[str, str]] = []
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._make_client(service)
        return self._clients[service]

    def _make_client(self, service: str) -> Any:
        environment = self.ground.environment()
        endpoint = environment["AWS_ENDPOINT_URL_DYNAMODB" if service.startswith("dynamodb") else "AWS_ENDPOINT_URL"]
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=endpoint,
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )

    def operate(self, operation: str, kind: str, name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
        body = {"type": kind, "id": name, "name": name, "urn": f"urn:{name}", "inputs": inputs, "outputs": outputs}
        answer = self._http.post(f"/resources/{operation}", json=body)
        if answer.status_code != 200:
            raise RefusedError(answer.status_code, answer.json()["error"])
        return answer.json()["outputs"]

    def create(self, kind: str, name: str, inputs: dict[str, Any], outputs: dict[str, Any] | None = None) -> None:
        self.operate("create", kind, name, inputs, outputs or {})
        self._made.append((kind, name))

    def update(self, kind: str, name: str, inputs: dict[str, Any], outputs: dict[str, Any] | None = None) -> None:
        self.operate("update", kind, name, inputs, outputs or {})

    def delete(self, kind: str, name: str) -> None:
        self.operate("delete", kind, name, {}, {})

    def exists(self, kind: str, name: str) -> bool:
        return (kind, name) in [(row["type"], row["id"]) for row in self._http.get("/resources").json()]

    def clean(self) -> None:
        for kind, name in reversed(self._made):
            self.delete(kind, name)
        self._made.clear()

    def archive(self, source: str | None = None, package: str = "toy") -> dict[str, str]:
        """Pack a handler's source (the toy's by default) as the program packs functions."""
        text = HANDLER.read_text() if source is None else source
        path = self.scratch / f"{hashlib.sha256(f'{package}{text}'.encode()).hexdigest()}.zip"
        with zipfile.ZipFile(path, "w") as opened:
            opened.writestr(f"{package}/__init__.py", "")
            opened.writestr(f"{package}/app.py", text)
        return {"archive": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}

    def function(self, name: str, **changes: Any) -> None:
        """Deploy the toy function; it writes what it gets to `records(name)`."""
        self.create(FUNCTION, name, self.function_inputs(name, **changes), {"arn": arn("lambda", f"function:{name}")})

    def function_inputs(self, name: str, **changes: Any) -> dict[str, Any]:
        variables = {"RECORDS_FILE": str(self._records_file(name)), **changes.pop("variables", {})}
        return {
            "name": name,
            "handler": "toy.app.handle",
            "runtime": "python3.12",
            "timeout": 10.0,
            "memorySize": 256.0,
            "code": self.archive(),
            "environment": {"variables": variables},
        } | changes

    def queue(self, name: str, **inputs: Any) -> str:
        """Make a queue and return its URL."""
        self.create(QUEUE, name, {"name": name, **inputs}, queue_outputs(name))
        return str(self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"])

    def table(self, name: str) -> str:
        """Make a table with a stream and a time to live; return the stream's ARN."""
        self.create(TABLE, name, table_inputs(name), table_outputs(name))
        return arn("dynamodb", f"table/{name}/stream/2026-01-01T00:00:00.000")

    def mapping(self, source_arn: str, function: str, **inputs: Any) -> str:
        name = f"{function}-mapping"
        self.create(MAPPING, name, {"eventSourceArn": source_arn, "functionName": function, **inputs})
        return name

    def put(self, table: str, entity: str, number: int, **more: str) -> None:
        item = {"entity": {"S": entity}, "number": {"N": str(number)}, "e": {"B": b"\x00\xff"}}
        item |= {name: {"S": value} for name, value in more.items()}
        self.client("dynamodb").put_item(TableName=table, Item=item)

    def invoke(self, name: str, event: Any = None) -> Answer:
        answer = self._http.post(f"/functions/{name}/invoke", json=event or {})
        return Answer(answer.status_code, "X-Amz-Function-Error" in answer.headers, answer.json())

    def statistics(self, name: str) -> dict[str, Any]:
        return dict(self._http.get("/functions/statistics").json()["functions"][name])

    def source_statistics(self, mapping: str) -> dict[str, Any]:
        sources = self._http.get("/functions/statistics").json()["event_sources"]
        return dict(next(source for source in sources if source["id"] == mapping))

    def records(self, name: str) -> list[dict[str, Any]]:
        """Return what the toy function was given, one entry a record and try."""
        path = self._records_file(name)
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def messages(self, url: str) -> list[dict[str, Any]]:
        """Take all messages that are visible on a queue."""
        taken: list[dict[str, Any]] = []
        while found := self.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            taken += found
        return taken

    def process(self) -> psutil.Process:
        """Return the cloud's process."""
        return next(
            process
            for process in psutil.process_iter()
            if self._is_cloud(process) and process.environ().get("LIFEBOAT_GROUND_FOLDER") == str(self.ground.folder)
        )

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Kill the cloud's process outright, run the block, and wait until a new one answers."""
        process = self.process()
        children = process.children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        gone, left = psutil.wait_procs([process, *children], timeout=10)
        assert not left, f"outlived the cloud: {left}, gone: {gone}"
        yield
        # The ground starts what died again; the public port refuses until then.
        wait_for(self._healthy, 60.0)

    def _healthy(self) -> bool:
        try:
            return self._http.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def _records_file(self, name: str) -> Path:
        return self.scratch / f"{name}.jsonl"

    @staticmethod
    def _is_cloud(process: psutil.Process) -> bool:
        try:
            return process.cmdline()[1:] == ["-m", "local.clouds", "aws"]
        except psutil.Error:
            return False
