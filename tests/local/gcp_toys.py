"""A Google cloud with functions that a test writes: resources over the control plane, calls read back from a file."""

import base64
import hashlib
import io
import json
import os
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from local.ground.client import GroundClient

WAIT_SECONDS = 30.0
BUCKET = "gcp:storage/bucket:Bucket"
OBJECT = "gcp:storage/bucketObject:BucketObject"
NOTIFICATION = "gcp:storage/notification:Notification"
TOPIC = "gcp:pubsub/topic:Topic"
SUBSCRIPTION = "gcp:pubsub/subscription:Subscription"
TABLE = "gcp:bigtable/table:Table"
FUNCTION = "gcp:cloudfunctionsv2/function:Function"

# Behaves as a message's attributes tell it, and notes every call in a file before it does.
TOY_MAIN = """
import base64, json, os, time
from functions.toy import VERSION

CALLS = os.path.join(os.environ["TOY_FOLDER"], os.environ["K_SERVICE"] + ".calls")

def _note(**fields):
    line = json.dumps({"time": time.time(), "version": VERSION, **fields}) + "\\n"
    with open(CALLS, "a") as file:
        file.write(line)

def _calls(identity):
    with open(CALLS) as file:
        return sum(json.loads(line).get("id") == identity for line in file)

def _behave(message):
    attributes = message.get("attributes") or {}
    time.sleep(float(attributes.get("sleep", 0)))
    calls = _calls(message["messageId"])
    if calls <= int(attributes.get("crash", 0)):
        os._exit(3)
    if calls <= int(attributes.get("fail", 0)):
        raise RuntimeError("told to fail")

def push(request):
    body = request.get_json()
    message = body["message"]
    _note(id=message["messageId"], body=body, headers={k.lower(): v for k, v in request.headers.items()},
          text=base64.b64decode(message.get("data", "")).decode(), key=message.get("orderingKey", ""))
    _behave(message)
    return "", 204

def event(cloud_event):
    data = cloud_event.data
    message = data.get("message") if isinstance(data, dict) else None
    attributes = {name: cloud_event[name] for name in ("id", "type", "source")}
    text = base64.b64decode(message.get("data", "")).decode() if message else ""
    _note(**attributes, data=data, text=text)
    if message:
        _behave(message)

def hello(request):
    time.sleep(float(request.args.get("sleep", 0)))
    return VERSION
"""


