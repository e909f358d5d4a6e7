"""The service's answers: what users get, what balancers and the gate are told, and what happens while parts are away."""

import asyncio
import json
from collections.abc import Iterator, Sequence

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.features.client import FeatureStore
from functions.features.envelope import Vector
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import Applied, Row
from service import train
from service.errors import ModelNotPublishedError, ModelUntrustedError
from service.heartbeat import WINDOW_MS, Heartbeat, PeerLag, key
from service.keeper import REFUSED_SECONDS, ModelKeeper
from service.model import GOLDEN_FILE, row
from service.server import TASTE, Host, application

PLAN = train.TrainingPlan(user_rows=300, product_rows=200, embedding_size=8, interactions=4_000)
PRODUCTS = [f"prod{number}" for number in range(5)]
NOW_MS = 1_790_000_000_000


class Rows:
    """Rows in memory; `down` makes every call fail as an unreachable store does."""

    def __init__(self) -> None:
        self.held: dict[str, Row] = {}
        self.down = False

    def _answer(self) -> None:
        if self.down:
            raise StoreUnavailableError("the table does not answer")

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        self._answer()
        return {each: self.held[each] for each in keys if each in self.held}

    def write(self, row: Row, expires: int | None = None) -> int | None:
        self._answer()
        held = self.held.get(row.key)
        if held is not None and held.version >= row.version:
            return held.version
        self.held[row.key] = row
        return None

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        raise NotImplementedError

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        raise NotImplementedError


class Source:
    """Versions in memory; `named` is where the alias points."""

    def __init__(self) -> None:
        self.versions: dict[str, dict[str, bytes]] = {}
        self.named = ""
        self.fetched: list[str] = []
        self.untrusted: set[str] = set()

    def current(self) -> str:
        if not self.named:
            raise ModelNotPublishedError("alias prod of model recommender does not exist on this site yet")
        return self.named

    def fetch(self, version: str) -> dict[str, bytes]:
        self.fetched.append(version)
        if version in self.untrusted:
            raise ModelUntrustedError(f"model recommender version {version} file 'a': check of SHA-256 failed")
        return self.versions[version]


class Client:
    """Asks the application in this process; its watches stay off, the test takes each turn itself."""

    def __init__(self, host: Host) -> None:
        self._transport = httpx.ASGITransport(application(host))

    def get(self, path: str) -> httpx.Response:
        return asyncio.run(self._request("GET", path))

    def post(self, path: str, json: object = None, content: bytes | None = None) -> httpx.Response:
        return asyncio.run(self._request("POST", path, json=json, content=content))

    async def _request(self, method: str, path: str, **body: object) -> httpx.Response:
        async with httpx.AsyncClient(transport=self._transport, base_url="http://service") as client:
            return await client.request(method, path, **body)  # type: ignore[arg-type]


class Parts:
    def __init__(self) -> None:
        self.rows, self.source = Rows(), Source()
        self.features = FeatureStore(self.rows, Site.AWS, lambda: NOW_MS)
        self.now = 0.0
        self.keeper = ModelKeeper(self.source, lambda: self.now)
        self.heartbeat = Heartbeat(self.features, Site.AWS, "i-1", lambda: NOW_MS)
        self.heartbeat.store_answers = True
        host = Host("aws", "i-1", "recommender", "prod")
        host.attach(self.keeper, self.features, self.heartbeat)
        self.client = Client(host)

    def publish(self, version: str, files: dict[str, bytes]) -> None:
        self.source.versions[version] = files
        self.source.named = version
        self.keeper.turn()


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    model = train.first(PLAN, train.market(PLAN).draw(PLAN.interactions, seed=1)).model
    return model.files(model.golden("user_1", "home_page", PRODUCTS))


@pytest.fixture
def parts() -> Parts:
    return Parts()


def ask(parts: Parts, user_id: str = "user_1") -> dict[str, object]:
    response = parts.client.post("/recommend", json={"user_id": user_id, "context": "cart", "product_ids": PRODUCTS})
    assert response.status_code == 200, response.text
    answer: dict[str, object] = response.json()
    return answer


