"""The gate's eyes: what is read off answers, and how long is waited."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from control import gate_client
from control.gate import Limits, ModelVersion
from control.gate_client import Entrance, Golden, collect, read, wait_for_green, wait_until_served

LIMITS = Limits(feature_lag_ms=1_000)
AWS = ("aws", Entrance("http", "aws.test", "public.test"))
GCP = ("gcp", Entrance("http", "gcp.test", "public.test"))
PUBLIC = Entrance("http", "public.test", "public.test")
GOLDEN = Golden("/recommend", {"user_id": "golden"})
READY = {
    "site": "gcp",
    "instance": "i-1",
    "ready": True,
    "reasons": [],
    "model": {"name": "recommender", "alias": "prod", "version": "abc"},
    "features": {"peer": "aws", "lag_ms": 12.5, "silence_ms": 700},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_client, "PAUSE_SECONDS", 0)


def run(handler: Callable[[httpx.Request], httpx.Response], work: Callable[[httpx.AsyncClient], Any]) -> Any:
    async def main() -> Any:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            return await work(client)

    return asyncio.run(main())


def test_an_answer_is_read_whole() -> None:
    answer = read(200, READY)
    assert answer.ready and answer.problem is None
    assert answer.model == ModelVersion("recommender", "prod", "abc")
    assert (answer.instance, answer.lag_ms, answer.silence_ms) == ("i-1", 12.5, 700)


def test_a_503_is_an_answer_that_is_not_ready() -> None:
    answer = read(503, {**READY, "ready": False, "reasons": ["warming"], "model": None, "features": {}})
    assert not answer.ready and answer.reasons == ("warming",) and answer.model is None


def test_a_body_that_says_ready_under_another_status_is_not_believed() -> None:
    assert not read(500, READY).ready


@pytest.mark.parametrize("document", [None, [], {"status": "ok"}])
def test_an_answer_of_another_shape_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="ready"):
        read(200, document)


def test_the_target_is_asked_several_times_and_a_dead_active_site_is_none() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "aws.test":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=READY)

    facts = run(handler, lambda client: collect(client, GCP, AWS))
    assert asked.count("gcp.test") == gate_client.SAMPLES and asked.count("aws.test") == 1
    assert facts.active_answer is None and all(each.ready for each in facts.samples)


def test_something_else_behind_the_address_is_a_problem_not_a_crash() -> None:
    facts = run(lambda request: httpx.Response(404, text="<html>"), lambda client: collect(client, GCP, AWS))
    assert "status 404" in (facts.samples[0].problem or "")


def test_the_wait_ends_when_the_gate_turns_green() -> None:
    count = itertools.count()

    def handler(request: httpx.Request) -> httpx.Response:
        warming = request.url.host == "gcp.test" and next(count) < 3 * gate_client.SAMPLES
        return httpx.Response(503 if warming else 200, json={**READY, "ready": not warming})

    verdict = run(handler, lambda client: wait_for_green(client, GCP, AWS, LIMITS, limit_seconds=30))
    assert verdict.green and next(count) >= 3 * gate_client.SAMPLES


def test_a_gate_that_stays_red_is_looked_at_once_without_time_and_returned() -> None:
    count = itertools.count()

    def handler(request: httpx.Request) -> httpx.Response:
        next(count)
        return httpx.Response(503, json={**READY, "ready": False})

    verdict = run(handler, lambda client: wait_for_green(client, GCP, AWS, LIMITS, limit_seconds=0))
    assert not verdict.green and next(count) == gate_client.SAMPLES + 1


def test_served_means_enough_answers_in_a_row_from_the_right_site() -> None:
    sites = iter(["aws", "gcp", "gcp", "aws", *["gcp"] * 20])
    posted = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/version":
            return httpx.Response(200, json={"site": next(sites)})
        posted.append(request.content)
        return httpx.Response(200, json={"recommendations": []})

    problem = run(
        handler, lambda client: wait_until_served(client, PUBLIC, GOLDEN, frozenset({"gcp"}), limit_seconds=30)
    )
    assert problem is None
    assert len(posted) == 4 + gate_client.SAMPLES and b"golden" in posted[0]


@pytest.mark.parametrize(
    ("version", "status", "problem"),
    [
        ({"site": "aws"}, 200, "served by aws, not by gcp"),
        ({"site": "gcp"}, 500, "POST /recommend: status 500"),
    ],
)
def test_the_last_problem_is_told_when_the_time_is_up(version: dict[str, str], status: int, problem: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        is_version = request.url.path == "/version"
        return httpx.Response(200 if is_version else status, json=version)

    assert problem == run(
        handler, lambda client: wait_until_served(client, PUBLIC, GOLDEN, frozenset({"gcp"}), limit_seconds=0)
    )


def test_a_site_that_serves_is_found_to_without_any_time() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"site": "gcp"})

    problem = run(
        handler, lambda client: wait_until_served(client, PUBLIC, GOLDEN, frozenset({"gcp"}), limit_seconds=0)
    )
    assert problem is None


def test_the_certificate_is_asked_for_by_the_public_name() -> None:
    assert Entrance("https", "203.0.113.7", "public.test").extensions() == {"sni_hostname": "public.test"}
    assert Entrance("http", "203.0.113.7", "public.test").extensions() == {}
