"""What a change in Redis does to the row of the site's own table. Pure.

Redis holds what its own writers wrote; the table may hold more, by other writers of this site or the other one. So a change of
some features is laid over the row that the table has, as an update of an item is, and never replaces what it does not name. The
rule between versions stays: the larger one wins, whole row.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from functions.features.envelope import decode, encode
from functions.stores.protocols import Row


class Verdict(StrEnum):
    """What is left to do where the table's row stays as it is."""

    DONE = "done"
    """The table has the change."""
    BEHIND = "behind"
    """The table's row is newer: Redis takes it over."""
    AGAIN = "again"
    """The row's version is in the table already, without this change: it needs a version of its own."""


@dataclass(frozen=True)
class Write:
    """The row to write, over exactly version `seen` of the table's row (None: over nothing)."""

    row: Row
    seen: int | None


def settle(row: Row, names: Collection[str] | None, there: Row | None) -> Write | Verdict:
    """Return what a change of the features `names` asks for, of `row` as Redis has it, where the table has `there`.

    No names (None) stand for the whole row. Raises EnvelopeError for a row that can't be read.
    """
    if there is None:
        return Write(row, None)
    if there.version > row.version:
        return Verdict.BEHIND
    envelope = row.envelope if names is None else _laid_over(row, names, there)
    if there.version == row.version:
        return Verdict.DONE if envelope == there.envelope else Verdict.AGAIN
    return Write(Row(row.key, row.version, envelope), there.version)


def _laid_over(row: Row, names: Collection[str], there: Row) -> bytes:
    ours, theirs = decode(row.envelope), decode(there.envelope)
    if ours.deleted:
        return row.envelope
    attributes = {} if theirs.deleted else dict(theirs.attributes)
    for name in names:
        if name in ours.attributes:
            attributes[name] = ours.attributes[name]
    return encode(replace(ours if theirs.deleted else theirs, attributes=attributes))
