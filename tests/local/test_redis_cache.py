"""The read-through cache against a real server: what is newer is never put back, and a dead cache costs nothing but speed."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis_servers import RedisServer, redis_server

from functions.features.client import FeatureStore
from functions.features.envelope import Envelope, encode
from functions.features.redis.cache import TTL_MS, CachingRows, open_cache
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.protocols import Applied, Row
from tests.unit.features.memory_tables import MemoryTable

NOW_MS = 1_795_500_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


class Counted(MemoryTable):
    """A table that counts the keys it was asked for."""

    asked = 0

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        self.asked += len(keys)
        return super().read(keys)


@pytest.fixture
def table(server: RedisServer) -> Counted:
    server.client().flushall()
    return Counted()


def row(key: str, steps: int) -> Row:
    return Row(key, stamp(NOW_MS + 4 * steps, 0, Site.AWS), encode(Envelope({"n": steps})))


def test_a_second_read_is_the_caches(server: RedisServer, table: Counted) -> None:
    cached = CachingRows(table, open_cache(server.url))
    table.apply([row("a", 1), row("b", 2)])
    assert cached.read(["a", "b", "nobody"]) == {"a": row("a", 1), "b": row("b", 2)}
    assert cached.read(["b", "a"]) == {"a": row("a", 1), "b": row("b", 2)}
    assert table.asked == 3
    assert (cached.figures.hits, cached.figures.misses) == (2, 3)
    assert cached.read([]) == {}


def test_writes_are_seen_by_every_host_of_the_site(server: RedisServer, table: Counted) -> None:
    hosts = [CachingRows(table, open_cache(server.url), ttl_ms=60_000) for _ in range(2)]
    stores = [FeatureStore(host, Site.AWS, lambda: NOW_MS) for host in hosts]
    stores[0].set("k", {"n": 1})
    assert stores[1].get("k").attributes == {"n": 1}  # type: ignore[union-attr]
    stores[1].set("k", {"n": 2})
    assert stores[0].get("k").attributes == {"n": 2}  # type: ignore[union-attr]
    stores[0].delete("k")
    assert stores[1].get("k") is None
    assert table.asked == 0


def test_a_slow_reader_never_puts_back_what_was_replaced(server: RedisServer, table: Counted) -> None:
    cached = CachingRows(table, open_cache(server.url), ttl_ms=60_000)
    table.apply([row("k", 1)])
    slow = table.read(["k"])
    cached.write(row("k", 5))
    cached.offer(list(slow.values()))
    assert cached.read(["k"]) == {"k": row("k", 5)}


def test_replicated_rows_and_bare_versions_replace_what_is_older(server: RedisServer, table: Counted) -> None:
    cached = CachingRows(table, open_cache(server.url), ttl_ms=60_000)
    cached.write(row("k", 1))
    assert cached.apply([row("k", 3)]) == [Applied.APPLIED]
    assert cached.read(["k"]) == {"k": row("k", 3)}
    table.apply([row("k", 7)])
    cached.outdate({"k": row("k", 7).version})
    assert cached.read(["k"]) == {"k": row("k", 7)}
    cached.outdate({"k": row("k", 2).version})
    asked = table.asked
    assert cached.read(["k"]) == {"k": row("k", 7)}
    assert table.asked == asked
    table.apply([row("k", 9)])
    assert cached.write(row("k", 8)) == row("k", 9).version
    assert cached.read(["k"]) == {"k": row("k", 9)}


def test_what_no_offer_reached_is_stale_for_moments_only(server: RedisServer, table: Counted) -> None:
    cached = CachingRows(table, open_cache(server.url))
    cached.write(row("k", 1))
    table.apply([row("k", 2)])
    deadline = time.monotonic() + TTL_MS / 1000 + 5
    while cached.read(["k"]) != {"k": row("k", 2)}:
        assert time.monotonic() < deadline, "the entry outlives its time"
        time.sleep(0.05)


def test_a_dead_cache_is_no_dead_store(table: Counted, tmp_path: Path) -> None:
    with redis_server(tmp_path) as other:
        cached = CachingRows(table, open_cache(other.url))
        cached.write(row("k", 1))
        other.kill()
        assert cached.read(["k"]) == {"k": row("k", 1)}
        assert cached.write(row("k", 2)) is None
        assert cached.apply([row("k", 3)]) == [Applied.APPLIED]
        assert cached.read(["k"]) == {"k": row("k", 3)}
        assert cached.figures.failures >= 4
        other.start()
        assert cached.read(["k"]) == {"k": row("k", 3)}
