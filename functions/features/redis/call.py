"""One call of the forwarder, as a clock makes it: it carries changes for its time and leaves the rest to the next.

Calls overlap, so that one is always at work; they share the records as consumers of one group. A call that is killed leaves what
it held to the others.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from functions.errors import SettingsError
from functions.features.apply import FeatureApplier, Result
from functions.features.metrics import report
from functions.features.redis.forward import Forwarder, RedisParkingLot, forward_until
from functions.features.redis.source import RedisRows
from functions.settings import Settings
from functions.stores.clients import Clients

# What a caller may ask for instead of the whole time: to end as soon as nothing is left.
DRAIN = "drain"


class Limit:
    """When a call has to end; used like the threading.Event of a forwarder that is stopped."""

    def __init__(self, seconds: float, done: Callable[[], bool] = lambda: False) -> None:
        self._ends = time.monotonic() + seconds
        self._done = done

    def is_set(self) -> bool:
        """Say whether the time is up, or the work done."""
        return time.monotonic() >= self._ends or self._done()

    def wait(self, seconds: float) -> None:
        """Pause, no longer than there is time."""
        time.sleep(max(0.0, min(seconds, self._ends - time.monotonic())))


def call(settings: Settings, clients: Clients, clock_ms: Callable[[], int], event: Mapping[str, Any]) -> dict[str, Any]:
    """Carry changes until the time is up, or {"action": "drain"} nothing is left; returns counts, and what still waits."""
    action = event.get("action", "")
    if action not in ("", DRAIN):
        raise SettingsError(f"the forwarder was called with action {action!r}; allowed: {DRAIN}, or none")
    site, redis = settings.site, clients.redis
    rows, table = RedisRows(redis, site), clients.feature_table(site)
    applier = FeatureApplier(site, rows, table, RedisParkingLot(redis), clock_ms)
    forwarder = Forwarder(redis, rows, applier, f"call-{uuid.uuid4().hex}", table=table)
    # Who writes first must find the functions, and the group begins with the first record.
    rows.prepare()
    forwarder.prepare()
    totals: Counter[str] = Counter()

    def tell(result: Result) -> None:
        totals.update({outcome.value: count for outcome, count in result.outcomes.items()})
        report(settings.metrics_namespace, site, result)

    until = Limit(settings.forward_seconds, (lambda: not forwarder.waiting()) if action else lambda: False)
    forward_until(forwarder, until, tell)
    forwarder.leave()
    return {**totals, "waiting": forwarder.waiting()}
