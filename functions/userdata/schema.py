"""The declared tables, their types on both sides, and the check that refuses what can't be kept alike.

Pure, and imported by the program too: a table with a column of a refused type stops `up` with its name, before anything is made.
Spanner's tables are derived from here; PostgreSQL's are in migrations/, and a test holds the two together.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from functions.userdata.errors import SchemaError

# Columns that replication adds to every table: the version (features/version.py), and on Spanner the seal, which tells a writer
# that knows versions from one that does not (userdata/change.py).
VERSION = "version"
SEAL = "lifeboat_seal"
TOMBSTONES = "lifeboat_tombstones"
CHANGE_STREAM = "lifeboat_changes"

# Spanner's NUMERIC has 29 digits before the point and 9 after it (https://cloud.google.com/spanner/docs/storing-numeric-data).
NUMERIC_WHOLE, NUMERIC_SCALE = 29, 9


class Kind(StrEnum):
    """The types that both sides hold exactly."""

    BOOL = "bool"
    INTEGER = "integer"
    FLOAT = "float"
    NUMERIC = "numeric"
    TEXT = "text"
    UUID = "uuid"
    DATE = "date"
    TIMESTAMP = "timestamp"
    BYTES = "bytes"
    JSON = "json"


_SPANNER = {
    Kind.BOOL: "BOOL",
    Kind.INTEGER: "INT64",
    Kind.FLOAT: "FLOAT64",
    Kind.NUMERIC: "NUMERIC",
    Kind.TEXT: "STRING(MAX)",
    Kind.UUID: "STRING(36)",
    Kind.DATE: "DATE",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.BYTES: "BYTES(MAX)",
    Kind.JSON: "JSON",
}

_PLAIN = {
    "boolean": Kind.BOOL,
    "bool": Kind.BOOL,
    "smallint": Kind.INTEGER,
    "int2": Kind.INTEGER,
    "integer": Kind.INTEGER,
    "int": Kind.INTEGER,
    "int4": Kind.INTEGER,
    "bigint": Kind.INTEGER,
    "int8": Kind.INTEGER,
    "double precision": Kind.FLOAT,
    "float8": Kind.FLOAT,
    "text": Kind.TEXT,
    "uuid": Kind.UUID,
    "date": Kind.DATE,
    "timestamptz": Kind.TIMESTAMP,
    "timestamp with time zone": Kind.TIMESTAMP,
    "bytea": Kind.BYTES,
    "jsonb": Kind.JSON,
}

# Why a type is refused, and what to declare instead.
_REFUSED = {
    "real": "32 bits, which a 64-bit type does not print alike; use double precision",
    "float4": "32 bits, which a 64-bit type does not print alike; use double precision",
    "money": "its text depends on the server's locale; use numeric(p,s)",
    "timestamp": "it names no instant without a time zone; use timestamptz",
    "timestamp without time zone": "it names no instant without a time zone; use timestamptz",
    "time": "Spanner has no time of day; use text",
    "timetz": "Spanner has no time of day; use text",
    "interval": "months and days have no length; use bigint of a unit",
    "json": "it keeps spaces and repeated keys, which no other side does; use jsonb",
    "xml": "Spanner has no such type; use text",
    "char": "it pads with spaces; use text",
    "character": "it pads with spaces; use text",
    "bpchar": "it pads with spaces; use text",
}

_NUMERIC = re.compile(r"(?:numeric|decimal)\((\d+)(?:,(\d+))?\)")
_VARCHAR = re.compile(r"(?:varchar|character varying)(?:\(\d+\))?")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Types whose text is the same on both sides, so that a key is one text.
KEY_KINDS = frozenset((Kind.TEXT, Kind.UUID, Kind.INTEGER))


@dataclass(frozen=True)
class ColumnType:
    """A type that both sides hold: its kind, whether it is an array of it, and the digits that a numeric keeps."""

    kind: Kind
    array: bool = False
    whole_digits: int = NUMERIC_WHOLE
    scale: int = NUMERIC_SCALE

    @property
    def spanner(self) -> str:
        """Return the type as Spanner's GoogleSQL names it."""
        name = _SPANNER[self.kind]
        return f"ARRAY<{name}>" if self.array else name


