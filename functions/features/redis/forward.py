"""Carries changes from Redis' stream to the other site: read by a consumer group, rows read again, applied as every path does.

A record names a row; what counts is the row's present state, so a thousand changes of one row cost one write. A record is
acknowledged when its row is over there or parked, never before: a forwarder that dies leaves its records to the others, who take
them over after a while, and since the merge bears repeats nothing is lost and nothing is doubled.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from functions.errors import PermanentError, TransientError
from functions.features.apply import FeatureApplier, Result
from functions.features.errors import PoisonRecordError
from functions.features.plan import Change, Outcome, Parked, Plan
from functions.features.redis.source import STREAM, RedisRows
from functions.features.redis.table import TableOfRedis
from functions.features.version import beyond_skew
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import FeatureTable, Row
from functions.telemetry import LOGGER

GROUP = "lifeboat"
PARKED = "lifeboat:parked"
_BATCH = 1_000
# A turn without work waits so long for some.
_BLOCK_MS = 500
# Records that their consumer has not finished in this long are somebody else's: well above what a batch takes when a store is
# slow, short enough that a crash costs seconds.
IDLE_MS = 5_000


@dataclass(frozen=True)
class RedisParkingLot:
    """Parked records in a stream of the same Redis."""

    redis: Any

    def park(self, identity: str, reason: str, content: Mapping[str, Any]) -> None:
        """Keep the record. Raises StoreUnavailableError."""
        from redis.exceptions import RedisError

        try:
            self.redis.xadd(PARKED, {"id": identity, "reason": reason, "record": json.dumps(content, default=str)})
        except RedisError as error:
            raise StoreUnavailableError(f"stream {PARKED}: {error}; try again") from error


# A consumer that has held nothing and asked for nothing in this long is a forwarder that ended without leaving.
GONE_MS = 3_600_000
_FIELD = b"f:"


@dataclass
class Forwarder:
    """One consumer of the group; as many as are wanted may run, each of another name.

    With `table`, the site's own, changed features are laid over the row that it has; without one, rows go to the applier's far
    side as Redis has them.
    """

    redis: Any
    rows: RedisRows
    applier: FeatureApplier
    consumer: str
    stream: str = STREAM
    idle_ms: int = IDLE_MS
    block_ms: int = _BLOCK_MS
    table: FeatureTable | None = None

    def prepare(self) -> None:
        """Make the group, from the stream's beginning on; one that is there stays as it is."""
        from redis.exceptions import ResponseError

        try:
            self.redis.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def turn(self) -> Result | None:
        """Carry one batch; returns None where there was none. Raises StoreUnavailableError where Redis is away."""
        from redis.exceptions import RedisError

        try:
            entries = self._take()
            if not entries:
                return None
            return self._carry(entries)
        except RedisError as error:
            raise StoreUnavailableError(f"stream {self.stream}: {error}; try again") from error

    def waiting(self) -> int:
        """Return how many records are not over there yet."""
        return int(self.redis.xlen(self.stream))

    def leave(self) -> None:
        """Take this consumer out of the group if it holds no records, and those that have long held none."""
        for each in self.redis.xinfo_consumers(self.stream, GROUP):
            name = each["name"].decode()
            # Whoever leaves with records in hand would lose them: others take those over first.
            if not each["pending"] and (name == self.consumer or each["idle"] > GONE_MS):
                self.redis.xgroup_delconsumer(self.stream, GROUP, name)

    def _take(self) -> list[tuple[str, dict[bytes, bytes]]]:
        claimed = self.redis.xautoclaim(self.stream, GROUP, self.consumer, self.idle_ms, "0-0", _BATCH)[1]
        if claimed:
            return [(identity.decode(), fields) for identity, fields in claimed if fields]
        answer = self.redis.xreadgroup(GROUP, self.consumer, {self.stream: ">"}, _BATCH, self.block_ms)
        return [(identity.decode(), fields) for _, found in answer or [] for identity, fields in found]

    def _carry(self, entries: list[tuple[str, dict[bytes, bytes]]]) -> Result:
        keys: dict[str, str] = {}
        names: dict[str, Collection[str] | None] = {}
        parked: list[Parked] = []
        for identity, fields in entries:
            try:
                key, changed = _read(fields)
                keys[identity] = key
                known = names.get(key, ())
                names[key] = None if known is None or not changed else {*known, *changed}
            except (KeyError, UnicodeDecodeError):
                parked.append(Parked(identity, "record names no row", {"fields": repr(fields)[:1_000]}))
        # One record stands for all of its row.
        named = {key: identity for identity, key in keys.items()}
        outcomes = Counter({Outcome.STALE: len(keys) - len(named)})
        changes: dict[str, Change] = {}
        for key, row in self._rows(list(named)).items():
            identity = named[key]
            if isinstance(row, PermanentError):
                parked.append(Parked(identity, str(row), {"key": key}))
            elif row is None:
                # Removed outright or expired by the server: nothing to send, and what stands over there ends by its own expiry.
                outcomes[Outcome.STALE] += 1
            else:
                changes[key] = Change(row, identity)
        applier = self.applier
        if self.table is not None:
            applier = replace(applier, far=TableOfRedis(self.rows, self.table, names))
        done = applier.execute(Plan(changes, {}, parked, outcomes))
        failed = {keys.get(identity) for identity in done.failed}
        over = [
            identity for identity, _ in entries if identity not in done.failed and keys.get(identity, "") not in failed
        ]
        if over:
            with self.redis.pipeline(transaction=True) as pipe:
                pipe.xack(self.stream, GROUP, *over)
                pipe.xdel(self.stream, *over)
                pipe.execute()
        return done.result(None)

    def _rows(self, keys: Sequence[str]) -> dict[str, Row | PermanentError | None]:
        """Return the rows as they are now, or why one can't be sent."""
        try:
            found: dict[str, Row] = self.rows.read(keys)
        except PermanentError as error:
            if len(keys) == 1:
                return {keys[0]: error}
            # One bad row fails a whole read: halve until it stands alone.
            middle = len(keys) // 2
            return self._rows(keys[:middle]) | self._rows(keys[middle:])
        return {key: self._judged(found.get(key)) for key in keys}

    def _judged(self, row: Row | None) -> Row | PermanentError | None:
        if row is not None and beyond_skew(row.version, self.applier.clock_ms()):
            return PoisonRecordError(
                f"row {row.key!r}: version {row.version} lies too far in the future; correct the clock of its writer"
            )
        return row


def forward_until(forwarder: Forwarder, stopped: Any, tell: Callable[[Result], object] = lambda result: None) -> None:
    """Carry batches until `stopped` (a threading.Event, or a Limit) is set; a Redis that is away is tried again."""
    while not stopped.is_set():
        try:
            result = forwarder.turn()
        except TransientError as error:
            LOGGER.warning("changes not forwarded: %s", error)
            stopped.wait(1.0)
            continue
        if result is None:
            continue
        tell(result)
        if result.outcomes.get(Outcome.FAILED):
            # What failed is taken up again once it is idle; a store that is away is not asked without a pause.
            stopped.wait(0.5)


def _read(fields: Mapping[bytes, bytes]) -> tuple[str, list[str]]:
    """Return the row that a record names, and the features. Raises KeyError and UnicodeDecodeError for what names none."""
    return fields[b"k"].decode(), [name[len(_FIELD) :].decode() for name in fields if name.startswith(_FIELD)]
