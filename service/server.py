"""The HTTP face of the recommender: recommendations, and what balancers and the gate ask.

/health says that the process lives. /ready says whether this host could answer a user now, and with which model and how fresh
features. Reads never wait for the other site: a host works with its own site's bucket and table alone.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from functions.errors import FunctionError
from functions.features.client import FeatureStore
from functions.features.envelope import Vector
from functions.settings import ARTIFACT_BUCKETS, FEATURE_TABLES, SIGNING_KEYS, read
from functions.stores.clients import Clients
from service.errors import BusyError, ModelNotPublishedError, ModelUntrustedError
from service.golden import GoldenRequest, Prover
from service.heartbeat import Heartbeat
from service.keeper import ModelKeeper, Served
from service.model import Matrix, Recommendation
from service.source import BucketSource
from service.timings import Timings

# Attribute of a user's row that holds the live taste, a float32 vector of the embedding's size.
TASTE = "taste"
# A request is a few kilobytes; more is a mistake or an attack.
REQUEST_BYTES_LIMIT = 256 * 1024
# Upper bounds of the latency histograms, seconds: around the objectives of 8 to 52 ms.
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.008, 0.012, 0.02, 0.045, 0.052, 0.1, 0.25, 1.0)


class RecommendRequest(BaseModel):
    """Body of POST /recommend."""

    model_config = ConfigDict(extra="forbid")
    user_id: str = Field(min_length=1, max_length=256)
    context: str = Field(default="home_page", max_length=64)
    product_ids: list[str] = Field(min_length=1, max_length=1000)


@dataclass
class Figures:
    """What a host counts and times, for /metrics and for /version."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    inference_ms: Timings = field(default_factory=Timings)
    feature_read_ms: Timings = field(default_factory=Timings)

    def __post_init__(self) -> None:
        self.requests = Counter("lifeboat_requests", "Requests by outcome", ["outcome"], registry=self.registry)
        self.inference = Histogram(
            "lifeboat_inference_seconds", "Ranking, without the feature read", buckets=BUCKETS, registry=self.registry
        )
        self.feature_read = Histogram(
            "lifeboat_feature_read_seconds", "One user's features", buckets=BUCKETS, registry=self.registry
        )
        self.refused = Gauge("lifeboat_model_refused", "1 while the aliased version is refused", registry=self.registry)
        self.model_load = Gauge("lifeboat_model_load_seconds", "Load of the model served", registry=self.registry)


