"""One side's part of a reconciliation: its table is scanned where it lies and told in small documents.

A run's documents lie on a shelf under the run's name: for each share its leaves and its entries by page, and at the end the
table's summary, branches and leaves. A share that has its documents is not scanned again, so a survey goes on where it broke off.
"""

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any, Protocol

from functions.features.envelope import peek
from functions.features.errors import DigestError, EnvelopeError
from functions.features.reconcile.digest import (
    LEAVES_PER_BRANCH,
    LEAVES_PER_PAGE,
    NODE_BYTES,
    PAGES,
    Entry,
    Node,
    Tally,
    Tree,
    decode_entries,
    decode_leaves,
    decode_nodes,
    encode_leaves,
    encode_nodes,
)
from functions.features.reconcile.plan import ended, takes_part
from functions.settings import Site
from functions.stores.errors import NotFoundError, PreconditionFailedError
from functions.stores.protocols import FeatureTable, ObjectStore, Row, Unreadable
from functions.telemetry import LOGGER

PREFIX = "reconcile"
# What runs leave, apart from what is kept for good: a lifecycle rule of the bucket removes it.
RUNS = "runs"
# Enough that a share of a large table fits a function's time and memory, few enough that a small table costs few calls.
SHARES = 16
# The pace is kept, and a deadline looked at, every so many rows.
_STRIDE = 512
_DOCUMENT_BYTES_LIMIT = 64 << 20
_INDEX = struct.Struct(f">{PAGES}I")
_SHARE = struct.Struct(">QQQQ")


class Shelf(Protocol):
    """Where a run's documents lie: the side's own bucket, or memory."""

    def put(self, name: str, data: bytes) -> None:
        """Keep a document; an earlier one of the name is replaced."""

    def get(self, name: str) -> bytes | None:
        """Return a document, None if there is none."""

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of a document that is there."""


class MemoryShelf:
    """Documents of a run that one process does alone."""

    def __init__(self) -> None:
        self._documents: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        self._documents[name] = data

    def get(self, name: str) -> bytes | None:
        return self._documents.get(name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self._documents[name][offset : offset + length]


@dataclass(frozen=True)
class BucketShelf:
    """Documents in a site's artifact bucket, below `reconcile/`."""

    store: ObjectStore

    def put(self, name: str, data: bytes) -> None:
        """Keep a document."""
        self.store.put(f"{PREFIX}/{name}", data)

    def get(self, name: str) -> bytes | None:
        """Return a document, None if there is none."""
        try:
            return self.store.get(f"{PREFIX}/{name}", _DOCUMENT_BYTES_LIMIT)[0]
        except NotFoundError:
            return None

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of a document that is there."""
        return self.store.get_range(f"{PREFIX}/{name}", offset, length)

    def claim(self, name: str, data: bytes) -> bool:
        """Keep a document unless there is one of the name; returns whether it was kept."""
        try:
            self.store.put(f"{PREFIX}/{name}", data, absent=True)
        except PreconditionFailedError:
            return False
        return True


class Pace(Protocol):
    """Holds a scan back to what its table can spare."""

    def take(self, rows: int) -> None:
        """Return when so many more rows may be read."""


@dataclass
class SteadyPace:
    """At most `rows_per_second`, evenly; `clock` gives monotonic seconds and `wait` lets some pass."""

    rows_per_second: float
    clock: Callable[[], float]
    wait: Callable[[float], None]
    _due: float = 0.0

    def take(self, rows: int) -> None:
        """Return when so many more rows may be read."""
        now = self.clock()
        # What was not used is not saved up: a pause must not be followed by a burst.
        self._due = max(self._due, now) + rows / self.rows_per_second
        if self._due > now + rows / self.rows_per_second:
            self.wait(self._due - rows / self.rows_per_second - now)


class FreePace:
    """No limit."""

    def take(self, rows: int) -> None:
        """Return at once."""


@dataclass(frozen=True)
class Run:
    """One reconciliation. `cutoff_seconds`: rows that had expired by then (epoch seconds) take no part on either side."""

    name: str
    cutoff_seconds: int


@dataclass(frozen=True)
class Summary:
    """What a side's table came to. `expired` and `unreadable` rows take no part in the digest."""

    rows: int
    tombstones: int
    expired: int
    unreadable: int
    bytes_read: int
    shares: int
    digest: str