def test_a_host_without_a_model_says_so_and_asks_for_patience(parts: Parts) -> None:
    parts.keeper.turn()
    answer = parts.client.post("/recommend", json={"user_id": "u", "product_ids": ["p"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    ready = parts.client.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["reasons"] == ["alias prod of model recommender does not exist on this site yet"]
    assert parts.client.get("/health").status_code == 200


def test_recommendations_carry_site_version_and_a_ranking(parts: Parts, files: dict[str, bytes]) -> None:
    parts.publish("v1", files)
    answer = ask(parts)
    assert (answer["site"], answer["instance"], answer["model_version"]) == ("aws", "i-1", "v1")
    scores = [each["score"] for each in answer["recommendations"]]  # type: ignore[index]
    assert len(scores) == len(PRODUCTS)
    assert scores == sorted(scores, reverse=True)


def test_live_taste_changes_the_ranking(parts: Parts, files: dict[str, bytes]) -> None:
    parts.publish("v1", files)
    assert parts.keeper.served is not None
    model = parts.keeper.served.recommender
    last = ask(parts)["recommendations"][-1]["product_id"]  # type: ignore[index]
    taste = 50 * model.product_embedding[row(last, model.config.product_rows)]
    parts.features.set("user#user_1", {TASTE: Vector.of([float(each) for each in np.asarray(taste)])})
    answer = ask(parts)
    assert answer["features"] is True
    assert answer["recommendations"][0]["product_id"] == last  # type: ignore[index]


def test_a_feature_store_that_is_away_costs_freshness_and_readiness_but_no_answer(
    parts: Parts, files: dict[str, bytes]
) -> None:
    parts.publish("v1", files)
    parts.rows.down = True
    assert ask(parts)["features"] is False
    parts.heartbeat.store_answers = False
    assert parts.client.get("/ready").json()["reasons"] == ["the feature store of aws does not answer"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 422, "Invalid JSON"),
        (b'{"user_id": "u"}', 422, "product_ids"),
        (b'{"user_id": "\\ud800", "product_ids": ["p"]}', 422, ""),
        (b'{"user_id": "u", "product_ids": []}', 422, "product_ids"),
        (b'{"user_id": "u", "product_ids": ["p"], "extra": 1}', 422, "extra"),
        (b" " * 300_000, 413, "larger than"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(
    parts: Parts, files: dict[str, bytes], body: bytes, status: int, told: str
) -> None:
    parts.publish("v1", files)
    answer = parts.client.post("/recommend", content=body)
    assert answer.status_code == status
    assert told in answer.json()["error"]


def test_a_bad_version_is_never_served_and_asked_for_once(parts: Parts, files: dict[str, bytes]) -> None:
    parts.publish("v1", files)
    golden = json.loads(files[GOLDEN_FILE])
    golden["scores"] = [score + 1 for score in golden["scores"]]
    parts.publish("v2", {**files, GOLDEN_FILE: json.dumps(golden).encode()})
    parts.keeper.turn()
    assert parts.source.fetched == ["v1", "v2"]
    assert ask(parts)["model_version"] == "v1"
    assert "golden request differs" in parts.keeper.reason


def test_an_untrusted_version_is_not_served_until_it_is_repaired(
    parts: Parts, files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    parts.publish("v1", files)
    assert parts.client.get("/health").json()["refused"] is None
    parts.source.untrusted.add("v2")
    parts.publish("v2", files)
    health = parts.client.get("/health")
    assert (health.status_code, health.json()["model"]) == (200, "v1")
    assert health.json()["refused"] == "model recommender version v2 file 'a': check of SHA-256 failed"
    assert "version v2 refused, v1 is served on: model recommender version v2 file 'a'" in caplog.text
    assert "lifeboat_model_refused 1.0" in parts.client.get("/metrics").text
    assert parts.client.get("/ready").status_code == 200
    assert ask(parts)["model_version"] == "v1"
    parts.source.untrusted.clear()
    parts.now = REFUSED_SECONDS - 1
    parts.keeper.turn()
    assert parts.source.fetched == ["v1", "v2"]
    parts.now = REFUSED_SECONDS
    parts.keeper.turn()
    assert ask(parts)["model_version"] == "v2"
    assert parts.client.get("/health").json()["refused"] is None


def test_untrusted_bytes_are_no_verdict_on_a_version(parts: Parts, files: dict[str, bytes]) -> None:
    version = "e" * 64
    parts.source.versions[version] = files
    parts.source.untrusted.add(version)
    asked = {"model": "recommender", "version": version, "site": "aws"}
    assert parts.client.post("/golden", json=asked).status_code == 503
    parts.source.untrusted.clear()
    assert parts.client.post("/golden", json=asked).json()["passed"]


def test_version_and_metrics_tell_what_was_measured(parts: Parts, files: dict[str, bytes]) -> None:
    parts.publish("v1", files)
    ask(parts)
    performance = parts.client.get("/version").json()["performance"]
    assert performance["inference_ms"]["count"] == 1
    assert performance["feature_read_ms"]["count"] == 1
    assert performance["model_load_seconds"] >= 0
    metrics = parts.client.get("/metrics").text
    assert 'lifeboat_requests_total{outcome="ok"} 1.0' in metrics
    assert "lifeboat_inference_seconds_count 1.0" in metrics


def test_ready_tells_the_gate_lag_and_silence_of_the_peer(parts: Parts, files: dict[str, bytes]) -> None:
    parts.publish("v1", files)
    peer = FeatureStore(parts.rows, Site.GCP, lambda: NOW_MS)
    version = peer.set(key(Site.GCP), {"instance": "g-1"})
    tracker = PeerLag()
    tracker.see(version - 4_000, NOW_MS)
    tracker.see(version, NOW_MS + 300)
    state = tracker.state(NOW_MS + 500)
    assert (state.lag_ms, state.silence_ms) == (300, 500)
    features = parts.client.get("/ready").json()["features"]
    assert features == {"peer": "gcp", "lag_ms": None, "silence_ms": None}


def test_the_lag_of_the_last_window_outlives_the_peer() -> None:
    tracker = PeerLag()
    tracker.see(stamp(NOW_MS, 0, Site.AWS), NOW_MS + 5)
    tracker.see(stamp(NOW_MS + 1_000, 0, Site.AWS), NOW_MS + 1_250)
    state = tracker.state(NOW_MS + 10 * WINDOW_MS)
    assert state.lag_ms == 250
    assert state.silence_ms == 10 * WINDOW_MS - 1_000


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 50_000)), min_size=2, max_size=60))
def test_lag_is_the_worst_of_the_window_and_repeats_change_nothing(beats: list[tuple[int, int]]) -> None:
    once, twice = PeerLag(), PeerLag()
    newest, seen = 0, []
    # A watcher sees the row's versions only grow, at times that only grow.
    for written, delay in sorted(beats):
        version, now = stamp(NOW_MS + written, 0, Site.GCP), NOW_MS + 10**6 + written + delay
        now = max(now, seen[-1][0] if seen else 0)
        once.see(version, now)
        twice.see(version, now)
        twice.see(version, now + 1)
        if version > newest:
            seen.append((now, now - (version - version % 4)))
            newest = version
    arrivals = seen[1:]
    expected = (
        max((lag for at, lag in arrivals if at >= arrivals[-1][0] - WINDOW_MS), default=None) if arrivals else None
    )
    assert once.state(NOW_MS + 10**7).lag_ms == expected
    assert once.state(NOW_MS + 10**7) == twice.state(NOW_MS + 10**7)


VERSION = "3f" * 32


def golden(parts: Parts, **changes: object) -> httpx.Response:
    return parts.client.post("/golden", json={"model": "recommender", "version": VERSION, "site": "aws"} | changes)


def test_a_version_on_trial_is_loaded_once_and_serves_nobody(parts: Parts, files: dict[str, bytes]) -> None:
    parts.source.versions[VERSION] = files
    for _ in range(2):
        answer = golden(parts)
        assert (answer.status_code, answer.json()["passed"]) == (200, True)
    assert parts.source.fetched == [VERSION]
    assert parts.keeper.served is None


def test_a_version_that_answers_otherwise_than_it_should_fails_with_the_reason(
    parts: Parts, files: dict[str, bytes]
) -> None:
    wrong = json.loads(files[GOLDEN_FILE])
    wrong["scores"][0] += 1
    parts.source.versions[VERSION] = files | {GOLDEN_FILE: json.dumps(wrong).encode()}
    answer = golden(parts).json()
    assert answer["passed"] is False and "golden request differs" in answer["detail"]
    del files_of(parts)["config.json"]
    assert golden(parts).json() == answer, "a verdict on what never changes is kept"


def files_of(parts: Parts) -> dict[str, bytes]:
    return parts.source.versions[VERSION]


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"model": "other"}, 404), ({"site": "gcp"}, 404), ({"version": "../x"}, 422), ({"more": 1}, 422)],
)
def test_a_golden_request_for_something_else_is_no_verdict(
    parts: Parts, files: dict[str, bytes], changes: dict[str, object], status: int
) -> None:
    parts.source.versions[VERSION] = files
    assert golden(parts, **changes).status_code == status
    assert parts.source.fetched == []


def test_a_store_that_is_away_is_no_verdict(parts: Parts, files: dict[str, bytes]) -> None:
    def away(version: str) -> dict[str, bytes]:
        raise StoreUnavailableError("no answer")

    parts.source.fetch = away  # type: ignore[method-assign]
    assert golden(parts).status_code == 503
