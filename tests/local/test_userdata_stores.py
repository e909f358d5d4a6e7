"""User data in real databases: every type there and back, guarded writes, parents and children, seals and tombstones."""

import random
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from functions.features.version import origin, stamp
from functions.settings import Site
from functions.stores.errors import StoreRefusedError
from functions.userdata.change import Change, digest, key_of, key_text
from functions.userdata.protocols import Fate, UserDatabase
from functions.userdata.schema import REFERENCE_TABLES
from local.ground import user_data
from local.ground.client import GroundClient
from local.ground.rds_data import Databases
from tests.local.userdata_sites import UserDataSites, a_user, an_order, make_user_data, now_ms

pytestmark = pytest.mark.skipif(bool(user_data.missing()), reason=user_data.missing() or "user data can run")
USERS, ORDERS = REFERENCE_TABLES


@pytest.fixture(scope="module")
def sites(ground: GroundClient) -> Iterator[UserDataSites]:
    yield make_user_data(ground)


@pytest.fixture(params=["aws", "gcp"])
def side(request: pytest.FixtureRequest, sites: UserDataSites) -> UserDatabase:
    return sites.home if request.param == "aws" else sites.far


def fates(database: UserDatabase, *changes: Change) -> list[Fate]:
    return [answer.fate for answer in database.apply(changes)]


def foreign(database: UserDatabase) -> Site:
    return Site.GCP if type(database).__name__ == "PostgresUserData" else Site.AWS


def test_every_type_survives_both_ways(sites: UserDataSites) -> None:
    chance = random.Random(7)
    rows = [a_user(chance) for _ in range(300)]
    for row in rows[:150]:
        sites.home.put("users", row)
    for row in rows[150:]:
        sites.far.put("users", row)
    there = sites.drain.run(now_ms() + 60_000)
    assert there.counts()["applied"] == 150
    back = list(sites.far.read("users", [key_of(row, USERS) for row in rows[150:]]).values())
    assert {answer.fate for answer in sites.home.apply(back)} == {Fate.APPLIED}
    for row in rows:
        key = key_of(row, USERS)
        ours, theirs = sites.home.read("users", [key])[key], sites.far.read("users", [key])[key]
        assert ours.row == row
        assert ours == theirs and digest(ours) == digest(theirs)
    (users, orders) = sites.prover.prove(repair=False)
    assert users.equal and users.rows == (300, 300)
    assert orders.equal


def test_the_newer_version_wins_whatever_the_order(side: UserDatabase) -> None:
    chance = random.Random(1)
    site = foreign(side)
    old = stamp(now_ms() - 1_000, 0, site)
    first = a_user(chance)
    key = key_of(first, USERS)
    newer = Change("users", key, old + 4, {**first, "visits": 5})
    assert fates(side, newer) == [Fate.APPLIED]
    assert fates(side, Change("users", key, old, first)) == [Fate.STALE]
    assert fates(side, newer) == [Fate.STALE]
    assert side.read("users", [key])[key] == newer
    gone = Change("users", key, old + 8, None)
    assert fates(side, gone) == [Fate.APPLIED]
    assert fates(side, gone) == [Fate.STALE]
    assert fates(side, newer) == [Fate.STALE]
    assert side.read("users", [key])[key] == gone
    again = Change("users", key, old + 12, first)
    assert fates(side, again) == [Fate.APPLIED]
    assert side.read("users", [key])[key] == again
    assert fates(side, gone) == [Fate.STALE]


def test_a_local_write_is_above_what_replication_brought(side: UserDatabase) -> None:
    chance = random.Random(2)
    row = a_user(chance)
    key = key_of(row, USERS)
    ahead = stamp(now_ms() + 30_000, 0, foreign(side))
    assert fates(side, Change("users", key, ahead, row)) == [Fate.APPLIED]
    written = side.put("users", {**row, "visits": 3})
    assert written.version > ahead and origin(written.version) is foreign(side).peer
    deleted = side.delete("users", key)
    assert deleted is not None and deleted.version > written.version
    assert side.read("users", [key])[key] == deleted
    assert side.delete("users", key) is None
    back = side.put("users", row)
    assert back.version > deleted.version
    assert side.read("users", [key])[key] == back


def test_a_child_waits_for_its_parent_and_a_parent_for_its_children(side: UserDatabase) -> None:
    chance = random.Random(3)
    user = a_user(chance)
    order = an_order(chance, str(user["id"]))
    key, child = key_of(user, USERS), key_of(order, ORDERS)
    version = stamp(now_ms(), 0, foreign(side))
    parent, dependent = Change("users", key, version, user), Change("orders", child, version, order)
    assert fates(side, dependent) == [Fate.WAITING]
    assert side.read("orders", [child]) == {}
    assert fates(side, parent, dependent) == [Fate.APPLIED, Fate.APPLIED]
    no_parent = Change("users", key, version + 4, None)
    assert fates(side, no_parent) == [Fate.WAITING]
    assert fates(side, Change("orders", child, version + 4, None), no_parent) == [Fate.APPLIED, Fate.APPLIED]