@dataclass(frozen=True)
class Table:
    """One table. `columns` maps a name to its PostgreSQL type, ` not null` added where it is so.

    `parents` maps a column to the table whose key it holds: rows go over parents first, and deletes children first.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    parents: Mapping[str, str] = field(default_factory=dict)

    def type_of(self, column: str) -> ColumnType:
        """Return a column's type. Raises SchemaError for one that is refused."""
        return parse_type(self.columns[column])

    def required(self, column: str) -> bool:
        """Say whether the column refuses NULL."""
        return column in self.key or self.columns[column].lower().rstrip().endswith(" not null")


# The reference service's tables, one column of every type that replicates.
REFERENCE_TABLES = (
    Table(
        "users",
        ("id",),
        {
            "id": "uuid not null",
            "email": "text not null",
            "name": "varchar(200)",
            "active": "boolean not null",
            "visits": "bigint not null",
            "score": "double precision",
            "balance": "numeric(20,4)",
            "born": "date",
            "created_at": "timestamptz not null",
            "preferences": "jsonb",
            "avatar": "bytea",
            "tags": "text[]",
            "limits": "bigint[]",
            "flags": "boolean[]",
            "weights": "double precision[]",
            "prices": "numeric(20,4)[]",
            "logins": "timestamptz[]",
            "holidays": "date[]",
            "devices": "uuid[]",
            "keys": "bytea[]",
        },
    ),
    Table(
        "orders",
        ("id",),
        {
            "id": "uuid not null",
            "user_id": "uuid not null",
            "product_ids": "text[] not null",
            "total": "numeric(20,4) not null",
            "placed_at": "timestamptz not null",
            "details": "jsonb",
        },
        {"user_id": "users"},
    ),
)


def parse_type(declared: str) -> ColumnType:
    """Return the type that a declaration names. Raises SchemaError with the reason for one that is refused."""
    name = " ".join(declared.lower().split()).removesuffix(" not null")
    array = name.endswith("[]")
    if array:
        name = name.removesuffix("[]")
        if name.endswith("[]"):
            raise SchemaError("arrays of arrays: Spanner has none; use jsonb")
    name = name.replace(", ", ",").replace(" (", "(")
    if _VARCHAR.fullmatch(name):
        return ColumnType(Kind.TEXT, array)
    if found := _NUMERIC.fullmatch(name):
        digits, scale = int(found[1]), int(found[2] or 0)
        if scale > NUMERIC_SCALE or digits - scale > NUMERIC_WHOLE:
            raise SchemaError(
                f"{name}: Spanner keeps {NUMERIC_WHOLE} digits before and {NUMERIC_SCALE} after the point; declare less"
            )
        return ColumnType(Kind.NUMERIC, array, digits - scale, scale)
    if name in ("numeric", "decimal"):
        raise SchemaError("numeric without bounds: Spanner's has some; use numeric(p,s)")
    kind = _PLAIN.get(name)
    if kind is None:
        base = name.partition("(")[0].strip()
        raise SchemaError(f"{name}: {_REFUSED.get(base, 'no type that both sides hold alike; use text or jsonb')}")
    if array and kind is Kind.JSON:
        raise SchemaError("jsonb[]: NULL and JSON's null can't be told apart inside it; use jsonb")
    return ColumnType(kind, array)


def problems(tables: Sequence[Table]) -> list[str]:
    """Return what is wrong with the declared tables, one line each, empty when all of it replicates."""
    found: list[str] = []
    names = {table.name for table in tables}
    if len(names) < len(tables):
        found.append("a table is declared twice")
    for table in tables:
        found += [f"{table.name}: {problem}" for problem in _problems(table, names)]
    if not found:
        try:
            depths(tables)
        except SchemaError as error:
            found.append(str(error))
    return found


