"""The verbs that user data needs of its two databases, each with its contract; one contract test runs against both.

Every verb has a time limit of its own and may raise AccessDeniedError, ThrottledError or StoreUnavailableError; only what goes
beyond that is listed. Rows are in canonical form (userdata/values.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from functions.userdata.change import Change
from functions.userdata.values import Row


class Fate(StrEnum):
    """What became of one change; WAITING may pass on a retry, REFUSED never will."""

    APPLIED = "applied"
    STALE = "stale"
    WAITING = "waiting"
    REFUSED = "refused"


@dataclass(frozen=True)
class Answer:
    """The fate of one change, with the reason of a refusal."""

    fate: Fate
    reason: str = ""


@dataclass(frozen=True)
class Page:
    """Some rows of a table in the order of its key; `after` continues, None at the end.

    `refused` has the rows that the other side can't hold, by key with the reason; `unsealed` the keys of rows that an unaware
    program wrote.
    """

    changes: Sequence[Change]
    after: str | None
    refused: Mapping[str, str] = field(default_factory=dict)
    unsealed: Sequence[str] = ()


class UserDatabase(Protocol):
    """The declared tables of one site. The larger version wins, whole row, whichever way and however often changes arrive."""

    def read(self, table: str, keys: Sequence[str]) -> dict[str, Change]:
        """Return rows and tombstones that exist, by key. Raises ValueRefusedError for a row with no canonical form."""

    def apply(self, changes: Sequence[Change]) -> list[Answer]:
        """Bring in replicated changes, at most one a row, in an order that foreign keys allow. Idempotent.

        A row whose parent is not there, or a delete of a row that has children, is WAITING. Nothing that this writes is ever
        sent back as a change of this site.
        """

    def put(self, table: str, row: Row) -> Change:
        """Write a row at home with a fresh version. Raises StoreRefusedError for what the tables do not allow."""

    def delete(self, table: str, key: str) -> Change | None:
        """Delete a row at home, leaving its tombstone; None if there is none. Raises as `put` does."""

    def bury(self, table: str, key: str, last: int) -> Change:
        """Write the tombstone of a row that can't be, above `last`; it travels like any delete. A repeat changes nothing."""

    def page(self, table: str, after: str | None) -> Page:
        """Return the next rows of a table after a key; None begins."""

    def tombstones(self, table: str, after: str | None) -> Page:
        """Return the next tombstones of a table after a key; None begins."""

    def sweep(self, before: int) -> int:
        """Remove tombstones with versions below `before`; returns how many."""


@dataclass(frozen=True)
class Adoption:
    """A row as it stands after adoption, and whether there was anything to adopt."""

    change: Change
    adopted: bool


@dataclass(frozen=True)
class Entry:
    """One entry of the outbox; `problem` says why it has no change that could be applied."""

    id: int
    change: Change
    problem: str = ""


class OutboxDatabase(UserDatabase, Protocol):
    """A database that notes every local write in an outbox, in the writer's transaction."""

    def pending(self, after: int) -> Sequence[Entry]:
        """Return the oldest entries after an id, in their order, as many as fit; empty when there are none."""

    def done(self, ids: Sequence[int]) -> None:
        """Remove entries; those that are gone are no error."""

    def park(self, id: int, reason: str) -> None:
        """Move an entry to where people find it, with the reason."""

    def park_arrival(self, change: Change, reason: str) -> None:
        """Keep a change of the other side that can never be applied here, with the reason. Idempotent."""

    def parked(self) -> int:
        """Return how many changes lie parked."""

    def copy_existing(self) -> int:
        """Put some of the rows that were there before their table was listed into the outbox; returns how many."""


class SealedDatabase(UserDatabase, Protocol):
    """A database without triggers: writers that know versions leave a seal, and what has none is adopted."""

    def adopt(self, table: str, key: str, last: int) -> Adoption:
        """Give a row that an unaware program wrote its version and seal; a row that it removed gets a tombstone.

        `last` is the newest version that the row is known to have had. What is sealed already, or buried, stays. The write
        travels like any local one. Raises ValueRefusedError for a row with no canonical form.
        """
