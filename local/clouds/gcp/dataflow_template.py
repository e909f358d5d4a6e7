"""What Google's Dataflow template "Bigtable change streams to Pub/Sub" makes of a change: pure, its faults included.

Reproduced from the template's own source (https://github.com/GoogleCloudPlatform/DataflowTemplates, folder
v2/googlecloud-to-googlecloud/.../bigtablechangestreamstopubsub, schemautils/PubSubUtils.java and model/Mod.java). Each
known fault has a switch, on by default, so that nothing here looks better than what the program deploys.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from local.clouds.errors import ActorError, UnsupportedError
from local.clouds.gcp.change_streams import Change

SET_CELL, DELETE_CELLS, DELETE_FAMILY = "SET_CELL", "DELETE_CELLS", "DELETE_FAMILY"
REQUIRED = ("pubSubTopic", "bigtableChangeStreamAppProfile", "bigtableReadInstanceId", "bigtableReadTableId")
UNSUPPORTED = ("bigtableChangeStreamName", "bigtableChangeStreamResume", "bigtableChangeStreamStartTimestamp")


@dataclass(frozen=True)
class Faults:
    """How the template fails, and how an at-least-once pipeline treats its messages.

    The first three are the template's own. `duplicated` is the share of messages that are published twice, the second
    time up to `late_messages` messages later; `shuffled`: messages of one bundle are published in random order;
    `delay_seconds`: the longest that a bundle waits before it is published.
    """

    late_commit_time: bool = True
    values_needed: bool = True
    base64_columns_break: bool = True
    duplicated: float = 0.0
    late_messages: int = 200
    shuffled: bool = False
    delay_seconds: float = 0.0

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "Faults":
        """Read switches by name; those that are missing stay as they are by default. Raises ActorError."""
        unknown = set(written) - set(asdict(cls()))
        if unknown:
            raise ActorError(
                f"no such fault of the template: {', '.join(sorted(unknown))}; there are {list(asdict(cls()))}"
            )
        return cls(**written)


@dataclass(frozen=True)
class Parameters:
    """The template's parameters, as far as the local cloud carries them out."""

    topic: str
    app_profile: str
    project: str
    instance: str
    table: str
    strip_values: bool
    base64_rows: bool
    base64_columns: bool
    base64_values: bool
    ignored_families: frozenset[str]
    ignored_columns: frozenset[str]
    dead_letters: str

    @classmethod
    def of(cls, written: Mapping[str, Any], project: str) -> "Parameters":
        """Read a job's parameters. Raises ActorError or UnsupportedError naming the parameter."""
        missing = [name for name in REQUIRED if not written.get(name)]
        if missing:
            raise ActorError(f"the template's parameters lack {', '.join(missing)}")
        refused = [name for name in UNSUPPORTED if written.get(name)]
        if (
            refused
            or written.get("messageFormat", "JSON") != "JSON"
            or written.get("messageEncoding", "JSON") != "JSON"
        ):
            raise UnsupportedError(
                "the local cloud runs the template with JSON messages and without a named or resumed stream;"
                f" take off {', '.join(refused) or 'messageFormat and messageEncoding'}"
            )
        return cls(
            topic=f"projects/{written.get('pubSubProjectId') or project}/topics/{written['pubSubTopic']}",
            app_profile=str(written["bigtableChangeStreamAppProfile"]),
            project=str(written.get("bigtableReadProjectId") or project),
            instance=str(written["bigtableReadInstanceId"]),
            table=str(written["bigtableReadTableId"]),
            strip_values=_flag(written, "stripValues"),
            base64_rows=_flag(written, "useBase64Rowkeys"),
            base64_columns=_flag(written, "useBase64ColumnQualifiers"),
            base64_values=_flag(written, "useBase64Values"),
            ignored_families=_names(written, "bigtableChangeStreamIgnoreColumnFamilies"),
            ignored_columns=_names(written, "bigtableChangeStreamIgnoreColumns"),
            dead_letters=str(written.get("dlqDirectory") or ""),
        )

    @property
    def table_name(self) -> str:
        """Return the table's full name."""
        return f"projects/{self.project}/instances/{self.instance}/tables/{self.table}"


@dataclass(frozen=True)
class Message:
    """One message for the topic: no ordering key and no attributes, as the template sends them."""

    data: bytes


@dataclass(frozen=True)
class DeadLetter:
    """A change that the template fails to turn into a message; it goes to the dead letter directory."""

    record: Mapping[str, Any]
    reason: str


