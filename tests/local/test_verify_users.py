"""`verify` of user data against both databases: equal, apart, on the way and mended; the command's document."""

import random
import threading

import pytest

from functions.settings import Site
from local.ground import user_data
from local.ground.client import GroundClient
from operate.verify.command import document, equal
from operate.verify.parity import StoreParity, parity_rows
from operate.verify.users import Databases, verify_users
from tests.local.userdata_sites import UserDataSites, a_user, an_order, make_user_data, now_ms

pytestmark = pytest.mark.skipif(bool(user_data.missing()), reason=user_data.missing() or "user data can run")


@pytest.fixture
def sites(ground: GroundClient) -> UserDataSites:
    return make_user_data(ground)


def verified(sites: UserDataSites, *, repair: bool = False) -> dict[str, StoreParity]:
    found = verify_users(Databases(sites.home, sites.far), now_ms, lambda text: None, repair=repair)
    return {parity.store: parity for parity in found}


def test_what_is_apart_is_named_and_mended_on_demand(sites: UserDataSites) -> None:
    chance = random.Random(5)
    users = [a_user(chance) for _ in range(20)]
    for user in users:
        sites.home.put("users", user)
    sites.drain.run(now_ms() + 20_000)
    sites.home.put("orders", an_order(chance, str(users[0]["id"])))
    here = sites.home.put("users", a_user(chance, str(users[1]["id"])))
    there = sites.far.put("users", a_user(chance, str(users[2]["id"])))
    found = verified(sites)
    apart = found["userdata/users"]
    assert (apart.equal, apart.differing, set(apart.unsettled)) == (False, 2, {here.key, there.key})
    assert all((apart.sides[site].lag_ms or 0) > 0 for site in Site)
    orders = found["userdata/orders"]
    assert (orders.equal, orders.sides[Site.AWS].rows, orders.sides[Site.GCP].rows) == (False, 1, 0)
    assert (orders.sides[Site.AWS].lag_ms, (orders.sides[Site.GCP].lag_ms or 0) > 0) == (0, True)
    assert not equal(list(found.values()))
    assert any("2 differ" in row[-1] for row in parity_rows(apart))

    mended = verified(sites, repair=True)
    assert {store: parity.equal for store, parity in mended.items()} == {
        "userdata/users": True,
        "userdata/orders": True,
    }
    written = document(list(mended.values()))
    assert written["equal"] is True
    for store in written["stores"]:
        sides = store["sides"]
        assert sides["aws"]["digest"] == sides["gcp"]["digest"] and sides["aws"]["rows"] == sides["gcp"]["rows"]
        assert {"rows", "digest", "lag_ms", "parked"} <= set(sides["aws"])
    assert sites.far.read("users", [here.key]) == {here.key: here}
    assert sites.home.read("users", [there.key]) == {there.key: there}


def test_a_row_on_its_way_is_no_divergence(sites: UserDataSites) -> None:
    chance = random.Random(6)
    sites.home.put("users", a_user(chance))
    looked = threading.Event()

    def drain() -> None:
        assert looked.wait(20)
        sites.drain.run(now_ms() + 20_000)

    way = threading.Thread(target=drain)
    way.start()
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if "looked at again" in text:
            looked.set()

    (users, orders) = verify_users(Databases(sites.home, sites.far), now_ms, tell)
    way.join()
    assert looked.is_set(), told
    assert (users.equal, users.differing, orders.equal) == (True, 0, True)
    assert users.sides[Site.AWS].digest == users.sides[Site.GCP].digest
    assert (users.sides[Site.GCP].lag_ms or 0) > 0


def test_a_row_with_another_content_under_its_version_is_found(sites: UserDataSites) -> None:
    chance = random.Random(7)
    user = sites.home.put("users", a_user(chance))
    sites.drain.run(now_ms() + 20_000)
    # By hand, version and all: no writer does that, which is why nothing but a comparison of content finds it.
    with sites.connect() as connection:
        connection.execute("SET lifeboat.apply = 'on'")
        connection.execute("ALTER TABLE users DISABLE TRIGGER ALL")
        connection.execute("UPDATE users SET visits = visits - 1 WHERE version = %s", (user.version,))
        connection.execute("ALTER TABLE users ENABLE TRIGGER ALL")
    users = verified(sites)["userdata/users"]
    assert (users.equal, list(users.unsettled)) == (False, [user.key])
