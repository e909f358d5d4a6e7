"""Users of the service: a steady stream of recommendation requests through the front door, each with its outcome.

The stream is open-loop, so a slow or dead site does not slow the arrival of requests, as it would not slow real users
(Schroeder et al., "Open Versus Closed: A Cautionary Tale", NSDI 2006).
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from operate.report.result import RequestSecond

# A user gives up after this long; the request then counts as failed.
PATIENCE_SECONDS = 5.0
PRODUCTS_ASKED = 20


@dataclass(frozen=True)
class Answered:
    """One request: when it was sent and how long it took (seconds), who answered with which version, or why it failed."""

    sent_at: float
    seconds: float
    site: str | None
    version: str | None
    failure: str | None


class Traffic:
    """Sends requests at a fixed rate from a thread of its own until stopped."""

    def __init__(self, port: int, hostname: str, requests_per_second: float) -> None:
        self._address = f"http://127.0.0.1:{port}/recommend"
        self._headers = {"Host": hostname}
        self._interval = 1.0 / requests_per_second
        self._answers: list[Answered] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic", daemon=True)
        self.began = 0.0

    def start(self) -> None:
        """Start sending."""
        self.began = time.monotonic()
        self._thread.start()

    def stop(self) -> list[Answered]:
        """Stop sending, wait for the requests under way, and return every request's outcome."""
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS + 5.0)
        return self.answers()

    def answers(self) -> list[Answered]:
        """Return the outcomes so far."""
        return list(self._answers)

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=20)
        timeout = httpx.Timeout(PATIENCE_SECONDS)
        async with httpx.AsyncClient(limits=limits, timeout=timeout, headers=self._headers) as client:
            under_way: set[asyncio.Task[None]] = set()
            due = time.monotonic()
            number = 0
            while not self._stop.is_set():
                task = asyncio.create_task(self._ask(client, number))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                number += 1
                due += self._interval
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.gather(*under_way)

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        sent_at = time.monotonic()
        body = {
            "user_id": f"user_{number % 500}",
            "context": "home_page",
            "product_ids": [f"prod{(number * 7 + each) % 1000}" for each in range(PRODUCTS_ASKED)],
        }
        site = version = failure = None
        try:
            response = await client.post(self._address, json=body)
            if response.status_code == httpx.codes.OK:
                answer = response.json()
                site, version = answer["site"], answer["model_version"]
                scores = [each["score"] for each in answer["recommendations"]]
                if len(scores) != PRODUCTS_ASKED or scores != sorted(scores, reverse=True):
                    failure = "answer is not a ranking of the products asked for"
            else:
                failure = f"HTTP {response.status_code}: {response.text[:120].strip()}"
        except httpx.HTTPError as error:
            failure = f"{type(error).__name__}: {error}"
        self._answers.append(Answered(sent_at, time.monotonic() - sent_at, site, version, failure))


def by_second(answers: Sequence[Answered], began: float) -> list[RequestSecond]:
    """Count requests by the second they were sent in and by who answered."""
    counts: dict[int, Counter[str]] = {}
    for answer in answers:
        second = int(answer.sent_at - began)
        counts.setdefault(second, Counter())["failed" if answer.failure else str(answer.site)] += 1
    return [
        RequestSecond(second=second, aws=count["aws"], gcp=count["gcp"], failed=count["failed"])
        for second, count in sorted(counts.items())
    ]
