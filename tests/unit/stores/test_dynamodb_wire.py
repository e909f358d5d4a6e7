"""DynamoDB's JSON protocol over a real connection: what is signed and sent, what is tried again, what an answer means."""

import base64
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config

from functions.features.envelope import Envelope, encode
from functions.settings import FEATURE_KEY, FEATURE_VERSION
from functions.stores.dynamodb import DynamoDbRows
from functions.stores.dynamodb_wire import ConditionLostError, DynamoDbWire
from functions.stores.errors import (
    AccessDeniedError,
    NotFoundError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    ThrottledError,
)
from functions.stores.protocols import Applied, Row

READ_SECONDS = 0.3
# An answer: status, body, and whether its checksum is right; None hangs up without one, a number of seconds is silence.
Answer = tuple[int, dict[str, Any], bool] | None | float


@dataclass
class Table:
    """A server that gives the answers in their order, the last one again and again, and keeps what it was asked.

    `choose` takes their place where one answer depends on what was asked.
    """

    answers: list[Answer]
    choose: Callable[[dict[str, Any]], Answer] | None = None
    asked: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        with self.lock:
            self.asked.append((headers, body))
            if self.choose is not None:
                return self.choose(body)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def served(*answers: Answer) -> Iterator[tuple[Table, Any]]:
    """Serve the answers; yield what was asked and a client."""
    table, over = Table(list(answers)), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = table.next({name.lower(): value for name, value in self.headers.items()}, body)
            if answer is None or isinstance(answer, float):
                over.wait(answer or 0.0)
                self.close_connection = True
                return
            status, found, whole = answer
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.send_header("x-amz-crc32", str(zlib.crc32(data) ^ (0 if whole else 1)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield (
                table,
                boto3.client(
                    "dynamodb",
                    region_name="us-west-2",
                    endpoint_url=f"http://127.0.0.1:{server.server_port}",
                    aws_access_key_id="KEY",
                    aws_secret_access_key="secret",
                    config=Config(connect_timeout=2, read_timeout=READ_SECONDS, max_pool_connections=8),
                ),
            )
        finally:
            over.set()
            server.shutdown()
            thread.join()


def refused(code: str) -> Answer:
    return 400, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"}, True


def test_a_call_is_signed_and_binary_passes_both_ways() -> None:
    sent = {"k": {"S": "größe"}, "b": {"B": b"\x00\xff"}, "m": {"M": {"bs": {"BS": [b"a", b"b"]}}}, "l": {"L": []}}
    echo = {
        "k": {"S": "größe"},
        "b": {"B": base64.b64encode(b"\x00\xff").decode()},
        "m": {"M": {"bs": {"BS": ["YQ==", "Yg=="]}}},
        "l": {"L": [{"B": "YQ=="}]},
    }
    lost: Answer = (400, {"__type": "x#ConditionalCheckFailedException", "Item": echo}, True)
    with served(lost) as (table, client), pytest.raises(ConditionLostError) as caught:
        DynamoDbWire(client).call("PutItem", {"TableName": "t", "Item": sent})
    assert caught.value.item == {**sent, "l": {"L": [{"B": b"a"}]}}
    headers, body = table.asked[0]
    assert headers["x-amz-target"] == "DynamoDB_20120810.PutItem"
    assert (
        "Credential=KEY/" in headers["authorization"] and "/us-west-2/dynamodb/aws4_request" in headers["authorization"]
    )
    assert body == {"TableName": "t", "Item": {**echo, "l": {"L": []}}}
    # A lost condition is an answer like any other and is not asked for again.
    assert len(table.asked) == 1


@pytest.mark.parametrize(
    "first",
    [None, (200, {}, False), refused("ThrottlingException"), refused("ProvisionedThroughputExceededException")],
    ids=["hangs up", "damaged", "throttled", "over capacity"],
)
def test_what_may_pass_at_once_is_tried_a_second_time(first: Answer) -> None:
    with served(first, (200, {"done": True}, True)) as (table, client):
        assert DynamoDbWire(client).call("PutItem", {}) == {"done": True}
    assert len(table.asked) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "tries"),
    [
        (None, StoreUnavailableError, 2),
        ((200, {}, False), StoreUnavailableError, 2),
        (refused("ThrottlingException"), ThrottledError, 2),
        # A table that hangs costs its time limit once.
        (30.0, StoreUnavailableError, 1),
        ((500, {"__type": "x#InternalServerError"}, True), StoreUnavailableError, 1),
        (refused("ValidationException"), StoreRefusedError, 1),
        (refused("ResourceNotFoundException"), NotFoundError, 1),
        (refused("AccessDeniedException"), AccessDeniedError, 1),
        (refused("SomethingNewException"), StoreRefusedError, 1),
    ],
)
def test_a_failure_has_the_type_that_callers_decide_by(answer: Answer, kind: type[StoreError], tries: int) -> None:
    with served(answer) as (table, client), pytest.raises(StoreError) as caught:
        DynamoDbWire(client).call("PutItem", {})
    assert type(caught.value) is kind or (kind is StoreUnavailableError and isinstance(caught.value, kind))
    assert len(table.asked) == tries


def test_nobody_is_asked_without_credentials() -> None:
    with served((200, {}, True)) as (table, client):
        wire = DynamoDbWire(client)
        wire._credentials = None
        with pytest.raises(AccessDeniedError, match="no AWS credentials"):
            wire.call("PutItem", {})
    assert not table.asked


def test_each_row_of_a_batch_has_an_outcome_of_its_own() -> None:
    by_key: dict[str, Answer] = {
        "good": (200, {}, True),
        "stale": (400, {"__type": "x#ConditionalCheckFailedException", "Item": {FEATURE_VERSION: {"N": "99"}}}, True),
        "bad": refused("ValidationException"),
        "busy": refused("ThrottlingException"),
    }
    with served(None) as (table, client):
        table.choose = lambda body: by_key[body["Item"][FEATURE_KEY]["S"]]
        rows = [Row(key, 8, encode(Envelope({"n": 1}))) for key in by_key]
        assert DynamoDbRows(client, "t").apply(rows) == [
            Applied.APPLIED,
            Applied.STALE,
            Applied.REFUSED,
            Applied.FAILED,
        ]
