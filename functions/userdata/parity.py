"""Prove that both databases hold the same rows, and mend what differs.

Rows of a table fall into ranges by a hash of their key. Each side adds up the digests of its rows, range by range, in whatever
order it reads them; ranges with equal count and sum hold equal rows. Only ranges that differ are looked at row by row, and the
newer row wins through the same guarded writes as ever, so writes that go on meanwhile do no harm.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from functions.userdata.change import Change, digest
from functions.userdata.protocols import OutboxDatabase, SealedDatabase, UserDatabase
from functions.userdata.schema import Table
from functions.userdata.settle import Outcome, settle

RANGES = 256
_MODULUS = 1 << 256


@dataclass
class RangeDigest:
    """How many rows and tombstones a range holds, and the sum of their digests."""

    rows: int = 0
    tombstones: int = 0
    total: int = 0

    def add(self, change: Change) -> None:
        """Count a row or tombstone in."""
        self.total = (self.total + int.from_bytes(digest(change))) % _MODULUS
        if change.deleted:
            self.tombstones += 1
        else:
            self.rows += 1


def range_of(change: Change) -> int:
    """Return the range that a row falls into, the same on both sides."""
    return hashlib.sha256(f"{change.table}\0{change.key}".encode()).digest()[0] % RANGES


def fold(changes: Iterator[Change]) -> list[RangeDigest]:
    """Return the digests of all ranges; the order of the rows makes no difference."""
    found = [RangeDigest() for _ in range(RANGES)]
    for change in changes:
        found[range_of(change)].add(change)
    return found


def differing(one: Sequence[RangeDigest], other: Sequence[RangeDigest]) -> frozenset[int]:
    """Return the numbers of the ranges that are not alike."""
    return frozenset(number for number, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


def combined(ranges: Sequence[RangeDigest]) -> str:
    """Return one text that stands for everything in the ranges: 64 hexadecimal digits."""
    text = "".join(f"{each.rows},{each.tombstones},{each.total:x};" for each in ranges)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Apart:
    """A row that was not alike on a second look, and the versions that either side had then, 0 for none."""

    key: str
    home: int
    far: int

    @property
    def newest(self) -> int:
        """Return the version that both sides should come to, or pass."""
        return max(self.home, self.far)


@dataclass
class TableParity:
    """One table's proof: rows, tombstones and digest at home and far, and what was found and mended.

    `differing` counts rows that are not alike on a second look, `apart` names them, but for a row beside its own tombstone;
    `refused` names rows that the other side can't hold.
    """

    table: str
    rows: tuple[int, int] = (0, 0)
    tombstones: tuple[int, int] = (0, 0)
    digests: tuple[str, str] = ("", "")
    differing: int = 0
    apart: list[Apart] = field(default_factory=list)
    repaired: int = 0
    adopted: int = 0
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Say whether both sides hold the same."""
        return self.digests[0] == self.digests[1] and not self.refused


@dataclass(frozen=True)
class Prover:
    """Compares the databases of both sites."""

    home: OutboxDatabase
    far: SealedDatabase
    tables: Sequence[Table]
    clock_ms: Callable[[], int]

    def prove(self, repair: bool) -> list[TableParity]:
        """Compare all tables, parents first; with `repair`, bring in line what differs. A proof is of what was read."""
        from functions.userdata.schema import depths

        order = depths(self.tables)
        return [self._table(table, repair) for table in sorted(self.tables, key=lambda table: order[table.name])]

    def _table(self, table: Table, repair: bool) -> TableParity:
        found = TableParity(table.name)
        ours = fold(self._everything(self.home, table.name, found, repair))
        theirs = fold(self._everything(self.far, table.name, found, repair))
        found.rows = (sum(each.rows for each in ours), sum(each.rows for each in theirs))
        found.tombstones = (sum(each.tombstones for each in ours), sum(each.tombstones for each in theirs))
        found.digests = (combined(ours), combined(theirs))
        wrong = differing(ours, theirs)
        if wrong:
            self._mend(table, wrong, found, repair)
        return found

    def _mend(self, table: Table, wrong: frozenset[int], found: TableParity, repair: bool) -> None:
        sides = [self._digests(side, table.name, wrong, found) for side in (self.home, self.far)]
        suspects = sorted(key for key in sides[0].keys() | sides[1].keys() if sides[0].get(key) != sides[1].get(key))
        at_home, at_far = self.home.read(table.name, suspects), self.far.read(table.name, suspects)
        to_home: list[Change] = []
        to_far: list[Change] = []
        for key in suspects:
            ours, theirs = at_home.get(key), at_far.get(key)
            if ours == theirs:
                # Writes have settled since; or one side holds a row beside its tombstone, which no writer of ours leaves.
                found.differing += any(len(side.get(key, ())) > 1 for side in sides)
                continue
            found.differing += 1
            found.apart.append(Apart(key, ours.version if ours else 0, theirs.version if theirs else 0))
            if theirs is None or (ours is not None and ours.version > theirs.version):
                assert ours is not None
                to_far.append(ours)
            elif ours is None or theirs.version > ours.version:
                to_home.append(theirs)
        if repair:
            for target, changes in ((self.far, to_far), (self.home, to_home)):
                settled = settle(target, changes, self.tables, self.clock_ms)
                found.repaired += sum(item.outcome in (Outcome.APPLIED, Outcome.BURIED) for item in settled)

    def _digests(
        self, side: UserDatabase, table: str, wrong: frozenset[int], found: TableParity
    ) -> dict[str, list[bytes]]:
        """Return the digests of a side's rows and tombstones in some ranges, by key."""
        digests: dict[str, list[bytes]] = {}
        for change in self._everything(side, table, found, adopt=False):
            if range_of(change) in wrong:
                digests.setdefault(change.key, []).append(digest(change))
        return digests

    def _everything(self, side: UserDatabase, table: str, found: TableParity, adopt: bool) -> Iterator[Change]:
        """Yield every row and tombstone of a table once; a tombstone beside its row is not the row's state."""
        for read in (side.page, side.tombstones):
            after: str | None = None
            while True:
                page = read(table, after)
                found.refused.update(page.refused)
                if adopt:
                    for key in page.unsealed:
                        found.adopted += self.far.adopt(table, key, 0).adopted
                yield from page.changes
                after = page.after
                if after is None:
                    break
