"""Golden inference before an alias: a no refuses, no answer is written down and asked for again, a yes stands."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from artifact_way import Way

from functions.artifacts import alias
from functions.artifacts.errors import UnfitError
from functions.artifacts.golden import GoldenResult, ask
from functions.settings import Site


class Hook:
    """Answers as it is told and counts."""

    def __init__(self, *results: bool | None) -> None:
        self.results, self.asked = list(results), 0

    def __call__(self, model: str, version: str) -> GoldenResult:
        self.asked += 1
        return GoldenResult(self.results.pop(0), "as told")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_no_keeps_the_version_and_the_alias_where_they_are(folder: Path) -> None:
    way = Way()
    with pytest.raises(UnfitError, match="golden: as told"):
        way.publish(folder, alias="prod", golden=Hook(False))
    assert alias.current(way.here, "m", "prod") is None
    with pytest.raises(UnfitError):
        way.publish(folder, alias="prod")


def test_no_answer_is_no_refusal_and_is_asked_for_again_until_there_is_one(folder: Path) -> None:
    way, hook = Way(), Hook(None, True)
    first = way.publish(folder, alias="prod", golden=hook)
    assert first.verdict.passed and first.verdict.unasked
    assert not way.publish(folder, golden=hook).verdict.unasked
    assert way.publish(folder, golden=hook).verdict.passed
    assert hook.asked == 2


class Service(BaseHTTPRequestHandler):
    """A service that answers what its server holds."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.headers["Host"], self.path, body))  # type: ignore[attr-defined]
        status, answer = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "answer", "passed"),
    [
        (200, b'{"passed": true}', True),
        (200, b'{"passed": false, "detail": "differs"}', False),
        (200, b'{"passed": "yes"}', None),
        (200, b"<html>", None),
        (200, b"[" * 70_000, None),
        (503, b'{"passed": true}', None),
        (302, b'{"passed": true}', None),
    ],
)
def test_only_a_clear_answer_counts(
    service: ThreadingHTTPServer, status: int, answer: bytes, passed: bool | None
) -> None:
    service.answer = (status, answer)  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{service.server_port}/golden"
    found = ask(url, "recommend.example.com", Site.AWS)("m", "1a" * 32)
    assert found.passed is passed
    expected = ("recommend.example.com", "/golden", {"model": "m", "version": "1a" * 32, "site": "aws"})
    assert service.asked == [expected]  # type: ignore[attr-defined]


def test_nobody_there_is_no_answer() -> None:
    found = ask("http://127.0.0.1:9/golden", "recommend.example.com", Site.AWS)("m", "1a" * 32)
    assert found.passed is None and "does not answer" in found.detail