def check(tables: Sequence[Table]) -> None:
    """Raise SchemaError that names every refused table and column."""
    if found := problems(tables):
        raise SchemaError("user data can't be replicated: " + "; ".join(found) + ". Change the declared tables.")


def depths(tables: Iterable[Table]) -> Mapping[str, int]:
    """Return how deep each table lies below those that it refers to: 0 for one without parents."""
    by_name = {table.name: table for table in tables}
    found: dict[str, int] = {}

    def depth(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise SchemaError(f"tables refer to each other in a circle: {' -> '.join((*above, name))}")
        if name not in found:
            parents = {parent for parent in by_name[name].parents.values() if parent != name}
            found[name] = max((depth(parent, (*above, name)) + 1 for parent in parents), default=0)
        return found[name]

    for name in by_name:
        depth(name, ())
    return found


def spanner_ddl(tables: Sequence[Table]) -> list[str]:
    """Return the statements that make the tables, the tombstones and the change stream on Spanner.

    https://cloud.google.com/spanner/docs/change-streams/manage. `allow_txn_exclusion` lets a replicated write stay out of the
    stream, so that nothing comes back as an echo.
    """
    check(tables)
    order = depths(tables)
    by_name = {table.name: table for table in tables}
    statements = [
        _create(table, by_name) for table in sorted(tables, key=lambda table: (order[table.name], table.name))
    ]
    statements.append(
        f"CREATE TABLE {TOMBSTONES} (table_name STRING(63) NOT NULL, key STRING(MAX) NOT NULL, {VERSION} INT64 NOT NULL)"
        " PRIMARY KEY (table_name, key)"
    )
    watched = ", ".join(sorted([*by_name, TOMBSTONES]))
    statements.append(
        f"CREATE CHANGE STREAM {CHANGE_STREAM} FOR {watched} OPTIONS"
        " (value_capture_type = 'NEW_ROW', retention_period = '7d', allow_txn_exclusion = true)"
    )
    return statements


def _create(table: Table, by_name: Mapping[str, Table]) -> str:
    columns = [
        f"{name} {table.type_of(name).spanner}{' NOT NULL' if table.required(name) else ''}" for name in table.columns
    ]
    # Rows of writers that know no versions get both later, so neither may be asked of them.
    columns += [f"{VERSION} INT64 NOT NULL DEFAULT (0)", f"{SEAL} BYTES(16)"]
    for column, parent in table.parents.items():
        target = by_name[parent].key[0]
        columns.append(f"CONSTRAINT {table.name}_{column}_fk FOREIGN KEY ({column}) REFERENCES {parent} ({target})")
    return f"CREATE TABLE {table.name} ({', '.join(columns)}) PRIMARY KEY ({', '.join(table.key)})"


def _problems(table: Table, names: set[str]) -> list[str]:
    found = [
        f"name {name!r} is reserved, or not 1 to 63 lower-case letters, digits and underscores"
        for name in (table.name, *table.columns)
        if not _NAME.fullmatch(name) or name in (VERSION, SEAL) or name.startswith("lifeboat_")
    ]
    kinds: dict[str, ColumnType] = {}
    for name, declared in table.columns.items():
        try:
            kinds[name] = parse_type(declared)
        except SchemaError as error:
            found.append(f"column {name}: {error}")
    found += _key_problems(table, kinds)
    for column, parent in table.parents.items():
        if column not in table.columns:
            found.append(f"parent column {column} is not declared")
        if parent not in names:
            found.append(f"parent table {parent} is not declared")
    return found


def _key_problems(table: Table, kinds: Mapping[str, ColumnType]) -> list[str]:
    if not table.key:
        return ["it has no primary key, by which rows are told apart"]
    found = [f"key column {name} is not declared" for name in table.key if name not in table.columns]
    allowed = ", ".join(sorted(KEY_KINDS))
    return found + [
        f"key column {name}: allowed are {allowed}, whose text is alike everywhere"
        for name in table.key
        if name in kinds and (kinds[name].array or kinds[name].kind not in KEY_KINDS)
    ]
