"""What the functions of user data do with an event, and what they report of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from functions import telemetry
from functions.features.apply import percentile
from functions.features.version import STEP_MS
from functions.settings import Site
from functions.stores.postgres import DataApi
from functions.userdata.drain import OutboxDrain
from functions.userdata.migrate import migrate
from functions.userdata.parity import Prover, TableParity
from functions.userdata.protocols import OutboxDatabase, SealedDatabase
from functions.userdata.schema import Table

# Longer than every replay: streams keep a day, Spanner's change stream, topics and dead letters seven. Cassandra's default of ten
# days has the same reason (https://cassandra.apache.org/doc/latest/cassandra/managing/operating/compaction/tombstones.html).
GRACE_MS = 14 * 86_400_000
# Room to end in order before the platform's own limit.
_SPARE_MS = 3_000


class DrainRequests:
    """Serves the function that drains the outbox: at every commit, by the clock, at deployment, and when a proof is asked for."""

    def __init__(
        self,
        data_api: DataApi,
        home: OutboxDatabase,
        far: SealedDatabase,
        tables: Sequence[Table],
        clock_ms: Callable[[], int],
    ) -> None:
        self._data_api, self._home, self._far, self._tables, self._clock_ms = data_api, home, far, tables, clock_ms

    def run(self, event: Mapping[str, Any], function_arn: str, remaining_ms: int, namespace: str) -> dict[str, Any]:
        """Serve one event: `action` is migrate, verify (with `repair`) or nothing, which drains.

        A drain that the database did not ask for also copies old rows and sweeps tombstones.
        """
        until_ms = self._clock_ms() + max(0, remaining_ms - _SPARE_MS)
        action = event.get("action")
        if action == "migrate":
            return {"ran": migrate(self._data_api, function_arn)}
        if action == "verify":
            prover = Prover(self._home, self._far, self._tables, self._clock_ms)
            tables = [_described(each) for each in prover.prove(bool(event.get("repair")))]
            return {"tables": tables, "parked": self._home.parked()}
        housekeeping: dict[str, int] = {}
        if event.get("source") != "database":
            housekeeping["copied"] = self._home.copy_existing()
            before = self._clock_ms() - GRACE_MS
            before -= before % STEP_MS
            housekeeping["swept"] = self._home.sweep(before) + self._far.sweep(before)
        drained = OutboxDrain(self._home, self._far, self._tables, self._clock_ms).run(until_ms)
        report(namespace, Site.AWS, drained.counts(), drained.lags_ms)
        return {**drained.counts(), **housekeeping}


def report(namespace: str, source: Site, counts: Mapping[str, int], lags_ms: Sequence[int]) -> None:
    """Write one metric line for changes that came from `source`; a lag is given only when rows landed."""
    metrics: dict[str, tuple[float, str]] = {name: (count, "Count") for name, count in counts.items()}
    if lags_ms:
        metrics |= {
            "lag_ms_p50": (percentile(lags_ms, 0.5), "Milliseconds"),
            "lag_ms_p99": (percentile(lags_ms, 0.99), "Milliseconds"),
            "lag_ms_max": (max(lags_ms), "Milliseconds"),
        }
    telemetry.emit(namespace, {"source": source, "path": "userdata"}, metrics)


def _described(found: TableParity) -> dict[str, Any]:
    return {
        "table": found.table,
        "rows": {"aws": found.rows[0], "gcp": found.rows[1]},
        "tombstones": {"aws": found.tombstones[0], "gcp": found.tombstones[1]},
        "digests": {"aws": found.digests[0], "gcp": found.digests[1]},
        "equal": found.equal,
        "differing": found.differing,
        "repaired": found.repaired,
        "adopted": found.adopted,
        # Keys alone: a reason may quote a value.
        "refused": sorted(found.refused),
    }
