"""A read-through Redis cache in front of a site's own table, where entries are replaced by version and never by age of arrival.

An entry carries its row's version, and the server takes one in only if it holds none as new: a slow reader can't put back what a
writer has replaced. What is written here goes through to the cache; what replication brings is offered to it, or its version
is, by whoever applies it. Beyond that an entry lives so briefly that a missed offer costs seconds of staleness. The cache is
never needed: when Redis is away, reads and writes go to the table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from functions.stores.protocols import Applied, Row, RowStore
from functions.telemetry import LOGGER

if TYPE_CHECKING:
    from redis import Redis

# An entry that no offer reached is stale for so long at most.
TTL_MS = 2_000
# A cache that does not answer at once is no cache.
TIMEOUT_SECONDS = 0.05
_PREFIX = "lifeboat:row:"
# Versions are milliseconds; sixteen digits hold them far beyond any clock and stay exact in a script's doubles.
_DIGITS = 16
_OFFER = """
local known = redis.call('GETRANGE', KEYS[1], 0, 15)
if known ~= '' then
  local difference = tonumber(known) - tonumber(ARGV[1])
  if difference > 0 or (difference == 0 and redis.call('STRLEN', KEYS[1]) > 16) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1
"""


@dataclass
class CacheFigures:
    """What the cache was asked; `failures` are calls that Redis did not answer."""

    hits: int = 0
    misses: int = 0
    failures: int = 0


@dataclass
class CachingRows:
    """A RowStore that reads through Redis. `redis` returns bytes and has short time limits."""

    rows: RowStore
    redis: "Redis"
    ttl_ms: int = TTL_MS
    figures: CacheFigures = field(default_factory=CacheFigures)

    def __post_init__(self) -> None:
        self._offer: Any = self.redis.register_script(_OFFER)

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        """Return the rows that exist; those in the cache without asking the table."""
        found = self._cached(keys)
        missing = [key for key in keys if key not in found]
        self.figures.hits += len(found)
        self.figures.misses += len(missing)
        if missing:
            fresh = self.rows.read(missing)
            self.offer(list(fresh.values()))
            found |= fresh
        return found

    def write(self, row: Row) -> int | None:
        """Write to the table, and through to the cache."""
        existing = self.rows.write(row)
        if existing is None:
            self.offer([row])
        else:
            self.outdate({row.key: existing})
        return existing

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        """Bring in replicated rows, and offer to the cache what was taken."""
        answers = self.rows.apply(rows)
        self.offer([row for row, answer in zip(rows, answers, strict=True) if answer is Applied.APPLIED])
        return answers

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        """Scan the table itself."""
        return self.rows.scan(start, end)

    def offer(self, rows: Sequence[Row]) -> None:
        """Put rows in place of older ones; a newer one stays."""
        self._put({row.key: (row.version, row.envelope) for row in rows})

    def outdate(self, versions: Mapping[str, int]) -> None:
        """Tell that rows of these versions exist, where their content is not at hand: what is older is not served again."""
        self._put({key: (version, b"") for key, version in versions.items()})

    def _cached(self, keys: Sequence[str]) -> dict[str, Row]:
        values = self._call(lambda: self.redis.mget([_PREFIX + key for key in keys])) if keys else []
        found = {}
        for key, value in zip(keys, values or [], strict=False):
            # Sixteen digits alone tell of a version whose content was not at hand.
            if value is not None and len(value) > _DIGITS:
                found[key] = Row(key, int(value[:_DIGITS]), value[_DIGITS:])
        return found

    def _put(self, entries: Mapping[str, tuple[int, bytes]]) -> None:
        if not entries:
            return

        def put() -> object:
            with self.redis.pipeline(transaction=False) as pipe:
                for key, (version, data) in entries.items():
                    arguments = [f"{version:0{_DIGITS}d}", data, self.ttl_ms]
                    self._offer(keys=[_PREFIX + key], args=arguments, client=pipe)
                return pipe.execute()

        self._call(put)

    def _call(self, ask: Callable[[], Any]) -> Any:
        from redis.exceptions import RedisError

        try:
            return ask()
        except RedisError as error:
            self.figures.failures += 1
            LOGGER.warning("the feature cache did not answer: %s", error)
            return None


def open_cache(url: str) -> "Redis":
    """Return a client with the time limits of a cache."""
    from redis import Redis

    return Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
