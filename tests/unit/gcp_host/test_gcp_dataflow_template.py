"""The template's messages as Google's code makes them, and each of its faults with the switch on and off."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from google.cloud.bigtable_v2.types import data

from local.clouds.errors import ActorError, UnsupportedError
from local.clouds.gcp.change_streams import Change
from local.clouds.gcp.dataflow_template import DeadLetter, Faults, Message, Parameters, messages

WRITTEN = {
    "pubSubTopic": "changes",
    "bigtableChangeStreamAppProfile": "replication",
    "bigtableReadInstanceId": "instance",
    "bigtableReadTableId": "features",
    "stripValues": "true",
}
STRIPPED = Parameters.of(WRITTEN, "project")
WITH_VALUES = replace(STRIPPED, strip_values=False)

SET = {"set_cell": {"family_name": "row", "column_qualifier": b"e", "timestamp_micros": 5_000, "value": b"v"}}
CELLS = {
    "delete_from_column": {
        "family_name": "row",
        "column_qualifier": b"e",
        "time_range": {"start_timestamp_micros": 0, "end_timestamp_micros": 7_000},
    }
}
FAMILY = {"delete_from_family": {"family_name": "row"}}


def change(*mutations: dict[str, Any], row: bytes = b"key", collected: bool = False) -> Change:
    made = tuple(data.Mutation.pb(data.Mutation(mutation)) for mutation in mutations)
    return Change(row, collected, "" if collected else "local", 1_700_000_000, 789_123_000, 0, made)


def sent(one: Message | DeadLetter) -> dict[str, Any]:
    assert isinstance(one, Message), one
    found: dict[str, Any] = json.loads(one.data)
    return found


def test_a_message_a_cell_without_its_value() -> None:
    first, second, third = messages(change(SET, CELLS, FAMILY), STRIPPED, Faults())
    common = {"rowKey": "key", "isGC": False, "tieBreaker": 0, "columnFamily": "row"}
    source = {"sourceInstance": "instance", "sourceCluster": "local", "sourceTable": "features"}
    late = {"commitTimestamp": str(1_700_000_000_789_000 + 789_123)}
    assert sent(first) == {**common, **late, "modType": "SET_CELL", "column": "e", "timestamp": "5000", **source}
    cells = {"modType": "DELETE_CELLS", "column": "e", "timestampFrom": "0", "timestampTo": "7000"}
    assert sent(second) == {**common, **late, **cells, **source}
    assert sent(third) == {**common, **late, "modType": "DELETE_FAMILY", **source}


def test_the_commit_time_is_late_unless_the_fault_is_off() -> None:
    (one,) = messages(change(SET), STRIPPED, Faults(late_commit_time=False))
    assert sent(one)["commitTimestamp"] == "1700000000789123"


def test_deletions_are_lost_with_values_unless_the_fault_is_off() -> None:
    kept, *lost = messages(change(SET, CELLS, FAMILY), WITH_VALUES, Faults())
    assert sent(kept)["value"] == "v"
    assert all(isinstance(one, DeadLetter) for one in lost) and len(lost) == 2
    assert len([sent(one) for one in messages(change(CELLS, FAMILY), WITH_VALUES, Faults(values_needed=False))]) == 2


def test_base64_columns_break_on_families_unless_the_fault_is_off() -> None:
    parameters = replace(STRIPPED, base64_columns=True)
    kept, lost = messages(change(SET, FAMILY), parameters, Faults())
    assert base64.b64decode(sent(kept)["column"]) == b"e"
    assert isinstance(lost, DeadLetter)
    assert (
        sent(messages(change(FAMILY), parameters, Faults(base64_columns_break=False))[0])["modType"] == "DELETE_FAMILY"
    )


def test_row_keys_that_are_no_text_are_damaged_as_java_does() -> None:
    assert sent(messages(change(SET, row=b"\xff"), STRIPPED, Faults())[0])["rowKey"] == "\ufffd"
    told = sent(messages(change(SET, row=b"\xff"), replace(STRIPPED, base64_rows=True), Faults())[0])["rowKey"]
    assert base64.b64decode(told) == b"\xff"


def test_housekeeping_and_ignored_columns() -> None:
    assert sent(messages(change(CELLS, collected=True), STRIPPED, Faults())[0])["isGC"] is True
    assert not messages(change(SET), replace(STRIPPED, ignored_families=frozenset({"row"})), Faults())
    assert not messages(change(SET), replace(STRIPPED, ignored_columns=frozenset({"row:e"})), Faults())


def test_parameters_are_checked_by_name() -> None:
    assert STRIPPED.table_name == "projects/project/instances/instance/tables/features"
    with pytest.raises(ActorError, match="bigtableReadTableId"):
        Parameters.of({**WRITTEN, "bigtableReadTableId": ""}, "project")
    with pytest.raises(UnsupportedError, match="messageFormat"):
        Parameters.of({**WRITTEN, "messageFormat": "AVRO"}, "project")
    with pytest.raises(ActorError, match="no such fault"):
        Faults.of({"typo": True})
