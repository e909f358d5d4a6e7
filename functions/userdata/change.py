"""One row's state as it travels: table, key, version, and the row or the fact that it is gone.

The seal is a digest of a row and its version that writers which know versions leave beside it on Spanner. A row whose seal does
not match was written by a program that knows none: so a change record of the new row alone tells an echo from such a write, and
no filter on an origin column loses it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from functions.features.version import origin
from functions.settings import Site
from functions.userdata.schema import Table, depths
from functions.userdata.values import Canonical, Row

SEAL_BYTES = 16


@dataclass(frozen=True)
class Change:
    """The state of one row at one version; `row` is None for a row that was deleted."""

    table: str
    key: str
    version: int
    row: Row | None

    @property
    def deleted(self) -> bool:
        """Say whether this is a tombstone."""
        return self.row is None

    @property
    def origin(self) -> Site | None:
        """Return the site whose write this is."""
        return origin(self.version)


def key_text(values: Sequence[Canonical]) -> str:
    """Return a key as one text: a JSON list of the texts of its values, as the trigger writes it."""
    return json.dumps([str(value) for value in values], ensure_ascii=False, separators=(",", ":"))


def key_of(row: Mapping[str, Any], table: Table) -> str:
    """Return the key of a row in canonical form."""
    return key_text([row[name] for name in table.key])


def key_values(key: str) -> list[str]:
    """Return the texts that a key is made of."""
    return [str(value) for value in json.loads(key)]


def parents_of(change: Change, table: Table) -> Mapping[str, str]:
    """Return the tables and keys of the rows that this one needs."""
    if change.row is None:
        return {}
    return {
        parent: key_text([change.row[column]])
        for column, parent in table.parents.items()
        if change.row[column] is not None
    }


def digest(change: Change) -> bytes:
    """Return 32 bytes that stand for exactly this state of this row."""
    content = None if change.row is None else {name: change.row[name] for name in sorted(change.row)}
    text = json.dumps(
        [change.table, change.key, change.version, content],
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).digest()


def seal(change: Change) -> bytes:
    """Return the seal of a row."""
    return digest(change)[:SEAL_BYTES]


def newest(changes: Iterable[Change]) -> dict[tuple[str, str], Change]:
    """Keep the newest state of each row."""
    found: dict[tuple[str, str], Change] = {}
    for change in changes:
        place = (change.table, change.key)
        known = found.get(place)
        if known is None or known.version < change.version:
            found[place] = change
    return found


def ordered(changes: Iterable[Change], tables: Sequence[Table]) -> list[Change]:
    """Return the changes in an order that both sides' foreign keys allow: parents first, then deletes, children first."""
    depth = depths(tables)
    return sorted(
        changes,
        key=lambda change: (change.deleted, -depth[change.table] if change.deleted else depth[change.table]),
    )