def archive(version: str = "1", main: str = TOY_MAIN, package: bool = True) -> bytes:
    """Return a zip file with main.py and, unless told otherwise, a `functions` package."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("main.py", main)
        if package:
            packed.writestr("functions/__init__.py", "")
            packed.writestr("functions/toy.py", f"VERSION = {version!r}\n")
    return buffer.getvalue()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """Return the condition's first true value; fail after a limit."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class ToyCloud:
    """One test's own project, bucket and functions in the ground's Google cloud."""

    ground: GroundClient
    folder: Path
    project: str = field(default_factory=lambda: f"toy-{uuid.uuid4().hex[:8]}")
    made: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.http = httpx.Client(timeout=90, trust_env=False)
        channel = grpc.insecure_channel(self.ground.endpoints.pubsub)
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        self.code = f"{self.project}-code"

    def operation(self, verb: str, kind: str, identity: str, inputs: Any, outputs: Any) -> httpx.Response:
        """Call the control plane."""
        body = {"type": kind, "id": identity, "name": identity, "urn": "", "inputs": inputs, "outputs": outputs}
        return self.http.post(f"{self.ground.endpoints.gcp_api}/resources/{verb}", json=body)

    def create(self, kind: str, identity: str, inputs: Any, outputs: Any = None) -> None:
        """Create a resource that must succeed; it is deleted after the test."""
        answer = self.operation("create", kind, identity, inputs, outputs or {})
        assert answer.status_code == 200, answer.text
        self.made.append((kind, identity))

    def clear(self) -> None:
        """Delete what the test made, newest first."""
        for kind, identity in reversed(self.made):
            answer = self.operation("delete", kind, identity, {}, {})
            assert answer.status_code == 200, answer.text
        self.http.close()

    def topic(self, name: str) -> str:
        """Create a topic and return its full name."""
        full = f"projects/{self.project}/topics/{name}"
        self.create(TOPIC, full, {"name": name})
        return full

    def subscription(self, name: str, topic: str, **inputs: Any) -> str:
        """Create a subscription and return its full name."""
        full = f"projects/{self.project}/subscriptions/{name}"
        self.create(SUBSCRIPTION, full, {"name": name, "topic": topic, **inputs})
        return full

    def bucket(self, name: str, **inputs: Any) -> str:
        """Create a versioned bucket and return its name."""
        full = f"{self.project}-{name}"
        wanted = {"name": full, "versioning": {"enabled": True}, "forceDestroy": True, **inputs}
        self.create(BUCKET, full, wanted)
        return full

    def upload_code(self, data: bytes) -> str:
        """Put an archive into the code bucket as the program does, and return its object's name."""
        if (BUCKET, self.code) not in self.made:
            self.bucket("code")
        digest = hashlib.sha256(data).hexdigest()
        path = self.folder / f"{digest}.zip"
        path.write_bytes(data)
        name = f"{digest[:12]}.zip"
        if (OBJECT, f"{self.code}/{name}") in self.made:
            return name
        self.create(
            OBJECT,
            f"{self.code}/{name}",
            {"bucket": self.code, "name": name, "source": {"archive": str(path), "sha256": digest}},
        )
        return name

    def function_inputs(self, code: str, entry_point: str, **service: Any) -> dict[str, Any]:
        """Return the inputs of a toy function."""
        variables = {"TOY_FOLDER": str(self.folder), **service.pop("environmentVariables", {})}
        return {
            "location": "europe-west4",
            "buildConfig": {
                "runtime": "python312",
                "entryPoint": entry_point,
                "source": {"storageSource": {"bucket": self.code, "object": code}},
            },
            "serviceConfig": {"environmentVariables": variables, "maxInstanceRequestConcurrency": 8, **service},
        }

    def function_id(self, name: str) -> str:
        """Return a function's full name."""
        return f"projects/{self.project}/locations/europe-west4/functions/{name}"

    def url(self, name: str) -> str:
        """Return a function's URL."""
        return f"https://{name}-{self.project}.a.run.app"

    def function(
        self, name: str, entry_point: str, trigger: Any = None, code: bytes | None = None, **service: Any
    ) -> str:
        """Deploy a toy function and return its URL."""
        inputs = self.function_inputs(self.upload_code(code or archive()), entry_point, **service)
        if trigger is not None:
            inputs["eventTrigger"] = trigger
        self.create(FUNCTION, self.function_id(name), inputs, {"url": self.url(name)})
        return self.url(name)

    def calls(self, name: str) -> list[dict[str, Any]]:
        """Return what a toy function noted, in order."""
        path = self.folder / f"{name}.calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def publish(self, topic: str, *texts: str, key: str = "", **attributes: str) -> list[str]:
        """Publish texts and return their ids."""
        messages = [{"data": text.encode(), "attributes": attributes, "ordering_key": key} for text in texts]
        return list(self.publisher.publish(topic=topic, messages=messages).message_ids)

    def pulled(self, subscription: str) -> list[Any]:
        """Return and acknowledge what waits in a pull subscription."""
        received = self.subscriber.pull(subscription=subscription, max_messages=100).received_messages
        if received:
            self.subscriber.acknowledge(subscription=subscription, ack_ids=[one.ack_id for one in received])
        return [one.message for one in received]

    def put_object(self, bucket: str, name: str, data: bytes) -> None:
        """Upload an object as a client of the cloud."""
        answer = self.http.post(
            f"{self.ground.endpoints.storage}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": name},
            content=data,
        )
        assert answer.status_code == 200, answer.text

    def statistics(self) -> Mapping[str, Any]:
        """Return the cloud's own counters."""
        answer: Mapping[str, Any] = self.http.get(f"{self.ground.endpoints.gcp_api}/functions/statistics").json()
        return answer


def decoded(message: Mapping[str, Any]) -> str:
    """Return a pushed message's text."""
    return base64.b64decode(message["data"]).decode()


def process_ids(pattern: str) -> list[int]:
    """Return the processes whose command line holds the pattern."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if pattern in command:
                found.append(int(entry.name))
    return found
