"""What change records mean, the order of changes, digests that prove parity, and statements of a migration."""

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.features.version import stamp
from functions.settings import Site
from functions.userdata.change import Change, digest, key_of, key_text, key_values, newest, ordered, parents_of, seal
from functions.userdata.errors import PoisonChangeError
from functions.userdata.migrate import FOLDER, statements
from functions.userdata.parity import combined, differing, fold
from functions.userdata.records import Meaning, arrivals
from functions.userdata.schema import REFERENCE_TABLES, SEAL, TOMBSTONES, VERSION
from functions.userdata.values import to_spanner
from tests.local.userdata_sites import a_user, an_order

USERS, ORDERS = REFERENCE_TABLES
NOW_MS = 1_795_500_000_000
HOME, FAR = stamp(NOW_MS, 0, Site.AWS), stamp(NOW_MS, 0, Site.GCP)


def record(change: Change, kind: str = "UPDATE", **wrong: Any) -> str:
    """Return a change as the template publishes it."""
    assert change.row is not None
    values = {name: to_spanner(change.row[name], USERS.type_of(name)) for name in USERS.columns}
    values |= {VERSION: str(change.version), SEAL: base64.b64encode(seal(change)).decode()} | wrong
    keys = {"id": values.pop("id")}
    mod = {"keysJson": json.dumps(keys), "oldValuesJson": "{}", "newValuesJson": json.dumps(values)}
    return json.dumps({"tableName": "users", "modType": kind, "mods": [mod]})


def user(version: int, seed: int = 1) -> Change:
    row = a_user(random.Random(seed))
    return Change("users", key_of(row, USERS), version, row)


def test_a_sealed_row_is_applied_or_an_echo_by_its_version() -> None:
    (theirs,) = arrivals(record(user(FAR)), REFERENCE_TABLES, Site.AWS)
    assert (theirs.meaning, theirs.change) == (Meaning.APPLY, user(FAR))
    (ours,) = arrivals(record(user(HOME)), REFERENCE_TABLES, Site.AWS)
    assert ours.meaning is Meaning.ECHO


@pytest.mark.parametrize("version", [HOME, FAR])
@pytest.mark.parametrize("wrong", [{"visits": "4711"}, {SEAL: None}, {VERSION: "0"}])
def test_a_row_whose_seal_does_not_match_is_looked_up(version: int, wrong: dict[str, Any]) -> None:
    (arrival,) = arrivals(record(user(version), **wrong), REFERENCE_TABLES, Site.AWS)
    assert arrival.meaning is Meaning.ADOPT


def test_tombstones_travel_and_their_removal_does_not() -> None:
    mod = {
        "keysJson": json.dumps({"table_name": "users", "key": '["1"]'}),
        "newValuesJson": json.dumps({VERSION: str(FAR)}),
    }
    body = {"tableName": TOMBSTONES, "modType": "INSERT", "mods": [mod]}
    (arrival,) = arrivals(json.dumps(body), REFERENCE_TABLES, Site.AWS)
    assert (arrival.meaning, arrival.change) == (Meaning.APPLY, Change("users", '["1"]', FAR, None))
    assert arrivals(json.dumps({**body, "modType": "DELETE"}), REFERENCE_TABLES, Site.AWS) == []


def test_a_plain_delete_is_looked_up() -> None:
    body = json.loads(record(user(FAR)))
    body["modType"] = "DELETE"
    body["mods"][0]["newValuesJson"] = "{}"
    (arrival,) = arrivals(json.dumps(body), REFERENCE_TABLES, Site.AWS)
    assert arrival.meaning is Meaning.REMOVED and arrival.change.key == user(FAR).key


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        '{"tableName": "users"}',
        '{"tableName": "carts", "modType": "INSERT", "mods": []}',
        '{"tableName": "users", "modType": "MERGE", "mods": []}',
        '{"tableName": "users", "modType": "INSERT", "mods": [{"keysJson": "1"}]}',
        '{"tableName": "users", "modType": "INSERT", "mods": [{"keysJson": "{\\"id\\": \\"1\\"}"}]}',
    ],
)
def test_what_is_no_record_is_poison(body: str) -> None:
    with pytest.raises(PoisonChangeError):
        arrivals(body, REFERENCE_TABLES, Site.AWS)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1, max_size=3))
def test_a_key_is_one_text_and_comes_apart_again(values: list[str]) -> None:
    assert key_values(key_text(values)) == values


def test_the_newest_state_of_a_row_is_kept_and_the_order_suits_foreign_keys() -> None:
    chance = random.Random(1)
    parent = user(FAR)
    assert parent.row is not None
    row = an_order(chance, str(parent.row["id"]))
    child = Change("orders", key_of(row, ORDERS), FAR, row)
    no_child, no_parent = Change("orders", '["x"]', FAR, None), Change("users", '["x"]', FAR, None)
    changes = [no_parent, child, no_child, parent]
    assert ordered(changes, REFERENCE_TABLES) == [parent, child, no_child, no_parent]
    assert parents_of(child, ORDERS) == {"users": parent.key} and parents_of(no_child, ORDERS) == {}
    older = Change("users", parent.key, FAR - 4, None)
    assert newest([older, parent, older]) == {("users", parent.key): parent}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=60, unique_by=lambda pair: pair[0]),
    st.randoms(),
)
def test_range_digests_depend_on_the_rows_and_not_on_their_order(
    rows: list[tuple[int, int]], chance: random.Random
) -> None:
    changes = [Change("users", f'["{key}"]', HOME + 4 * version, None) for key, version in rows]
    mixed = changes[:]
    chance.shuffle(mixed)
    one, other = fold(iter(changes)), fold(iter(mixed))
    assert not differing(one, other) and combined(one) == combined(other)
    assert sum(each.tombstones for each in one) == len(changes)
    if changes:
        changed = [Change("users", changes[0].key, changes[0].version + 4, None), *changes[1:]]
        assert len(differing(one, fold(iter(changed)))) == 1
        assert len(differing(one, fold(iter(changes[1:])))) == 1


def test_a_digest_tells_every_part_apart() -> None:
    base = user(HOME)
    assert base.row is not None
    others = [
        Change("orders", base.key, base.version, base.row),
        Change("users", '["y"]', base.version, base.row),
        Change("users", base.key, base.version + 4, base.row),
        Change("users", base.key, base.version, None),
        Change("users", base.key, base.version, {**base.row, "visits": 12345}),
    ]
    assert len({digest(change) for change in [base, *others]}) == 6


def test_migrations_come_apart_into_single_statements() -> None:
    for path in sorted(FOLDER.glob("*.sql")):
        found = list(statements(path.read_text()))
        assert found and all(statement.endswith(";") for statement in found), path.name
        for statement in found:
            assert statement.split()[0] in ("CREATE", "SELECT", "ALTER"), statement[:60]
            outside = "".join(statement.split("$$")[::2])
            assert outside.count(";") == 1, statement[:60]