def test_one_bad_row_stops_no_other(side: UserDatabase) -> None:
    chance = random.Random(4)
    site = foreign(side)
    version = stamp(now_ms(), 0, site)
    good = a_user(chance)
    bad = {**a_user(chance), "name": "n" * 201} if site is Site.GCP else {**a_user(chance), "name": "n" * 2_700_000}
    answers = side.apply(
        [Change("users", key_of(bad, USERS), version, bad), Change("users", key_of(good, USERS), version, good)]
    )
    assert answers[1].fate is Fate.APPLIED
    # The emulator enforces no lengths; real Spanner refuses what is above 2,621,440 characters.
    assert answers[0].fate is (Fate.REFUSED if site is Site.GCP else answers[0].fate)


def test_burying_is_above_and_once(side: UserDatabase) -> None:
    key = key_text(["00000000-0000-0000-0000-0000000000aa"])
    last = stamp(now_ms() + 20_000, 0, foreign(side))
    buried = side.bury("orders", key, last)
    assert buried.version > last and buried.deleted
    assert side.bury("orders", key, last).version == buried.version
    assert side.read("orders", [key])[key].version == buried.version


def test_burying_takes_an_older_row_along_and_leaves_a_newer_one(side: UserDatabase) -> None:
    chance = random.Random(9)
    user, site = a_user(chance), foreign(side)
    order = an_order(chance, str(user["id"]))
    key, version = key_of(order, ORDERS), stamp(now_ms(), 0, site)
    parent, child = Change("users", key_of(user, USERS), version, user), Change("orders", key, version, order)
    assert fates(side, parent, child) == [Fate.APPLIED, Fate.APPLIED]
    side.bury("orders", key, version - 4)
    assert side.read("orders", [key])[key] == child
    buried = side.bury("orders", key, version + 4)
    assert buried.version > version + 4
    assert side.read("orders", [key])[key] == buried
    assert key not in {change.key for change in side.page("orders", None).changes}


def test_a_delete_waits_for_a_program_that_inserts_the_same_row(sites: UserDataSites) -> None:
    row = a_user(random.Random(10))
    key = key_of(row, USERS)
    gone = Change("users", key, stamp(now_ms() + 20_000, 0, Site.GCP), None)
    with sites.connect() as connection:
        connection.autocommit = False
        connection.execute(
            "INSERT INTO users (id, email, active, visits, created_at) VALUES (%s, 'x', true, 1, now())", (row["id"],)
        )
        # Neither sees the other's work yet, so one has to wait: never the program.
        assert fates(sites.home, gone) == [Fate.WAITING]
        connection.commit()
    assert fates(sites.home, gone) == [Fate.APPLIED]
    assert sites.home.read("users", [key])[key] == gone
    written = sites.home.put("users", row)
    assert written.version > gone.version
    assert fates(sites.home, gone) == [Fate.STALE]


def test_replicated_writes_never_reach_the_outbox(sites: UserDataSites) -> None:
    sites.drain.run(now_ms() + 60_000)
    row = a_user(random.Random(5))
    key = key_of(row, USERS)
    version = stamp(now_ms(), 0, Site.GCP)
    assert fates(sites.home, Change("users", key, version, row)) == [Fate.APPLIED]
    assert fates(sites.home, Change("users", key, version + 4, None)) == [Fate.APPLIED]
    assert sites.outbox() == 0


def test_unaware_writers_on_spanner_are_adopted(sites: UserDataSites) -> None:
    row = a_user(random.Random(6))
    key = key_of(row, USERS)
    written = sites.far.put("users", row)
    sites.unaware(f"UPDATE users SET visits = 77 WHERE id = '{row['id']}'")
    # A replicated write that is older than the adoption must not win over what the program wrote.
    incoming = Change("users", key, written.version + 4 - 1, {**row, "visits": 1})
    assert fates(sites.far, incoming) == [Fate.STALE]
    adopted = sites.far.read("users", [key])[key]
    assert adopted.row is not None and adopted.row["visits"] == 77
    assert adopted.version > written.version and origin(adopted.version) is Site.GCP
    assert not sites.far.adopt("users", key, 0).adopted
    sites.unaware(f"DELETE FROM users WHERE id = '{row['id']}'")
    gone = sites.far.adopt("users", key, adopted.version)
    assert gone.adopted and gone.change.deleted and gone.change.version > adopted.version


def test_null_inside_an_array_is_refused_by_name_where_the_emulator_would_end(sites: UserDataSites) -> None:
    row = {**a_user(random.Random(8)), "tags": ["a", None]}
    answer = sites.far.apply([Change("users", key_of(row, USERS), stamp(now_ms(), 0, Site.AWS), row)])[0]
    assert answer.fate is Fate.REFUSED and "NULL inside an array" in answer.reason
    with pytest.raises(StoreRefusedError, match="NULL inside an array"):
        sites.far.put("users", row)


def test_a_database_made_again_under_its_name_answers_at_once(ground: GroundClient) -> None:
    host, port = ground.endpoints.postgres.split(":")
    databases = Databases(int(port))
    asked = {"resourceArn": "arn:aws:rds:us-west-2:1:cluster:again", "database": "again", "sql": "SELECT 1"}
    name = sql.Identifier(user_data.database_name("again", "again"))
    with psycopg.connect(
        host=host, port=int(port), user=user_data.POSTGRES_USER, dbname="postgres", autocommit=True
    ) as server:
        for _ in range(2):
            server.execute(sql.SQL("CREATE DATABASE {}").format(name))
            assert databases.execute(asked)["records"] == [[{"longValue": 1}]]
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
