"""What a Spanner change record says, in the JSON that Google's template publishes: DataChangeRecord of the Beam connector.

The template writes the record with Gson: camel-case names, keys and values of each row as JSON texts of their own
(https://github.com/GoogleCloudPlatform/DataflowTemplates, v2/googlecloud-to-googlecloud, spannerchangestreamstopubsub).
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from functions.settings import Site
from functions.userdata.change import Change, key_text, seal
from functions.userdata.errors import PoisonChangeError, ValueRefusedError
from functions.userdata.schema import SEAL, TOMBSTONES, VERSION, Table
from functions.userdata.values import from_spanner, row_from


class Meaning(StrEnum):
    """What one row's change asks for."""

    APPLY = "apply"
    ECHO = "echo"
    ADOPT = "adopt"
    REMOVED = "removed"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Arrival:
    """One row of a change record: what it means, and the state that it shows (for REMOVED only its table and key count)."""

    meaning: Meaning
    change: Change
    problem: str = ""


def arrivals(body: str, tables: Sequence[Table], home: Site) -> list[Arrival]:
    """Return what a message of the change stream of `home`'s peer asks of `home`. Raises PoisonChangeError for no such message.

    A row whose seal does not match was written by a program that knows no versions, or is not told exactly (the emulator cuts
    times to seconds): it is to be looked up. A matching one that this site stamped is the echo of a replicated write; such
    records come only where Spanner leaves replicated writes in the stream.
    """
    try:
        record = json.loads(body)
        name, kind, mods = str(record["tableName"]), str(record["modType"]), list(record["mods"])
        values = [(_decoded(mod["keysJson"]), _decoded(mod.get("newValuesJson") or "{}")) for mod in mods]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PoisonChangeError("message is no record of a Spanner change stream") from error
    if kind not in ("INSERT", "UPDATE", "DELETE"):
        raise PoisonChangeError(f"change record of kind {kind!r} is unknown")
    if name == TOMBSTONES:
        return [_tombstone(keys, new, home) for keys, new in values] if kind != "DELETE" else []
    table = next((table for table in tables if table.name == name), None)
    if table is None:
        raise PoisonChangeError(f"table {name} is not declared; leave it out of the change stream, or declare it")
    try:
        return [_row(table, kind, keys, new, home) for keys, new in values]
    except KeyError as error:
        raise PoisonChangeError(f"change record of {name} lacks {error}; the stream must capture NEW_ROW") from error


def _row(table: Table, kind: str, keys: Mapping[str, Any], new: Mapping[str, Any], home: Site) -> Arrival:
    key = key_text([keys[column] for column in table.key])
    if kind == "DELETE":
        return Arrival(Meaning.REMOVED, Change(table.name, key, 0, None))
    version = int(new[VERSION])
    try:
        change = Change(table.name, key, version, row_from({**new, **keys}, table, from_spanner))
    except ValueRefusedError as error:
        return Arrival(Meaning.APPLY, Change(table.name, key, version, None), str(error))
    if base64.b64encode(seal(change)).decode() != new[SEAL]:
        return Arrival(Meaning.ADOPT, change)
    return Arrival(Meaning.ECHO if change.origin is home else Meaning.APPLY, change)


def _tombstone(keys: Mapping[str, Any], new: Mapping[str, Any], home: Site) -> Arrival:
    change = Change(str(keys["table_name"]), str(keys["key"]), int(new[VERSION]), None)
    return Arrival(Meaning.ECHO if change.origin is home else Meaning.APPLY, change)


def _decoded(text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError("no JSON object")
    return found
