"""User data from Spanner through its change stream and Google's template's messages into PostgreSQL, and the way there."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from functions.features.version import SKEW_BOUND_MS, stamp
from functions.settings import Site
from functions.userdata.change import Change, key_of
from functions.userdata.schema import REFERENCE_TABLES
from local.ground import user_data
from local.ground.client import GroundClient
from tests.local.userdata_sites import UserDataSites, a_user, an_order, make_user_data, now_ms
from tests.local.userdata_stream import Stream, streaming

pytestmark = pytest.mark.skipif(bool(user_data.missing()), reason=user_data.missing() or "user data can run")
USERS, ORDERS = REFERENCE_TABLES


@pytest.fixture
def sites(ground: GroundClient) -> UserDataSites:
    return make_user_data(ground)


@pytest.fixture
def stream(sites: UserDataSites, tmp_path: Path) -> Iterator[Stream]:
    with streaming(sites, tmp_path) as running:
        yield running


def until(condition: Callable[[], bool], limit_seconds: float = 30.0) -> None:
    deadline = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {limit_seconds} s"
        time.sleep(0.02)


def replicate(sites: UserDataSites, stream: Stream, total: Counter[str]) -> None:
    for arrived in stream.deliver():
        total.update(arrived.counts())
    total.update(sites.drain.run(now_ms() + 30_000).counts())


def test_a_write_on_spanner_arrives_in_postgres(sites: UserDataSites, stream: Stream) -> None:
    chance = random.Random(1)
    total: Counter[str] = Counter()
    rows = [a_user(chance) for _ in range(100)]
    for row in rows:
        sites.far.put("users", row)
    orders = [an_order(chance, str(row["id"])) for row in rows]
    for order in orders:
        sites.far.put("orders", order)
    sites.far.delete("orders", key_of(orders[0], ORDERS))
    sites.far.delete("users", key_of(rows[0], USERS))

    def there() -> bool:
        replicate(sites, stream, total)
        return len(sites.home.page("orders", None).changes) == 99 and len(sites.home.page("users", None).changes) == 99

    until(there)
    users, of_users = sites.prover.prove(repair=False)
    assert (users.rows, users.tombstones, of_users.rows, of_users.tombstones) == ((99, 99), (1, 1), (99, 99), (1, 1))
    assert users.equal and of_users.equal
    assert total["parked"] == 0 and sites.outbox() == 0


def test_nothing_goes_round_in_circles(sites: UserDataSites, stream: Stream) -> None:
    chance = random.Random(2)
    total: Counter[str] = Counter()
    ours, theirs = [a_user(chance) for _ in range(50)], [a_user(chance) for _ in range(50)]
    for row in ours:
        sites.home.put("users", row)
    for row in theirs:
        sites.far.put("users", row)

    def settled() -> bool:
        replicate(sites, stream, total)
        return total["applied"] >= 100 and total["echo"] >= 50

    until(settled)
    until(lambda: not stream.take() and not sites.outbox())
    assert (total["applied"], total["echo"], total["adopted"]) == (100, 50, 0)
    # A write of one side is told once, and what it causes is not told again.
    told = stream.job.counters.records
    assert told <= 100
    beats = stream.job.counters.heartbeats
    until(lambda: stream.job.counters.heartbeats >= beats + 4)
    assert stream.job.counters.records == told
    assert sites.prover.prove(repair=False)[0].equal


def test_a_writer_that_knows_no_versions_is_adopted_and_replicated(sites: UserDataSites, stream: Stream) -> None:
    total: Counter[str] = Counter()
    row = a_user(random.Random(3))
    sites.home.put("users", row)
    key = key_of(row, USERS)
    sites.drain.run(now_ms() + 30_000)

    sites.unaware(f"UPDATE users SET visits = 123 WHERE id = '{row['id']}'")

    def there() -> bool:
        replicate(sites, stream, total)
        found = sites.home.read("users", [key])[key].row
        return found is not None and found["visits"] == 123

    until(there)
    sites.unaware(f"DELETE FROM users WHERE id = '{row['id']}'")
    until(lambda: replicate(sites, stream, total) or sites.home.read("users", [key])[key].deleted)
    assert total["adopted"] == 2
    until(lambda: not stream.take())
    assert all(table.equal for table in sites.prover.prove(repair=False))


def test_a_child_of_a_deleted_parent_is_buried_and_both_sides_agree(sites: UserDataSites, stream: Stream) -> None:
    chance = random.Random(4)
    total: Counter[str] = Counter()
    user = a_user(chance)
    sites.home.put("users", user)
    sites.drain.run(now_ms() + 30_000)
    # At once: the user goes on one side while an order is placed on the other.
    sites.home.delete("users", key_of(user, USERS))
    order = an_order(chance, str(user["id"]))
    sites.far.put("orders", order)
    assert sites.drain.run(now_ms() + 30_000).counts()["waiting"] == 1

    def agreed() -> bool:
        replicate(sites, stream, total)
        return sites.outbox() == 0 and all(table.equal for table in sites.prover.prove(repair=False))

    until(agreed)
    assert total["buried"] == 1
    assert sites.home.read("orders", [key_of(order, ORDERS)])[key_of(order, ORDERS)].deleted


def test_the_other_way_round_the_parent_goes_on_spanner(sites: UserDataSites, stream: Stream) -> None:
    chance = random.Random(5)
    total: Counter[str] = Counter()
    user = a_user(chance)
    sites.home.put("users", user)
    sites.drain.run(now_ms() + 30_000)
    sites.far.delete("users", key_of(user, USERS))
    sites.home.put("orders", an_order(chance, str(user["id"])))
    until(
        lambda: (
            replicate(sites, stream, total)
            or (total["buried"] == 1 and sites.outbox() == 0 and sites.prover.prove(repair=False)[1].equal)
        )
    )
    until(lambda: replicate(sites, stream, total) or all(table.equal for table in sites.prover.prove(repair=False)))
    assert sites.home.page("users", None).changes == [] and sites.far.page("orders", None).changes == []


def test_versions_beyond_the_skew_bound_and_poison_rows_are_parked_and_nothing_else_stops(
    sites: UserDataSites, stream: Stream
) -> None:
    chance = random.Random(6)
    total: Counter[str] = Counter()
    ahead = a_user(chance)
    late = Change("users", key_of(ahead, USERS), stamp(now_ms() + 10 * SKEW_BOUND_MS, 0, Site.GCP), ahead)
    sites.far.apply([late])
    sites.far.put("users", {**a_user(chance), "name": "n" * 201})
    good = a_user(chance)
    sites.far.put("users", good)
    until(lambda: replicate(sites, stream, total) or (total["parked"] == 2 and total["applied"] == 1))
    reasons = [str(row[0]) for row in sites.data_api.execute("SELECT reason FROM lifeboat.parked ORDER BY reason")]
    assert "too far in the future" in reasons[1] and "22001" in reasons[0]
    with sites.connect() as connection:
        connection.execute(
            "INSERT INTO users (id, email, active, visits, created_at) VALUES (gen_random_uuid(), 'x', true, 1, 'infinity')"
        )
    assert sites.drain.run(now_ms() + 30_000).counts()["parked"] == 1
    assert sites.outbox() == 0


def test_rows_from_before_the_tables_were_listed_are_copied(sites: UserDataSites) -> None:
    chance = random.Random(7)
    with sites.connect() as connection:
        connection.execute("ALTER TABLE users DISABLE TRIGGER USER")
        connection.execute(
            "INSERT INTO users (id, email, active, visits, created_at)"
            " SELECT gen_random_uuid(), 'old ' || n, true, n, now() FROM generate_series(1, 5000) AS n"
        )
        connection.execute("ALTER TABLE users ENABLE TRIGGER USER")
    sites.far.put("users", a_user(chance))
    copied = 0
    while some := sites.home.copy_existing():
        copied += some
        sites.drain.run(now_ms() + 60_000)
    assert copied == 5000
    (users, _) = sites.prover.prove(repair=True)
    assert users.differing == 1 and users.repaired == 1
    (users, _) = sites.prover.prove(repair=False)
    assert users.equal and users.rows == (5001, 5001)


def test_parity_finds_and_mends_what_was_lost(sites: UserDataSites) -> None:
    chance = random.Random(8)
    rows = [a_user(chance) for _ in range(200)]
    for row in rows:
        sites.home.put("users", row)
    sites.drain.run(now_ms() + 30_000)
    for row in rows[:5]:
        sites.home.put("users", {**row, "visits": 9})
    with sites.connect() as connection:
        connection.execute("DELETE FROM lifeboat.outbox")
    for row in rows[5:8]:
        sites.far.put("users", {**row, "visits": 8})
    sites.far.delete("users", key_of(rows[8], USERS))
    (users, _) = sites.prover.prove(repair=False)
    assert not users.equal and users.differing == 9
    (users, _) = sites.prover.prove(repair=True)
    assert users.repaired == 9
    (users, _) = sites.prover.prove(repair=False)
    assert users.equal and users.rows == (199, 199) and users.digests[0] == users.digests[1]


def test_the_message_has_the_templates_shape(sites: UserDataSites, stream: Stream) -> None:
    row = a_user(random.Random(9))
    sites.far.put("users", row)
    found: list[tuple[str, str]] = []
    until(lambda: bool(found or found.extend(stream.take()) or found))
    body = json.loads(found[0][1])
    assert body["tableName"] == "users" and body["modType"] == "INSERT" and body["valueCaptureType"] == "NEW_ROW"
    assert json.loads(body["mods"][0]["keysJson"]) == {"id": row["id"]}
    assert set(json.loads(body["mods"][0]["newValuesJson"])) == {*USERS.columns, "version", "lifeboat_seal"} - {"id"}
    assert json.loads(next(each for each in body["rowType"] if each["name"] == "visits")["type"]["code"]) == {
        "code": "INT64"
    }
