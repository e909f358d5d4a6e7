"""The site's own table as what changes in Redis are carried into; from there they replicate as every row does.

Each row is written on the condition that the table's row is still the one it was laid over, so two forwarders, or a forwarder and
any other writer, never undo each other's features.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from functions.errors import PermanentError, TransientError
from functions.features.redis.settle import Verdict, Write, settle
from functions.features.redis.source import RedisRows
from functions.stores.protocols import Applied, FeatureTable, Row
from functions.telemetry import LOGGER

# Conditional writes are one call each; enough at once to hide their latency, few enough for one small function.
_WRITERS = 16
# A row that other writers keep changing comes again with its record.
_TRIES = 3


@dataclass(frozen=True)
class TableOfRedis:
    """The table as a RowStore that takes rows as Redis has them.

    `names` holds the changed features of each key, None for the whole row.
    """

    redis: RedisRows
    table: FeatureTable
    names: Mapping[str, Collection[str] | None]

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        """Carry the rows in. STALE: the table has the change, or a newer row, or the change has gone on record once more."""
        there = self.table.read([row.key for row in rows])
        with ThreadPoolExecutor(_WRITERS) as pool:
            return list(pool.map(lambda row: self._one(row, there.get(row.key)), rows))

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        return self.table.read(keys)

    def write(self, row: Row) -> int | None:
        return self.table.write(row)

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        return self.table.scan(start, end)

    def _one(self, row: Row, there: Row | None) -> Applied:
        try:
            for _ in range(_TRIES):
                answer = self._once(row, there)
                if answer is not None:
                    return answer
                there = self.table.read([row.key]).get(row.key)
        except PermanentError as error:
            LOGGER.error("row %r can't be carried from Redis: %s", row.key, error)
            return Applied.REFUSED
        except TransientError as error:
            LOGGER.warning("row %r is not carried from Redis: %s", row.key, error)
        return Applied.FAILED

    def _once(self, row: Row, there: Row | None) -> Applied | None:
        """Return the outcome, None where another writer came first."""
        names = self.names.get(row.key)
        todo = settle(row, names, there)
        if isinstance(todo, Write):
            # Redis does not learn the rest of the row: the hash may hold features whose records are still to come.
            return Applied.APPLIED if self.table.swap(todo.row, todo.seen) else None
        if todo is Verdict.AGAIN:
            self.redis.touch(row.key, names or ())
        elif todo is Verdict.BEHIND and there is not None:
            # All that the hash holds is older, records to come included.
            self.redis.refresh(there, row.version)
        return Applied.STALE
