"""Brings the gate its facts: asks sites over HTTP and waits, with a limit, until the gate is green. Thin: no rule is here."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from control.gate import Answer, Facts, Limits, ModelVersion, Verdict, judge

# One answer comes from one host; several reach more of them, as the site's balancer spreads them.
SAMPLES = 5
PROBE_SECONDS = 2.0
# Between two looks at a red gate: what it waits for (a model load, a heartbeat) takes about a second.
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Entrance:
    """Where a site or the public name is reached; `hostname` is the name on its certificate."""

    scheme: str
    address: str
    hostname: str

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"{self.scheme}://{self.address}{path}"

    def extensions(self) -> dict[str, Any]:
        """Return what makes TLS ask for and check the public name, which a site's own address is not."""
        return {"sni_hostname": self.hostname} if self.scheme == "https" else {}


def probe_client() -> httpx.AsyncClient:
    """Return the client that probes use: LIFEBOAT_PROBE_PROXY, when set, is the way to names that no DNS knows."""
    return httpx.AsyncClient(
        proxy=os.environ.get("LIFEBOAT_PROBE_PROXY"), timeout=PROBE_SECONDS, trust_env=False, follow_redirects=False
    )


async def wait_for_green(
    client: httpx.AsyncClient,
    target: tuple[str, Entrance],
    active: tuple[str, Entrance],
    limits: Limits,
    limit_seconds: float,
) -> Verdict:
    """Judge the target site until the gate is green or the time is up, and return the last verdict."""
    deadline = time.monotonic() + limit_seconds
    while True:
        verdict = judge(await collect(client, target, active), limits)
        if verdict.green or time.monotonic() >= deadline:
            return verdict
        await asyncio.sleep(PAUSE_SECONDS)


async def collect(client: httpx.AsyncClient, target: tuple[str, Entrance], active: tuple[str, Entrance]) -> Facts:
    """Ask the target several times and the active site once, all at the same time."""
    name, entrance = target
    answers = await asyncio.gather(*(ask(client, entrance) for _ in range(SAMPLES)), ask(client, active[1]))
    *samples, active_answer = answers
    return Facts(name, active[0], tuple(samples), None if active_answer.problem else active_answer)


async def ask(client: httpx.AsyncClient, entrance: Entrance) -> Answer:
    """Ask a site's /ready once."""
    try:
        response = await client.get(entrance.url("/ready"), extensions=entrance.extensions())
        return read(response.status_code, response.json())
    except httpx.HTTPError as error:
        return Answer(ready=False, problem=f"{entrance.address}: {type(error).__name__}")
    except ValueError:
        return Answer(
            ready=False, problem=f"{entrance.address}: status {response.status_code}, not the service's answer"
        )


def read(status: int, document: object) -> Answer:
    """Read an answer of /ready. Raises ValueError for a document of another shape."""
    if not isinstance(document, Mapping) or "ready" not in document:
        raise ValueError("no field `ready`")
    features = document.get("features") or {}
    model = document.get("model")
    return Answer(
        ready=status == httpx.codes.OK and bool(document["ready"]),
        reasons=tuple(str(reason) for reason in document.get("reasons") or ()),
        instance=document.get("instance"),
        model=ModelVersion(model["name"], model["alias"], model["version"]) if model else None,
        lag_ms=features.get("lag_ms"),
        silence_ms=features.get("silence_ms"),
    )


@dataclass(frozen=True)
class Golden:
    """A request that must succeed: path and JSON body."""

    path: str
    body: Mapping[str, Any]


async def wait_until_served(
    client: httpx.AsyncClient, public: Entrance, golden: Golden, sites: frozenset[str], limit_seconds: float
) -> str | None:
    """Send golden requests to the public name until enough in a row are answered by one of `sites`.

    Returns None once that is so, else the first problem after the time is up: a good row that has begun is ended, so
    that without any time a site that serves is still told from one that does not.
    """
    deadline = time.monotonic() + limit_seconds
    in_a_row = 0
    while True:
        problem = await _served(client, public, golden, sites)
        if problem is None:
            in_a_row += 1
            if in_a_row >= SAMPLES:
                return None
            continue
        if time.monotonic() >= deadline:
            return problem
        in_a_row = 0
        await asyncio.sleep(PAUSE_SECONDS)


async def _served(client: httpx.AsyncClient, public: Entrance, golden: Golden, sites: frozenset[str]) -> str | None:
    try:
        version = await client.get(public.url("/version"))
        answer = await client.post(public.url(golden.path), json=dict(golden.body))
        site = version.json().get("site") if version.is_success else None
    except httpx.HTTPError as error:
        return f"{public.address}: {type(error).__name__}"
    except ValueError:
        return f"GET /version: status {version.status_code}, not the service's answer"
    if not version.is_success:
        return f"GET /version: status {version.status_code}"
    if site not in sites:
        return f"served by {site}, not by {' or '.join(sorted(sites))}"
    return None if answer.is_success else f"POST {golden.path}: status {answer.status_code}"
