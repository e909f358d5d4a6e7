"""The contract of a feature table, against DynamoDB and Bigtable."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import boto3
import pytest
from replication_sites import Sites, make_sites, sdk_variables, variables

from functions.features.client import FeatureStore
from functions.features.envelope import Envelope, Vector, decode, encode
from functions.features.errors import EnvelopeError
from functions.features.tombstone import tombstone
from functions.features.version import origin, stamp
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import Applied, Row, RowStore
from local.ground.client import GroundClient
from local.names import Cloud, FaultMode

NOW_MS = 1_795_500_000_000


@pytest.fixture(scope="module")
def sites(ground: GroundClient) -> Iterator[Sites]:
    with variables(sdk_variables(ground)):
        yield make_sites(ground)


@pytest.fixture(params=list(Site))
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.param
    return found


@pytest.fixture
def rows(sites: Sites, site: Site) -> RowStore:
    return sites.clients(Site.AWS).rows(site)


def row(key: str, steps: int, value: int = 0, site: Site = Site.AWS) -> Row:
    return Row(key, stamp(NOW_MS + 4 * steps, 0, site), encode(Envelope({"n": value or steps})))


def test_a_home_write_wins_only_over_older_versions(rows: RowStore) -> None:
    assert rows.write(row("home", 5)) is None
    assert rows.read(["home", "nobody"]) == {"home": row("home", 5)}
    assert rows.write(row("home", 5)) == row("home", 5).version
    assert rows.write(row("home", 3)) == row("home", 5).version
    assert rows.write(row("home", 6)) is None
    assert rows.read(["home"]) == {"home": row("home", 6)}
    assert rows.read([]) == {}


def test_replicated_rows_may_come_in_any_order_and_again(rows: RowStore) -> None:
    for steps in (2, 7, 4, 7, 1):
        assert rows.apply([row("late", steps)])[0] in (Applied.APPLIED, Applied.STALE)
    assert rows.read(["late"]) == {"late": row("late", 7)}
    assert rows.write(row("late", 6)) == row("late", 7).version


def test_many_rows_are_applied_read_and_scanned(rows: RowStore) -> None:
    many = [row(f"many{number:04d}", number) for number in range(230)]
    assert rows.apply(many) == [Applied.APPLIED] * 230
    assert rows.apply([]) == []
    assert rows.read([each.key for each in many]) == {each.key: each for each in many}
    assert sorted(rows.scan("many0100", "many0110"), key=lambda each: each.key) == many[100:110]
    assert len({each.key for each in rows.scan("many")}) == 230
    assert {each.key for each in many} <= {each.key for each in rows.scan()}


def test_a_large_row_and_an_odd_key_pass(rows: RowStore) -> None:
    large = Row("größe #1/%+ 'x'", row("", 1).version, encode(Envelope({"v": Vector.of([0.5] * 75_000)})))
    assert rows.apply([large]) == [Applied.APPLIED]
    assert rows.read([large.key]) == {large.key: large}


def test_concurrent_home_writers_never_share_a_version(rows: RowStore, site: Site) -> None:
    store = FeatureStore(rows, site, lambda: NOW_MS)

    def write(number: int) -> list[int]:
        return [store.set(f"contended{n}", {"by": number}) for n in range(5)]

    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(write, range(4)))
    for n in range(5):
        column = [each[n] for each in versions]
        assert len(set(column)) == 4
        assert store.get(f"contended{n}").version == max(column)  # type: ignore[union-attr]


def test_the_library_hides_tombstones_and_expired_rows(rows: RowStore, site: Site) -> None:
    store = FeatureStore(rows, site, lambda: NOW_MS)
    version = store.set(
        "seen", {"n": 1, "tags": frozenset({"x"}), "vector": Vector.of([1.0, 2.0])}, event_ms=9, schema=2
    )
    found = store.get("seen")
    assert found is not None
    assert (found.version, found.event_ms, found.schema, origin(found.version)) == (version, 9, 2, site)
    assert found.attributes == {"n": Decimal(1), "tags": frozenset({"x"}), "vector": Vector.of([1.0, 2.0])}
    deleted = store.delete("seen")
    assert deleted > version
    assert store.get("seen") is None
    assert rows.read(["seen"])["seen"] == tombstone("seen", deleted)
    assert store.set("seen", {"n": 2}) > deleted
    store.set("brief", {"n": 1}, expires=NOW_MS // 1000 + 1)
    store.set("over", {"n": 1}, expires=NOW_MS // 1000)
    assert set(store.get_many(["seen", "brief", "over", "nobody", "seen"])) == {"seen", "brief"}
    with pytest.raises(EnvelopeError):
        store.set("bad", {"n": float("nan")})


def test_ended_rows_are_taken_away_and_a_newer_version_stays(sites: Sites, site: Site) -> None:
    table = sites.clients(Site.AWS).feature_table(site)
    ended, renewed = row("ended", 1), row("renewed", 1)
    table.apply([ended, renewed, row("renewed", 2)])
    discarded = table.discard([ended, renewed])
    # DynamoDB's own time to live does it there.
    assert discarded == (2 if site is Site.GCP else 0)
    left = {"renewed": row("renewed", 2)} | ({} if site is Site.GCP else {"ended": ended})
    assert table.read(["ended", "renewed"]) == left


def test_a_row_ahead_of_the_clock_is_still_written_over(rows: RowStore, site: Site) -> None:
    ahead = row("ahead", 1_000, site=site.peer)
    rows.apply([ahead])
    store = FeatureStore(rows, site, lambda: NOW_MS)
    assert store.set("ahead", {"n": 7}) > ahead.version


def test_unaware_rows_are_read_and_adopted_once(sites: Sites) -> None:
    rows = sites.clients(Site.AWS).adopting_rows
    table = boto3.resource("dynamodb").Table(f"{sites.name}-features")
    table.put_item(Item={"entity": "plain", "price": Decimal("1.50"), "tags": {"a", "b"}, "raw": b"\x00\xff"})
    assert rows.read(["plain"])["plain"].version == 0
    version = stamp(NOW_MS, 0, Site.AWS)
    adopted = rows.adopt("plain", None, version)
    assert adopted is not None
    assert adopted.version == version
    assert decode(adopted.envelope).attributes == {
        "price": Decimal("1.5"),
        "tags": frozenset({"a", "b"}),
        "raw": b"\x00\xff",
    }
    assert rows.adopt("plain", None, version + 4) is None
    table.update_item(Key={"entity": "plain"}, UpdateExpression="SET price = :p", ExpressionAttributeValues={":p": 2})
    moved = rows.adopt("plain", version, version + 4)
    assert moved is not None
    assert decode(moved.envelope).attributes["price"] == 2
    assert rows.adopt("plain", version, version + 8) is None
    assert rows.adopt("nobody", None, version) is None


@pytest.mark.usefixtures("no_faults")
def test_a_dead_cloud_fails_rows_and_loses_none(ground: GroundClient, rows: RowStore, site: Site) -> None:
    cloud = Cloud(site.value)
    rows.apply([row("kept", 1)])
    ground.fault(cloud, FaultMode.BLACK_HOLE)
    with pytest.raises(StoreUnavailableError):
        rows.read(["kept"])
    with pytest.raises(StoreUnavailableError):
        rows.write(row("kept", 2))
    assert rows.apply([row("kept", 3), row("other", 3)]) == [Applied.FAILED] * 2
    ground.restore(cloud)
    # A channel that was refused tries again within its longest back-off of two seconds.
    deadline = time.monotonic() + 10
    while rows.apply([row("back", 1)]) != [Applied.APPLIED]:
        assert time.monotonic() < deadline, "the store did not come back"
        time.sleep(0.05)
    assert rows.read(["kept", "other"]) == {"kept": row("kept", 1)}
