"""Redis as a source, with a real server and Bigtable's emulator: one step, no loss, no disorder, whoever is killed."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from redis_servers import RedisServer, redis_server
from replication_sites import PROJECT, Sites, make_sites, sdk_variables, variables

from functions.features.apply import FeatureApplier
from functions.features.envelope import Envelope, Vector, decode, encode
from functions.features.errors import EnvelopeError
from functions.features.plan import Outcome
from functions.features.redis.forward import PARKED, Forwarder, RedisParkingLot
from functions.features.redis.seed_api import CrossCloudFeatureStore
from functions.features.redis.source import RedisRows, read_value, to_fields, to_row
from functions.features.tombstone import tombstone
from functions.features.version import origin, stamp
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import Applied, Row, RowStore
from local.ground.client import GroundClient
from local.names import Cloud, FaultMode
from tests.unit.features.feature_examples import envelopes
from tests.unit.features.memory_tables import MemoryTable

HERE = Path(__file__).resolve().parent


def now_ms() -> int:
    return time.time_ns() // 1_000_000


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


@pytest.fixture(scope="module")
def sites(ground: GroundClient) -> Iterator[Sites]:
    with variables(sdk_variables(ground)):
        yield make_sites(ground)


def row(key: str, steps: int, site: Site = Site.AWS) -> Row:
    return Row(key, stamp(now_ms() - 100_000 + 4 * steps, 0, site), encode(Envelope({"n": steps})))


def forwarder(server: RedisServer, rows: RedisRows, far: RowStore, name: str = "one") -> Forwarder:
    applier = FeatureApplier(Site.AWS, rows, far, RedisParkingLot(server.client()), now_ms)
    made = Forwarder(server.client(), rows, applier, name, idle_ms=50, block_ms=10)
    made.prepare()
    return made


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(envelopes)
def test_every_envelope_survives_a_hash(envelope: Envelope) -> None:
    found = Row("k", 8, encode(envelope))
    fields, header, _ = to_fields(found)
    held = {**fields, b"\0v": b"8", **({b"\0h": header} if header else {})}
    assert to_row("k", held) == found


def test_plain_clients_read_plain_values(server: RedisServer, rows: RedisRows) -> None:
    rows.set_features("7", {"price": 0.5, "count": 3, "name": "ada", "digits": "12", "vector": Vector.of([1.0])})
    plain = server.client().hgetall("entity:7")
    assert (plain[b"price"], plain[b"count"], plain[b"name"]) == (b"0.5", b"3", b"ada")
    attributes = decode(rows.read(["7"])["7"].envelope).attributes
    assert attributes == {
        "price": Decimal("0.5"),
        "count": 3,
        "name": "ada",
        "digits": "12",
        "vector": Vector.of([1.0]),
    }
    assert (read_value(b"\xff\x00"), read_value(b"1e3"), read_value(b"x y")) == (b"\xff\x00", Decimal(1000), "x y")


def test_setting_stamps_above_everything_and_records_in_one_step(server: RedisServer, rows: RedisRows) -> None:
    versions = [rows.set_features("k", {f"f{number % 3}": number}) for number in range(50)]
    assert versions == sorted(set(versions))
    assert all(origin(version) is Site.AWS for version in versions)
    records = server.client().xrange("lifeboat:changes")
    assert [int(fields[b"v"]) for _, fields in records] == versions
    ahead = Row("k", versions[-1] + 40_001, encode(Envelope({"n": 1})))
    assert rows.apply([ahead]) == [Applied.APPLIED]
    assert rows.set_features("k", {"m": 2}) > ahead.version
    assert decode(rows.read(["k"])["k"].envelope).attributes == {"n": 1, "m": 2}
    for wrong in ({}, {"\0v": 1}, {"n": float("nan")}):
        with pytest.raises(EnvelopeError):
            rows.set_features("k", wrong)


def test_redis_keeps_the_contract_of_a_feature_table(rows: RedisRows) -> None:
    home = row("home", 5)
    assert rows.write(home) is None
    assert rows.write(home) == home.version
    newer = rows.read(["home", "nobody"])
    assert set(newer) == {"home"}
    late = [row("late", steps) for steps in (2, 7, 4, 7, 1)]
    for each in late:
        assert rows.apply([each])[0] in (Applied.APPLIED, Applied.STALE)
    assert rows.read(["late"])["late"].version == max(each.version for each in late)
    many = [row(f"many{number:04d}", number) for number in range(2_100)]
    assert rows.apply(many) == [Applied.APPLIED] * 2_100
    assert sorted(rows.scan("many0100", "many0110"), key=lambda each: each.key) == many[100:110]
    assert len({each.key for each in rows.scan("many")}) == 2_100
    dead = tombstone("home", newer["home"].version + 4)
    assert rows.write(dead) is None
    assert rows.read(["home"]) == {"home": dead}
    assert not rows.bury(row("home", 9))
    assert rows.bury(tombstone("never", 8 + now_ms() // 4 * 4))
    rows.set_features("home", {"n": 1})
    assert not decode(rows.read(["home"])["home"].envelope).deleted


def test_unaware_hashes_are_adopted_once(server: RedisServer, rows: RedisRows) -> None:
    server.client().hset("entity:plain", mapping={"price": "1.50", "name": "x"})
    assert rows.read(["plain"])["plain"].version == 0
    version = stamp(now_ms(), 0, Site.AWS)
    adopted = rows.adopt("plain", None, version)
    assert adopted is not None
    assert decode(adopted.envelope).attributes == {"price": Decimal("1.5"), "name": "x"}
    assert rows.adopt("plain", None, version + 4) is None
    assert rows.adopt("nobody", None, version) is None


def test_a_batch_is_collapsed_carried_and_cleared(server: RedisServer, rows: RedisRows) -> None:
    far = MemoryTable()
    carrier = forwarder(server, rows, far)
    assert carrier.turn() is None
    for number in range(300):
        rows.set_features(f"k{number % 7}", {f"f{number % 12}": number})
    rows.apply([row("from far", 1, Site.GCP)])
    result = carrier.turn()
    assert result is not None
    assert (result.outcomes[Outcome.APPLIED], result.outcomes[Outcome.STALE]) == (7, 293)
    assert far.rows == rows.read([f"k{number}" for number in range(7)])
    assert carrier.waiting() == 0
    assert carrier.turn() is None


def test_what_can_never_be_sent_is_parked_and_blocks_nothing(server: RedisServer, rows: RedisRows) -> None:
    far = MemoryTable()
    carrier = forwarder(server, rows, far)
    rows.set_features("good", {"n": 1})
    rows.set_features("bad", {"n": 1})
    server.client().hset("entity:bad", "n", b"\0no envelope")
    server.client().xadd("lifeboat:changes", {"what": "ever"})
    assert rows.write(Row("ahead", stamp(now_ms() + 3_600_000, 0, Site.AWS), encode(Envelope({})))) is None
    rows.set_features("gone", {"n": 1})
    server.client().delete("entity:gone")
    result = carrier.turn()
    assert result is not None
    assert (result.outcomes[Outcome.PARKED], result.outcomes[Outcome.APPLIED]) == (3, 1)
    assert set(far.rows) == {"good"}
    assert (carrier.waiting(), server.client().xlen(PARKED)) == (0, 3)


def test_a_far_side_that_is_away_keeps_every_record(server: RedisServer, rows: RedisRows) -> None:
    class Away(MemoryTable):
        away = True

        def apply(self, rows: object) -> list[Applied]:
            if self.away:
                raise StoreUnavailableError("away")
            return super().apply(rows)  # type: ignore[arg-type]

    far = Away()
    carrier = forwarder(server, rows, far)
    for number in range(20):
        rows.set_features(f"k{number}", {"n": number})
    result = carrier.turn()
    assert result is not None
    assert result.outcomes[Outcome.FAILED] == 20
    assert carrier.waiting() == 20
    far.away = False
    other = forwarder(server, rows, far, "two")
    deadline = time.monotonic() + 10
    while other.waiting():
        other.turn()
        assert time.monotonic() < deadline, "records of a consumer that failed are not taken over"
    assert far.rows == rows.read(list(far.rows))
    assert len(far.rows) == 20


def test_the_articles_api_without_its_faults(server: RedisServer, rows: RedisRows, sites: Sites) -> None:
    bigtable = sites.clients(Site.AWS).rows(Site.GCP)
    with CrossCloudFeatureStore(server.url, sites.name, project=PROJECT) as store:
        # Three are fewer than the ten that the article waits for.
        for number in range(3):
            store.set_feature("user#1", "clicks", float(number))
        store.set_feature("user#1", "score", 0.1)
        assert store.drain(20)
    found = bigtable.read(["user#1"])
    assert found == rows.read(["user#1"])
    assert decode(found["user#1"].envelope).attributes == {"clicks": 2, "score": Decimal("0.1")}


@pytest.mark.usefixtures("no_faults")
def test_forwarders_killed_in_the_middle_lose_nothing(
    server: RedisServer, rows: RedisRows, sites: Sites, ground: GroundClient, tell: Callable[[str], None]
) -> None:
    seed = 20_261
    chance = random.Random(seed)
    environment = {**os.environ, **sdk_variables(ground), "PYTHONPATH": str(HERE.parents[1])}
    command = (sys.executable, str(HERE / "redis_forwarder.py"), server.url, sites.name, PROJECT)
    carrier = forwarder(server, rows, sites.clients(Site.AWS).rows(Site.GCP), "last")
    written = killed = 0
    running: list[subprocess.Popen[bytes]] = []
    try:
        for life in range(5):
            running = [subprocess.Popen((*command, f"c{life}{n}"), env=environment) for n in range(2)]
            carried, more, ends = written - carrier.waiting(), 300 + chance.randrange(300), time.monotonic() + 60
            # Until they carry, and then for a random while: they die at work, with records in their hands.
            while written - carrier.waiting() < carried + more:
                rows.set_features(f"kill{chance.randrange(400)}", {f"f{chance.randrange(12)}": written})
                written += 1
                assert time.monotonic() < ends, "the forwarders carry nothing"
            while not server.client().xpending("lifeboat:changes", "lifeboat")["pending"]:
                rows.set_features(f"kill{chance.randrange(400)}", {"f0": written})
                written += 1
                assert time.monotonic() < ends, "the forwarders hold nothing"
            if life == 3:
                ground.fault(Cloud.GCP, FaultMode.BLACK_HOLE)
            for process in running:
                process.kill()
                process.wait(10)
                killed += 1
            if life == 3:
                ground.restore(Cloud.GCP)
        left = carrier.waiting()
        deadline = time.monotonic() + 60
        while carrier.waiting():
            carrier.turn()
            assert time.monotonic() < deadline, f"seed {seed}: {carrier.waiting()} records never went over"
    finally:
        for process in running:
            process.kill()
            process.wait(10)
    keys = [f"kill{number}" for number in range(400)]
    here, there = rows.read(keys), sites.clients(Site.AWS).rows(Site.GCP).read(keys)
    tell(f"seed {seed}: {written} writes, {killed} forwarders killed, {left} records left for the last one")
    assert written > 2_000
    assert here == there
    assert server.client().xpending("lifeboat:changes", "lifeboat")["pending"] == 0


def test_a_server_that_comes_back_has_rows_and_records(tmp_path: Path) -> None:
    far = MemoryTable()
    with redis_server(tmp_path, keep=True) as other:
        rows = RedisRows(other.client(), Site.AWS)
        rows.prepare()
        carrier = forwarder(other, rows, far)
        for number in range(30):
            rows.set_features(f"k{number}", {"n": number})
        other.kill()
        with pytest.raises(StoreUnavailableError):
            rows.set_features("k0", {"n": 1})
        with pytest.raises(StoreUnavailableError):
            carrier.turn()
        other.start()
        deadline = time.monotonic() + 20
        while carrier.waiting():
            carrier.turn()
            assert time.monotonic() < deadline
        assert len(far.rows) == 30
        rows.set_features("k0", {"n": 99})
        carrier.turn()
        assert far.rows == rows.read([f"k{number}" for number in range(30)])
