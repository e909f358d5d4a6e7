"""Feast's own online layouts, so that a feature view written to its DynamoDB store is read by its Bigtable store. Pure.

Feast keeps an item per entity in DynamoDB, `{project}.{view}` with `entity_id`, `event_ts` and a map `values`, and a row per
entity and view in Bigtable, `{project}.{entities}` with key `{entity_id}#{view}` and a cell per feature. Entity ids are the same
hash in both and values the same protobuf bytes, so nothing is transcoded. Only the time's spelling differs: Feast writes it as
`str` there and as ISO 8601 here, and reads both.
https://github.com/feast-dev/feast (sdk/python/feast/infra/online_stores/dynamodb.py, bigtable.py, helpers.py)

Feast knows no versions: its writers are unaware writers. A row gets one at home in an attribute of its own that Feast never
reads; over there the version is the cells' timestamp, for Feast takes every other cell of the family for a feature.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from functions.errors import SettingsError
from functions.features.envelope import Envelope, Value, decode, encode
from functions.features.errors import EnvelopeError, PoisonRecordError
from functions.settings import FEAST_VIEWS, FEATURE_KEY, FEATURE_VERSION
from functions.stores.protocols import Row

ENTITY, EVENT, VALUES, VERSION = "entity_id", "event_ts", "values", "_v"
FAMILY = "features"

# What Feast allows a table's name and the entities' part of it; longer ones are cut with a hash.
_TABLE_CHARACTERS = 50
_ENTITIES_CHARACTERS = 24
_READABLE_CHARACTERS = 10
# The entity of views that have none.
_NO_ENTITY = "__dummy"


@dataclass(frozen=True)
class FeastView:
    """A feature view as its repository declares it; `entities` and `features` are names."""

    project: str
    name: str
    entities: tuple[str, ...]
    features: tuple[str, ...]

    @property
    def dynamodb_table(self) -> str:
        """Return the table of Feast's DynamoDB store, by its default template."""
        return f"{self.project}.{self.name}"

    @property
    def bigtable_table(self) -> str:
        """Return the table of Feast's Bigtable store."""
        entities = "-".join(sorted(self.entities)) or _NO_ENTITY
        if len(entities) > _ENTITIES_CHARACTERS:
            entities = _md5(entities)[:_ENTITIES_CHARACTERS]
        left = _TABLE_CHARACTERS - len(entities) - 1
        project = self.project
        if len(project) > left:
            hashed = _md5(project)[: left - _READABLE_CHARACTERS - 1]
            project = f"{project[:_READABLE_CHARACTERS]}_{hashed}"
        return f"{project}.{entities}"

    def row_key(self, entity_id: str) -> str:
        """Return the key of an entity's row in Bigtable."""
        return f"{entity_id}#{self.name}"


def parse_views(given: Mapping[str, object]) -> dict[str, FeastView]:
    """Return the views of the config, by name of their DynamoDB table.

    Each is {"project": text, "view": text, "entities": [names], "features": [names]}. Raises SettingsError that names all that
    are not.
    """
    found: dict[str, FeastView] = {}
    problems = []
    for table, value in given.items():
        fields = value if isinstance(value, dict) else {}
        texts = [fields.get(name) for name in ("project", "view")]
        lists = [fields.get(name) for name in ("entities", "features")]
        if all(isinstance(text, str) and text for text in texts) and all(isinstance(names, list) for names in lists):
            entities, features = (tuple(map(str, names or ())) for names in lists)
            found[table] = FeastView(str(texts[0]), str(texts[1]), entities, features)
        else:
            problems.append(table)
    if problems:
        raise SettingsError(
            f"{FEAST_VIEWS} can't be used for {', '.join(problems)}: project, view, entities and features are needed"
        )
    return found


def view_of(table: str, given: Mapping[str, object]) -> FeastView:
    """Return the view whose DynamoDB table this is. Raises SettingsError where the config has none."""
    view = parse_views(given).get(table)
    if view is None:
        raise SettingsError(f"{FEAST_VIEWS} names no view for table {table}; add it to the function's environment")
    return view


def table_of(record: Mapping[str, Any]) -> str:
    """Return the table that a change record is of: its stream's ARN says so. Raises PoisonRecordError where it does not."""
    parts = str(record.get("eventSourceARN", "")).split("/")
    if len(parts) < 2:
        raise PoisonRecordError("record names no stream of a table")
    return parts[1]


def as_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a change record of Feast's table as one of a feature table: the names of key and version exchanged."""
    change = record.get("dynamodb")
    if not isinstance(change, Mapping):
        return dict(record)
    images = {name: as_item(change[name]) for name in ("Keys", "NewImage", "OldImage") if change.get(name) is not None}
    return {**record, "dynamodb": {**change, **images}}


def as_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item of Feast's table with the names of a feature table."""
    names = {ENTITY: FEATURE_KEY, VERSION: FEATURE_VERSION}
    return {names.get(name, name): value for name, value in item.items()}


def feast_item(row: Row) -> dict[str, Any]:
    """Return a row as Feast's DynamoDB store has it. Raises EnvelopeError for a row that holds no Feast features."""
    event, values = parts(row)
    return {
        ENTITY: {"S": row.key},
        EVENT: {"S": event},
        VALUES: {"M": {name: {"B": data} for name, data in values.items()}},
        VERSION: {"N": str(row.version)},
    }


def cells(row: Row) -> dict[str, bytes]:
    """Return the cells of a row as Feast's Bigtable store has them. Raises EnvelopeError, also for a time that is none."""
    event, values = parts(row)
    try:
        moment = datetime.fromisoformat(event).isoformat()
    except ValueError as error:
        raise EnvelopeError(f"row {row.key!r}: {EVENT} {event[:40]!r} is no time") from error
    return {**values, EVENT: moment.encode()}


def from_cells(key: str, version: int, found: Mapping[str, bytes]) -> Row:
    """Return the row that cells of Feast's Bigtable store hold."""
    values: dict[str, Value] = {name: data for name, data in found.items() if name != EVENT}
    event = found.get(EVENT, b"").decode()
    return Row(key, version, encode(Envelope({EVENT: event, VALUES: values})))


def parts(row: Row) -> tuple[str, dict[str, bytes]]:
    """Return a row's event time and its values. Raises EnvelopeError for a row that holds no Feast features."""
    attributes = decode(row.envelope).attributes
    event, values = attributes.get(EVENT), attributes.get(VALUES)
    if not isinstance(event, str) or not isinstance(values, Mapping) or EVENT in values:
        raise EnvelopeError(f"row {row.key!r} holds no features of Feast: {EVENT} and {VALUES} are expected")
    found = {name: data for name, data in values.items() if isinstance(data, bytes)}
    if len(found) != len(values):
        raise EnvelopeError(f"row {row.key!r}: a value of Feast is not binary")
    return event, found


def _md5(text: str) -> str:
    # Feast's own choice of a short name, no question of safety.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
