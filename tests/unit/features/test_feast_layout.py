"""Feast's layouts: table names and keys as Feast computes them, values byte for byte."""

import base64
from typing import Any

import pytest

from functions.errors import SettingsError
from functions.features.echo import Meaning, meaning
from functions.features.envelope import Envelope, encode
from functions.features.errors import EnvelopeError, PoisonRecordError
from functions.features.feast.layout import (
    EVENT,
    FeastView,
    as_item,
    as_record,
    cells,
    feast_item,
    from_cells,
    parse_views,
    parts,
    table_of,
)
from functions.features.items import content, from_base64
from functions.features.plan import plan
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.protocols import Row

NOW_MS = 1_795_500_000_000
VIEW = FeastView("shop", "driver_stats", ("driver",), ("trips", "rate"))


def record(new: dict[str, Any] | None, old: dict[str, Any] | None = None) -> dict[str, Any]:
    change: dict[str, Any] = {"Keys": {"entity_id": {"S": "ab12"}}, "SequenceNumber": "100000000000000000001"}
    change |= {"NewImage": new} if new else {}
    change |= {"OldImage": old} if old else {}
    return {"eventName": "REMOVE" if new is None else "MODIFY" if old else "INSERT", "dynamodb": change}


def item(trips: bytes, version: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "entity_id": {"S": "ab12"},
        "event_ts": {"S": "2026-11-24 10:00:00.123456+00:00"},
        "values": {"M": {"trips": {"B": base64.b64encode(trips).decode()}}},
    }
    return found | ({"_v": {"N": str(version)}} if version else {})


@pytest.mark.parametrize(
    ("view", "table"),
    [
        (VIEW, "shop.driver"),
        (FeastView("shop", "v", (), ()), "shop.__dummy"),
        (FeastView("shop", "v", ("shop", "customer"), ()), "shop.customer-shop"),
        (FeastView("shop", "v", ("customer", "loyalty_card", "store"), ()), "shop.b3f47e7ff0cd0206b31c53e8"),
        (FeastView("p" * 60, "v", ("driver",), ()), "pppppppppp_51076b2116168bdcb39555728ba31f04.driver"),
    ],
)
def test_tables_are_named_as_feast_names_them(view: FeastView, table: str) -> None:
    # As feast 0.67.0 answered for these.
    assert view.bigtable_table == table
    assert view.dynamodb_table == f"{view.project}.{view.name}"
    assert view.row_key("ab12") == f"ab12#{view.name}"


def test_views_are_read_from_the_config() -> None:
    given = {"project": "shop", "view": "driver_stats", "entities": ["driver"], "features": ["trips", "rate"]}
    assert parse_views({"shop.driver_stats": given}) == {"shop.driver_stats": VIEW}
    with pytest.raises(SettingsError, match="other"):
        parse_views({"shop.driver_stats": given, "other": {"project": "shop"}})
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/shop.driver_stats/stream/2026-11-24T10:00:00.000"
    assert table_of({"eventSourceARN": arn}) == "shop.driver_stats"
    with pytest.raises(PoisonRecordError):
        table_of({})


def test_feasts_write_is_an_unaware_one_and_an_adopted_one_is_sent() -> None:
    todo = plan([as_record(record(item(b"\x18\x05")))], NOW_MS, Site.AWS)
    assert list(todo.adoptions) == ["ab12"]
    version = stamp(NOW_MS, 0, Site.AWS)
    adopted = plan([as_record(record(item(b"\x18\x05", version), item(b"\x18\x05")))], NOW_MS, Site.AWS)
    (change,) = adopted.changes.values()
    assert cells(change.row) == {"trips": b"\x18\x05", "event_ts": b"2026-11-24T10:00:00.123456+00:00"}
    gone = plan([as_record(record(None, item(b"\x18\x05", version)))], NOW_MS, Site.AWS)
    assert gone.adoptions["ab12"].removed
    old, new = (content(as_item(item(data, version)), from_base64) for data in (b"1", b"2"))
    assert meaning(old, new, False, Site.AWS) is Meaning.UNAWARE


def test_a_row_survives_both_layouts() -> None:
    found = content(as_item(item(b"\x00\xff\x18", 8)), from_base64)
    row = Row("ab12", 8, found.envelope)
    assert parts(row) == ("2026-11-24 10:00:00.123456+00:00", {"trips": b"\x00\xff\x18"})
    back = content(as_item({**feast_item(row), "values": item(b"\x00\xff\x18")["values"]}), from_base64)
    assert (back.version, back.envelope) == (8, row.envelope)
    assert parts(from_cells("ab12", 8, cells(row)))[1] == {"trips": b"\x00\xff\x18"}


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"event_ts": "2026", "values": {"a": "text"}},
        {"event_ts": 1, "values": {}},
        {"event_ts": "2026-01-01", "values": {EVENT: b"x"}},
        {"event_ts": "yesterday", "values": {"a": b"x"}},
    ],
)
def test_what_is_no_row_of_feast_is_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError):
        cells(Row("ab12", 8, encode(Envelope(attributes))))