@dataclass(frozen=True)
class Survey:
    """A side's table as one run sees it. `discards`: rows that ended long ago are taken away on the way."""

    site: Site
    table: FeatureTable
    shelf: Shelf
    run: Run
    discards: bool = False

    def scan(self, pace: Pace, enough: Callable[[], bool]) -> Summary | None:
        """Scan what is left to scan; returns None when `enough` said so before everything was.

        Raises the store's errors; what was done until then need not be done again.
        """
        known = self.summary()
        if known is not None:
            return known
        shares = self._shares()
        for number, share in enumerate(shares):
            if self.shelf.get(self._name(f"{number}.leaves")) is not None:
                continue
            if enough() or not self._scan_share(number, share, pace, enough):
                return None
        return self._seal(len(shares))

    def summary(self) -> Summary | None:
        """Return the summary of a survey that is done."""
        data = self.shelf.get(self._name("summary.json"))
        return None if data is None else Summary(**_json(data))

    def branches(self) -> list[Node]:
        """Return the digests of the branches."""
        return decode_nodes(self._document("branches"))

    def leaves(self, branch: int) -> list[Node]:
        """Return the digests of one branch's leaves."""
        length = LEAVES_PER_BRANCH * NODE_BYTES
        return decode_nodes(self.shelf.get_range(self._name("leaves"), branch * length, length))

    def entries(self, share: int, pages: Mapping[int, frozenset[int]]) -> tuple[list[Entry], int]:
        """Return a share's entries of the pages' leaves (numbers within the page), and the bytes that were fetched."""
        index = self._document(f"{share}.index")
        offsets = _read_index(index)
        name = self._name(f"{share}.entries")
        found: list[Entry] = []
        fetched = len(index)
        for page, leaves in sorted(pages.items()):
            start, length = offsets[page], offsets[page + 1] - offsets[page]
            data = self.shelf.get_range(name, start, length) if length else b""
            fetched += len(data)
            found += decode_entries(data, leaves)
        return found, fetched

    def _shares(self) -> Sequence[str]:
        """Return the shares of this run, settled once: a table splits otherwise tomorrow."""
        name = self._name("shares.json")
        data = self.shelf.get(name)
        if data is None:
            data = json.dumps({"shares": self.table.shares(SHARES)}).encode()
            self.shelf.put(name, data)
        shares = _json(data).get("shares")
        if not isinstance(shares, list):
            raise DigestError(f"document {name} names no shares; run the reconciliation again")
        return shares

    def _scan_share(self, number: int, share: str, pace: Pace, enough: Callable[[], bool]) -> bool:
        tally = Tally()
        tombstones = expired = 0
        unreadable: list[Unreadable] = []
        old: list[Row] = []
        for seen, row in enumerate(self.table.scan_share(share)):
            if seen % _STRIDE == 0:
                pace.take(_STRIDE)
                if seen and enough():
                    return False
            if isinstance(row, Unreadable):
                unreadable.append(row)
                continue
            try:
                header = peek(row.envelope)
            except EnvelopeError as error:
                unreadable.append(Unreadable(row.key, str(error)))
                continue
            if not takes_part(header, self.run.cutoff_seconds):
                expired += 1
                if ended(header, self.run.cutoff_seconds):
                    old.append(row)
                    old = self._discard(old, _STRIDE)
                continue
            tombstones += header.deleted
            tally.add(row)
        self._discard(old, 1)
        catalogue = tally.catalogue()
        self.shelf.put(self._name(f"{number}.entries"), catalogue.data)
        self.shelf.put(self._name(f"{number}.index"), _index(catalogue.offsets))
        if unreadable:
            listed = [asdict(each) for each in unreadable]
            self.shelf.put(self._name(f"{number}.unreadable.json"), json.dumps(listed).encode())
        # Last, for it says that the share is done.
        head = _SHARE.pack(tombstones, expired, len(unreadable), tally.bytes_read)
        self.shelf.put(self._name(f"{number}.leaves"), head + encode_leaves(tally.leaves()))
        return True

    def _discard(self, rows: list[Row], least: int) -> list[Row]:
        """Take rows away once there are enough of them; returns those that wait."""
        if len(rows) < least:
            return rows
        if self.discards:
            LOGGER.info("%d ended rows of %s taken away", self.table.discard(rows), self.site)
        return []

    def _seal(self, shares: int) -> Summary:
        tree = Tree()
        totals = [0, 0, 0, 0]
        for number in range(shares):
            data = self._document(f"{number}.leaves")
            totals = [one + other for one, other in zip(totals, _SHARE.unpack_from(data), strict=True)]
            tree.add(decode_leaves(data[_SHARE.size :]))
        root = tree.root()
        tombstones, expired, unreadable, bytes_read = totals
        summary = Summary(root.count, tombstones, expired, unreadable, bytes_read, shares, root.text)
        self.shelf.put(self._name("branches"), encode_nodes(tree.branches()))
        self.shelf.put(self._name("leaves"), encode_nodes(tree.leaves()))
        self.shelf.put(self._name("summary.json"), json.dumps(asdict(summary)).encode())
        return summary

    def _document(self, name: str) -> bytes:
        data = self.shelf.get(self._name(name))
        if data is None:
            raise DigestError(f"document {self._name(name)} is gone; run the reconciliation again")
        return data

    def _name(self, name: str) -> str:
        return f"{RUNS}/{self.run.name}/{self.site}/{name}"


def pages_of(leaves: Sequence[int]) -> dict[int, frozenset[int]]:
    """Return the pages that hold the leaves, and which of theirs they are."""
    found: dict[int, set[int]] = {}
    for leaf in leaves:
        found.setdefault(leaf // LEAVES_PER_PAGE, set()).add(leaf % LEAVES_PER_PAGE)
    return {page: frozenset(numbers) for page, numbers in found.items()}


def _index(offsets: Sequence[int]) -> bytes:
    """Return the lengths of the pages; packed, for most of a small table's are nought and a large one's nearly equal."""
    return zlib.compress(_INDEX.pack(*(end - start for start, end in pairwise(offsets))))


def _read_index(data: bytes) -> list[int]:
    try:
        lengths = _INDEX.unpack(zlib.decompressobj().decompress(data, _INDEX.size))
    except (zlib.error, struct.error) as error:
        raise DigestError("an index of the reconciliation is damaged; run it again") from error
    return [0, *accumulate(lengths)]


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise DigestError("a document of the reconciliation is no JSON; run it again") from error
    if not isinstance(value, dict):
        raise DigestError("a document of the reconciliation is no JSON object; run it again")
    return value