class Host:
    """One service host: its model, its features, its heartbeat."""

    def __init__(self, site: str, instance: str, name: str, alias: str) -> None:
        self.site, self.instance, self.model_name, self.alias = site, instance, name, alias
        self.figures = Figures()

    def attach(self, keeper: ModelKeeper, features: FeatureStore, heartbeat: Heartbeat) -> None:
        """Give the host its parts; apart from the constructor so that tests can give others."""
        self.keeper, self.features, self.heartbeat = keeper, features, heartbeat
        self.prover = Prover(keeper.source)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Start the watch over the model and the heartbeat, and stop them with the server."""
        self.keeper.start()
        self.heartbeat.start()
        yield
        self.heartbeat.stop()
        self.keeper.stop()

    async def recommend(self, request: Request) -> Response:
        """Answer POST /recommend."""
        served = self.keeper.served
        if served is None:
            self.figures.requests.labels("not_ready").inc()
            return _problem(503, f"no model is served yet: {self.keeper.reason}", {"Retry-After": "1"})
        try:
            asked = RecommendRequest.model_validate_json(await _body(request))
        except ValidationError as error:
            self.figures.requests.labels("invalid").inc()
            return _problem(422, "; ".join(f"{_place(each['loc'])}: {each['msg']}" for each in error.errors()))
        except _BodyTooLargeError:
            self.figures.requests.labels("invalid").inc()
            return _problem(413, f"the body is larger than {REQUEST_BYTES_LIMIT} bytes")
        taste, fresh = await run_in_threadpool(self._taste, asked.user_id)
        ranked = self._rank(served, asked, taste)
        self.figures.requests.labels("ok" if fresh else "ok_without_features").inc()
        return JSONResponse(
            {
                "site": self.site,
                "instance": self.instance,
                "model_version": served.version,
                "features": taste is not None,
                "recommendations": [{"product_id": each.product_id, "score": each.score} for each in ranked],
            }
        )

    def _taste(self, user_id: str) -> tuple[Matrix | None, bool]:
        """Return the user's live taste, and whether the store answered: a store that is away costs freshness only."""
        began = time.perf_counter()
        try:
            row = self.features.get(f"user#{user_id}")
        except FunctionError:
            return None, False
        seconds = time.perf_counter() - began
        self.figures.feature_read_ms.add(seconds * 1000)
        self.figures.feature_read.observe(seconds)
        taste = row.attributes.get(TASTE) if row is not None else None
        return (np.frombuffer(taste.data, "<f4") if isinstance(taste, Vector) else None), True

    def _rank(self, served: Served, asked: RecommendRequest, taste: Matrix | None) -> list[Recommendation]:
        began = time.perf_counter()
        ranked = served.recommender.recommend(asked.user_id, asked.context, asked.product_ids, taste)
        seconds = time.perf_counter() - began
        self.figures.inference_ms.add(seconds * 1000)
        self.figures.inference.observe(seconds)
        return ranked

    async def golden(self, request: Request) -> Response:
        """Answer POST /golden: whether this host could serve a version; any status but 200 is no verdict."""
        try:
            asked = GoldenRequest.model_validate_json(await _body(request))
        except (ValidationError, _BodyTooLargeError):
            return _problem(422, "the body is not {model, version, site}")
        if (asked.model, asked.site) != (self.model_name, self.site):
            return _problem(404, f"this host serves model {self.model_name} on {self.site}")
        try:
            verdict = await run_in_threadpool(self.prover.prove, asked.version)
        except ModelNotPublishedError as error:
            return _problem(404, str(error))
        except (BusyError, ModelUntrustedError, FunctionError) as error:
            return _problem(503, str(error), {"Retry-After": "60"})
        return JSONResponse({"passed": verdict.passed, "detail": verdict.detail})

    async def health(self, _: Request) -> Response:
        """Answer GET /health: the process lives; `refused` says why the version that the alias names is not served, if so."""
        return JSONResponse(
            {
                "site": self.site,
                "instance": self.instance,
                "healthy": True,
                "model": served.version if (served := self.keeper.served) else None,
                "refused": self.keeper.refused or None,
            }
        )

    async def ready(self, _: Request) -> Response:
        """Answer GET /ready: 200 when this host could answer a user now, else 503 with the reasons."""
        served, peer = self.keeper.served, self.heartbeat.peer()
        reasons = []
        if served is None:
            reasons.append(self.keeper.reason)
        if not self.heartbeat.store_answers:
            reasons.append(f"the feature store of {self.site} does not answer")
        named = {"name": self.model_name, "alias": self.alias, "version": served.version} if served else None
        return JSONResponse(
            {
                "site": self.site,
                "instance": self.instance,
                "ready": not reasons,
                "reasons": reasons,
                "model": named,
                "features": {
                    "peer": self.heartbeat.peer_site,
                    "lag_ms": peer.lag_ms,
                    "silence_ms": peer.silence_ms,
                },
            },
            503 if reasons else 200,
        )

    async def version(self, _: Request) -> Response:
        """Answer GET /version: what runs here and how fast it is."""
        served = self.keeper.served
        return JSONResponse(
            {
                "site": self.site,
                "instance": self.instance,
                "model": {"name": self.model_name, "alias": self.alias, "version": served.version} if served else None,
                "performance": {
                    "inference_ms": self.figures.inference_ms.quantiles(),
                    "feature_read_ms": self.figures.feature_read_ms.quantiles(),
                    "model_load_seconds": round(served.load_seconds, 3) if served else None,
                },
            }
        )

    async def metrics(self, _: Request) -> Response:
        """Answer GET /metrics in Prometheus' text format."""
        self.figures.refused.set(1 if self.keeper.refused else 0)
        if self.keeper.served is not None:
            self.figures.model_load.set(self.keeper.served.load_seconds)
        return Response(generate_latest(self.figures.registry), media_type=CONTENT_TYPE_LATEST)


class _BodyTooLargeError(Exception):
    """The body passes the limit."""


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > REQUEST_BYTES_LIMIT:
            raise _BodyTooLargeError
    return bytes(body)


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "body"


def _problem(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status, headers)


def application(host: Host) -> Starlette:
    """Return the ASGI application of a host."""
    return Starlette(
        routes=[
            Route("/recommend", host.recommend, methods=["POST"]),
            Route("/golden", host.golden, methods=["POST"]),
            Route("/health", host.health),
            Route("/ready", host.ready),
            Route("/version", host.version),
            Route("/metrics", host.metrics),
        ],
        lifespan=host.lifespan,
    )


def from_environment(environment: Mapping[str, str]) -> Host:
    """Return a host as its environment describes it. Raises SettingsError that lists every problem."""
    settings = read(environment, required=(ARTIFACT_BUCKETS, FEATURE_TABLES, SIGNING_KEYS))
    clients = Clients(settings, environment)
    features = FeatureStore(clients.rows(settings.site), settings.site, _now_ms)
    host = Host(
        settings.site, environment.get("LIFEBOAT_INSTANCE") or socket.gethostname(), settings.model, settings.alias
    )
    host.attach(
        ModelKeeper(BucketSource(clients.objects(settings.site), settings.model, settings.alias, clients.trust)),
        features,
        Heartbeat(features, settings.site, host.instance, _now_ms),
    )
    return host


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    """Serve until told to stop; the port comes from PORT, as container platforms give it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    app = application(from_environment(os.environ))
    # Inside a container the port is the container's own; locally only loopback may be reached.
    address = os.environ.get("LIFEBOAT_LISTEN", "127.0.0.1")
    uvicorn.run(
        app, host=address, port=int(os.environ.get("PORT", "8080")), log_level="warning", timeout_graceful_shutdown=5
    )


if __name__ == "__main__":
    main()
