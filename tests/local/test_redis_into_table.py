"""Changes in Redis laid over the site's own table, by forwarders that share the records: a real server, a table in memory."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from redis_servers import RedisServer, redis_server
from test_redis_source import now_ms

from functions.errors import SettingsError
from functions.features.apply import FeatureApplier
from functions.features.envelope import Envelope, decode, encode
from functions.features.redis.call import DRAIN, call
from functions.features.redis.forward import GROUP, Forwarder, RedisParkingLot
from functions.features.redis.source import STREAM, RedisRows
from functions.features.version import stamp
from functions.settings import Settings, Site
from functions.stores.clients import Clients
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import Row
from tests.unit.features.memory_tables import MemoryTable


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def rows(server: RedisServer) -> RedisRows:
    server.client().flushall()
    made = RedisRows(server.client(), Site.AWS)
    made.prepare()
    return made


def forwarder(server: RedisServer, rows: RedisRows, table: MemoryTable, name: str = "one") -> Forwarder:
    applier = FeatureApplier(Site.AWS, rows, table, RedisParkingLot(server.client()), now_ms)
    made = Forwarder(server.client(), rows, applier, name, idle_ms=0, block_ms=1, table=table)
    made.prepare()
    return made


def attributes(table: MemoryTable, key: str) -> object:
    return decode(table.rows[key].envelope).attributes


def written(key: str, site: Site, values: dict[str, int], ahead_ms: int = 0) -> Row:
    return Row(key, stamp(now_ms() + ahead_ms, 0, site), encode(Envelope(values)))


def test_a_feature_is_laid_over_the_row_that_the_table_has(server: RedisServer, rows: RedisRows) -> None:
    table = MemoryTable([written("k", Site.GCP, {"theirs": 1, "both": 1}, ahead_ms=-1_000)])
    carrier = forwarder(server, rows, table)
    # A Redis that has been away: it knows an old state of the row.
    rows.apply([Row("k", 8, encode(Envelope({"theirs": 0, "gone": 5})))])
    version = rows.set_features("k", {"both": 2, "ours": 3})
    assert carrier.turn() is not None
    assert attributes(table, "k") == {"theirs": 1, "both": 2, "ours": 3}
    assert table.rows["k"].version == version
    assert carrier.waiting() == 0


def test_a_newer_row_of_the_table_wins_and_redis_takes_it_over(server: RedisServer, rows: RedisRows) -> None:
    carrier = forwarder(server, rows, table := MemoryTable())
    rows.set_features("k", {"n": 1})
    newer = written("k", Site.GCP, {"n": 2}, ahead_ms=1_000)
    table.rows["k"] = newer
    carrier.turn()
    assert table.rows == {"k": newer} == rows.read(["k"])
    # And what is set next is above it.
    rows.set_features("k", {"m": 3})
    carrier.turn()
    assert attributes(table, "k") == {"n": 2, "m": 3}


def test_records_of_one_version_in_two_hands_lose_nothing(server: RedisServer, rows: RedisRows) -> None:
    table = MemoryTable()
    one, other = forwarder(server, rows, table), forwarder(server, rows, table, "other")
    rows.set_features("k", {"seed": 0})
    one.turn()
    for number in range(2):
        rows.set_features("k", {f"f{number}": number})
    # Each takes one record of the two, and both see the row as it is after both.
    taken = [(each, server.client().xreadgroup(GROUP, each.consumer, {STREAM: ">"}, 1)[0][1]) for each in (one, other)]
    for each, entries in taken:
        each._carry([(identity.decode(), fields) for identity, fields in entries])
    one.turn()
    assert attributes(table, "k") == {"seed": 0, "f0": 0, "f1": 1}
    assert rows.read(["k"]) == table.rows
    assert one.waiting() == 0


def test_many_features_of_one_write_are_all_named(server: RedisServer, rows: RedisRows) -> None:
    table = MemoryTable([written("k", Site.GCP, {"theirs": 1}, ahead_ms=-1_000)])
    carrier = forwarder(server, rows, table)
    rows.set_features("k", {f"f{number}": number for number in range(2_500)})
    carrier.turn()
    assert attributes(table, "k") == {"theirs": 1} | {f"f{number}": number for number in range(2_500)}


def test_forwarders_and_other_writers_of_the_same_rows_agree(
    server: RedisServer, rows: RedisRows, tell: Callable[[str], None]
) -> None:
    seed = 20_262
    chance = random.Random(seed)

    class Busy(MemoryTable):
        """Another writer comes in between now and then, and the table is away now and then."""

        interrupted = 0

        def swap(self, row: Row, seen: int | None) -> bool:
            event = chance.random()
            if event < 0.1:
                self.interrupted += 1
                known = self.rows.get(row.key)
                before = decode(known.envelope).attributes if known else {}
                version = stamp(now_ms(), known.version if known else 0, Site.AWS)
                self.rows[row.key] = Row(row.key, version, encode(Envelope({**before, "other": self.interrupted})))
            elif event < 0.15:
                raise StoreUnavailableError("away")
            return super().swap(row, seen)

    table = Busy()
    carriers = [forwarder(server, rows, table, f"c{number}") for number in range(3)]
    for number in range(2_000):
        rows.set_features(f"k{chance.randrange(20)}", {f"f{chance.randrange(6)}": number})
        if chance.random() < 0.2:
            chance.choice(carriers).turn()
    for _ in range(500):
        if not carriers[0].waiting():
            break
        chance.choice(carriers).turn()
    assert carriers[0].waiting() == 0, f"seed {seed}"
    tell(f"seed {seed}: 2,000 writes, {table.interrupted} writes of others in between")
    assert table.interrupted > 20
    held = rows.read(list(table.rows))
    for key, row in table.rows.items():
        assert held[key].version == row.version, f"seed {seed}"
        ours, theirs = decode(held[key].envelope).attributes, decode(row.envelope).attributes
        assert {name: value for name, value in ours.items() if name != "other"} == {
            name: value for name, value in theirs.items() if name != "other"
        }, f"seed {seed}"


@dataclass
class SomeClients:
    """What a call asks its clients for."""

    redis: Any
    table: MemoryTable

    def feature_table(self, site: Site) -> MemoryTable:
        return self.table


def test_a_call_prepares_carries_and_leaves_the_group(server: RedisServer, rows: RedisRows) -> None:
    server.client().flushall()
    server.client().function_flush()
    clients = cast(Clients, SomeClients(server.client(), table := MemoryTable()))
    settings = Settings(Site.AWS, forward_seconds=1)
    # The first call makes the functions and the group, and has nothing to carry.
    assert call(settings, clients, now_ms, {"action": DRAIN}) == {"waiting": 0}
    rows.set_features("k", {"n": 1})
    done = call(replace(settings, forward_seconds=30), clients, now_ms, {"action": DRAIN})
    assert (done["applied"], done["waiting"]) == (1, 0)
    assert attributes(table, "k") == {"n": 1}
    assert server.client().xinfo_consumers(STREAM, GROUP) == []
    with pytest.raises(SettingsError, match="allowed: drain"):
        call(settings, clients, now_ms, {"action": "stop"})


def test_a_consumer_that_holds_records_is_never_taken_out(server: RedisServer, rows: RedisRows) -> None:
    carrier = forwarder(server, rows, MemoryTable())
    rows.set_features("k", {"n": 1})
    server.client().xreadgroup(GROUP, carrier.consumer, {STREAM: ">"}, 1)
    carrier.leave()
    assert [each["name"] for each in server.client().xinfo_consumers(STREAM, GROUP)] == [b"one"]
    carrier.turn()
    carrier.leave()
    assert server.client().xinfo_consumers(STREAM, GROUP) == []
