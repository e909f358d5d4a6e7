"""From change records to what is to be done: the echo table, collapsing, adoption, poison."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from functions.features.apply import FeatureApplier, percentile
from functions.features.echo import Meaning, meaning
from functions.features.envelope import Envelope, decode, encode
from functions.features.errors import PoisonRecordError
from functions.features.items import Content
from functions.features.plan import Adoption, Outcome, lowest, plan
from functions.features.version import stamp
from functions.settings import Site
from tests.unit.features.memory_tables import MemoryParking, MemoryTable

EVENTS = Path(__file__).parents[2] / "events"
NOW_MS = 1_795_500_000_000
HOME = stamp(NOW_MS - 50, 0, Site.AWS)
FAR = stamp(NOW_MS - 40, 0, Site.GCP)


def row(version: int | None, value: int = 1) -> Content:
    return Content(version, encode(Envelope({"a": value})))


@pytest.mark.parametrize(
    ("old", "new", "by_store", "expected"),
    [
        (None, row(HOME), False, Meaning.LOCAL),
        (row(HOME - 4), row(HOME), False, Meaning.LOCAL),
        (row(FAR), row(FAR + 4 - 1), False, Meaning.LOCAL),
        (None, row(FAR), False, Meaning.ECHO),
        (row(HOME), row(FAR), False, Meaning.ECHO),
        (row(FAR, 1), row(FAR, 2), False, Meaning.UNAWARE),
        (row(HOME, 1), row(HOME, 2), False, Meaning.UNAWARE),
        (row(FAR), row(FAR), False, Meaning.UNCHANGED),
        (None, row(None), False, Meaning.UNAWARE),
        (row(None, 1), row(None, 2), False, Meaning.UNAWARE),
        (row(HOME), row(None), False, Meaning.UNAWARE),
        (row(HOME), None, False, Meaning.REMOVED),
        (row(FAR), None, False, Meaning.REMOVED),
        (row(HOME), None, True, Meaning.EXPIRED),
    ],
)
def test_echo_table(old: Content | None, new: Content | None, by_store: bool, expected: Meaning) -> None:
    assert meaning(old, new, by_store, Site.AWS) is expected


def test_a_record_that_no_rule_foresaw_is_found_by_splitting_and_parked() -> None:
    applier = FeatureApplier(Site.AWS, MemoryTable([]), MemoryTable([]), parking := MemoryParking(), lambda: NOW_MS)
    odd = {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "7", "Keys": 5}}
    with pytest.raises(AttributeError):
        applier.run([record(6, "good", sealed(HOME)), odd])
    result = applier.run([odd])
    assert (result.failed, result.outcomes[Outcome.PARKED]) == (None, 1)
    assert "AttributeError" in str(parking.parked)


def test_a_version_of_no_known_site_is_poison() -> None:
    with pytest.raises(PoisonRecordError):
        meaning(None, row(HOME + 2), False, Site.AWS)


def record(sequence: int, key: str, new: dict[str, Any] | None, old: dict[str, Any] | None = None) -> dict[str, Any]:
    change: dict[str, Any] = {"Keys": {"entity": {"S": key}}, "SequenceNumber": str(sequence)}
    change |= {"NewImage": {"entity": {"S": key}, **new}} if new is not None else {}
    change |= {"OldImage": {"entity": {"S": key}, **old}} if old is not None else {}
    name = "REMOVE" if new is None else "INSERT" if old is None else "MODIFY"
    return {"eventName": name, "dynamodb": change}


def sealed(version: int, value: int = 1) -> dict[str, Any]:
    data = encode(Envelope({"a": value}))
    return {"v": {"N": str(version)}, "e": {"B": base64.b64encode(data).decode()}}


def test_a_batch_is_collapsed_to_the_newest_of_each_key() -> None:
    records = [record(n, "hot", sealed(HOME + 4 * (n % 7), n % 7)) for n in range(20)]
    todo = plan([*records, record(99, "other", sealed(HOME))], NOW_MS, Site.AWS)
    assert todo.changes["hot"].row.version == HOME + 24
    assert todo.changes["other"].sequence == "99"
    assert todo.outcomes == {Outcome.STALE: 19}


def test_poison_is_set_aside_and_the_rest_goes_on() -> None:
    broken = record(2, "b", {"v": {"N": str(HOME)}, "e": {"B": "AAAA"}})
    ahead = record(3, "c", sealed(stamp(NOW_MS + 61_000, 0, Site.AWS)))
    nameless = {"eventName": "INSERT", "dynamodb": {"SequenceNumber": "4", "NewImage": {}}}
    strange = {
        "eventName": "UNKNOWN_TO_SDK_VERSION",
        "dynamodb": {"SequenceNumber": "5", "Keys": {"entity": {"S": "d"}}},
    }
    blind = {"eventName": "MODIFY", "dynamodb": {"SequenceNumber": "6", "Keys": {"entity": {"S": "d"}}}}
    tie = record(7, "a", sealed(HOME, 2))
    todo = plan([record(1, "a", sealed(HOME)), broken, ahead, nameless, strange, blind, tie], NOW_MS, Site.AWS)
    assert list(todo.changes) == ["a"]
    assert [item.sequence for item in todo.parked] == ["2", "3", "4", "5", "6", "7"]
    assert "correct the clock" in todo.parked[1].reason


def test_unaware_writes_and_hard_deletes_are_adopted() -> None:
    todo = plan(
        [
            record(1, "plain", {"price": {"N": "3"}}),
            record(2, "touched", {**sealed(FAR), "price": {"N": "3"}}, sealed(FAR)),
            record(3, "gone", None, sealed(HOME)),
            record(4, "plain", {"price": {"N": "4"}}, {"price": {"N": "3"}}),
        ],
        NOW_MS,
        Site.AWS,
    )
    assert dict(todo.adoptions) == {
        "plain": Adoption("plain", None, 0, "4"),
        "touched": Adoption("touched", FAR, FAR, "2"),
        "gone": Adoption("gone", None, HOME, "3", removed=True),
    }
    assert todo.outcomes == {Outcome.STALE: 1}


def test_recorded_events_are_read_as_they_came() -> None:
    event = json.loads((EVENTS / "dynamodb_stream.json").read_text())
    todo = plan(event["Records"], NOW_MS, Site.AWS)
    assert {key: decode(change.row.envelope).attributes for key, change in todo.changes.items()} == {
        "user#1": {"clicks": 7, "name": "ada"}
    }
    assert set(todo.adoptions) == {"user#2"}
    assert todo.outcomes == {Outcome.ECHO: 1, Outcome.STALE: 1}
    assert not todo.parked


def test_sequence_numbers_are_compared_as_numbers() -> None:
    assert lowest(["100000000000000000000000000000000000001", "99", "98765432109876543210"]) == "99"
    assert lowest([]) is None


def test_percentiles_are_values_that_were_seen() -> None:
    assert (percentile([], 0.5), percentile([3], 0.99), percentile(list(range(100)), 0.99)) == (0, 3, 99)