def messages(change: Change, parameters: Parameters, faults: Faults) -> list[Message | DeadLetter]:
    """Return what becomes of a change: one message or dead letter a cell."""
    found: list[Message | DeadLetter] = []
    for mutation in change.mutations:
        entry = _entry(mutation)
        if entry is None or _ignored(entry, parameters):
            continue
        record = {**_common(change, parameters, faults), **entry}
        value = record.pop("value")
        try:
            found.append(_message(record, value, parameters, faults))
        except _TemplateFailureError as failure:
            found.append(DeadLetter(_printable(record), str(failure)))
    return found


class _TemplateFailureError(Exception):
    """The template's own code throws, or calls the change invalid."""


def _message(record: dict[str, Any], value: bytes | None, parameters: Parameters, faults: Faults) -> Message:
    column = record["column"]
    if parameters.base64_columns and column is None and faults.base64_columns_break:
        raise _TemplateFailureError("JSONObject has no column of a family that was deleted")
    if not parameters.strip_values and value is None and faults.values_needed:
        raise _TemplateFailureError("the change carries no value and is taken for invalid")
    written: dict[str, Any] = {"rowKey": _text(record["rowKey"], parameters.base64_rows)}
    for name in ("modType", "isGC", "tieBreaker", "commitTimestamp", "columnFamily"):
        written[name] = record[name]
    if column is not None:
        written["column"] = _text(column, parameters.base64_columns)
    for name in ("timestamp", "timestampFrom", "timestampTo"):
        if record[name] is not None:
            written[name] = str(record[name])
    if not parameters.strip_values and value is not None:
        written["value"] = _text(value, parameters.base64_values)
    for name in ("sourceInstance", "sourceCluster", "sourceTable"):
        written[name] = record[name]
    return Message(json.dumps(written, separators=(",", ":")).encode())


def _common(change: Change, parameters: Parameters, faults: Faults) -> dict[str, Any]:
    micros = change.committed_nanoseconds // 1_000
    told = change.committed_seconds * 1_000_000 + micros
    if faults.late_commit_time:
        # Whole milliseconds, and the microseconds of the second once more: up to 999 ms too late.
        told = change.committed_seconds * 1_000_000 + micros // 1_000 * 1_000 + micros
    return {
        "rowKey": change.row,
        "isGC": change.garbage_collection,
        "tieBreaker": change.tiebreaker,
        # 64-bit numbers are texts in protobuf's JSON.
        "commitTimestamp": str(told),
        "sourceInstance": parameters.instance,
        "sourceCluster": change.cluster,
        "sourceTable": parameters.table,
    }


def _entry(mutation: Any) -> dict[str, Any] | None:
    """Return the fields of one cell's change; None for kinds that the template leaves out."""
    entry: dict[str, Any] = dict.fromkeys(("column", "timestamp", "timestampFrom", "timestampTo", "value"))
    kind = mutation.WhichOneof("mutation")
    if kind == "set_cell":
        cell = mutation.set_cell
        entry |= {"modType": SET_CELL, "columnFamily": cell.family_name, "column": cell.column_qualifier}
        return entry | {"timestamp": cell.timestamp_micros, "value": cell.value}
    if kind == "delete_from_column":
        cells = mutation.delete_from_column
        entry |= {"modType": DELETE_CELLS, "columnFamily": cells.family_name, "column": cells.column_qualifier}
        until = cells.time_range.end_timestamp_micros
        return entry | {"timestampFrom": cells.time_range.start_timestamp_micros, "timestampTo": until or None}
    if kind == "delete_from_family":
        return entry | {"modType": DELETE_FAMILY, "columnFamily": mutation.delete_from_family.family_name}
    return None


def _ignored(entry: Mapping[str, Any], parameters: Parameters) -> bool:
    family, column = entry["columnFamily"], entry["column"]
    if family in parameters.ignored_families:
        return True
    return column is not None and f"{family}:{column.decode(errors='replace')}" in parameters.ignored_columns


def _text(value: bytes, as_base64: bool) -> str:
    # Java puts the replacement character where bytes are no UTF-8.
    return base64.b64encode(value).decode() if as_base64 else value.decode(errors="replace")


def _printable(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _text(value, True) if isinstance(value, bytes) else value for name, value in record.items()}


def _flag(written: Mapping[str, Any], name: str) -> bool:
    return str(written.get(name, "false")).lower() == "true"


def _names(written: Mapping[str, Any], name: str) -> frozenset[str]:
    return frozenset(part.strip() for part in str(written.get(name) or "").split(",") if part.strip())
