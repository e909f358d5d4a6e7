"""Types of both sides: equal values are equal bytes, there and back, and what one side can't hold exactly is refused."""

import base64
import json
import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.userdata.errors import SchemaError, ValueRefusedError
from functions.userdata.schema import REFERENCE_TABLES, Table, depths, parse_type, problems, spanner_ddl
from functions.userdata.values import from_postgres, from_spanner, loads, row_from, to_postgres, to_spanner

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=5), inner, max_size=3
        )
    ),
    max_leaves=10,
)
# What PostgreSQL's to_jsonb gives for each declared type.
POSTGRES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "double precision": st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    "numeric(20,4)": st.decimals(-(10**15), 10**15, places=4),
    "text": st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",))),
    "uuid": st.uuids().map(str),
    "date": st.dates().map(date.isoformat),
    "timestamptz": st.datetimes(
        timezones=st.just(UTC),
        min_value=datetime(2, 1, 1),  # noqa: DTZ001 - hypothesis wants bounds without a zone
        max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    ).map(datetime.isoformat),
    "jsonb": JSON,
    "bytea": st.binary(max_size=30).map(lambda data: "\\x" + data.hex()),
}


@pytest.mark.parametrize("declared", sorted(POSTGRES))
def test_a_value_survives_both_forms(declared: str) -> None:
    kind = parse_type(declared)

    @given(POSTGRES[declared])
    def there_and_back(value: Any) -> None:
        canonical = from_postgres(loads(json.dumps(value, default=str)), kind)
        sent = loads(json.dumps(to_spanner(canonical, kind)))
        assert from_spanner(sent, kind) == canonical
        again = loads(json.dumps(to_postgres(canonical, kind)))
        assert from_postgres(again, kind) == canonical

    there_and_back()


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_arrays_keep_order_and_null(values: list[int | None]) -> None:
    kind = parse_type("bigint[]")
    canonical = from_postgres(values, kind)
    assert from_spanner(to_spanner(canonical, kind), kind) == canonical == values


@pytest.mark.parametrize(
    ("declared", "postgres", "spanner"),
    [
        ("numeric(20,4)", Decimal("1.5000"), "1.5"),
        ("numeric(20,4)", "0.0000", "0"),
        ("numeric(20,4)", Decimal("1E+3"), "1000"),
        ("timestamptz", "2026-01-02 03:04:05+02", "2026-01-02T01:04:05Z"),
        ("timestamptz", "2026-01-02T03:04:05.120000+00:00", "2026-01-02T03:04:05.120000000Z"),
        ("bytea", "\\x00ff", base64.b64encode(b"\x00\xff").decode()),
        ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("jsonb", {"b": 1, "a": Decimal("2.50")}, '{"a":2.5,"b":1.0}'),
        ("double precision", -0.0, 0.0),
        ("jsonb", None, "null"),
    ],
)
def test_the_two_sides_forms_mean_the_same(declared: str, postgres: Any, spanner: Any) -> None:
    kind = parse_type(declared)
    assert from_postgres(postgres, kind) == from_spanner(spanner, kind)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("numeric(20,4)", "NaN"),
        ("numeric(20,4)", "0.00001"),
        ("numeric(20,4)", "12345678901234567"),
        ("timestamptz", "infinity"),
        ("timestamptz", "10000-01-01T00:00:00+00:00"),
        ("timestamptz", "2026-01-02T03:04:05.123456789Z"),
        ("timestamptz", "0001-01-01T00:00:00+01:00"),
        ("date", "0044-03-15 BC"),
        ("text", "nul\x00"),
        ("jsonb", Decimal("0.1234567890123456789")),
        ("jsonb", 2**70),
        ("text[]", [["two"], ["dimensions"]]),
        ("bigint[]", "no list"),
        ("bigint", 2**63),
    ],
)
def test_what_one_side_cannot_hold_is_refused_and_never_rounded(declared: str, value: Any) -> None:
    table = Table("things", ("id",), {"id": "bigint", "value": declared})
    with pytest.raises(ValueRefusedError, match=r"things\.value"):
        row_from({"id": 1, "value": value}, table, from_postgres)


def test_null_where_the_type_refuses_it_is_named() -> None:
    with pytest.raises(ValueRefusedError, match=r"orders\.placed_at is NULL"):
        row_from(
            {"id": str(uuid.uuid4()), "user_id": str(uuid.uuid4()), "product_ids": [], "total": 1},
            REFERENCE_TABLES[1],
            from_postgres,
        )


def test_special_floats_are_text_in_both() -> None:
    kind = parse_type("double precision")
    assert from_postgres("NaN", kind) == from_spanner("NaN", kind) == "NaN"
    assert from_postgres(math.inf, kind) == "Infinity"


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("real", "use double precision"),
        ("money", "use numeric"),
        ("timestamp", "use timestamptz"),
        ("timestamp without time zone", "use timestamptz"),
        ("interval", "use bigint"),
        ("json", "use jsonb"),
        ("char(3)", "use text"),
        ("numeric", "use numeric"),
        ("numeric(60,4)", "29 digits before"),
        ("numeric(20,10)", "9 after the point"),
        ("inet", "use text or jsonb"),
        ("jsonb[]", "use jsonb"),
        ("text[][]", "arrays of arrays"),
        ("my_enum", "use text or jsonb"),
    ],
)
def test_refused_types_say_why_and_what_instead(declared: str, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        parse_type(declared)


def test_every_problem_of_the_tables_is_named_at_once() -> None:
    bad = [
        Table("a", ("id", "gone"), {"id": "double precision", "price": "money", "version": "bigint"}),
        Table("b", (), {"x": "text"}, {"x": "nowhere", "y": "a"}),
    ]
    found = "\n".join(problems(bad))
    for part in (
        "price: money",
        "name 'version' is reserved",
        "key column id",
        "key column gone",
        "no primary key",
        "nowhere",
        "y is not declared",
    ):
        assert part in found
    assert problems(REFERENCE_TABLES) == []


def test_parents_come_before_children_and_circles_are_refused() -> None:
    assert depths(REFERENCE_TABLES) == {"users": 0, "orders": 1}
    ddl = spanner_ddl(tuple(reversed(REFERENCE_TABLES)))
    assert [statement.split()[2] for statement in ddl[:2]] == ["users", "orders"]
    one = Table("one", ("id",), {"id": "bigint", "other": "bigint"}, {"other": "two"})
    two = Table("two", ("id",), {"id": "bigint", "other": "bigint"}, {"other": "one"})
    assert "circle" in problems([one, two])[0]
