"""Digests of a table by ranges of its hashed keys: equal digests prove equal rows, and differing ones say where to look.

A row counts in the leaf that the hash of its key falls into, so leaves are even whatever the keys look like, and both sides agree
on their borders without a word. A digest is the sum of its rows' hashes modulo 2^128: the order of a scan makes no difference,
parts that were scanned apart are added, and a row that changed is exchanged for its new state without another scan. Sums guard
against accidents, not against somebody who chooses rows so that they cancel out.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from functions.features.errors import DigestError
from functions.stores.protocols import Row

# Two levels of 256 below the root. A leaf of a table of a million rows holds 15 of them; a branch's leaves are 5 KiB on the wire.
BRANCHES = 256
LEAVES_PER_BRANCH = 256
LEAVES = BRANCHES * LEAVES_PER_BRANCH
# Entries are found by pages of 16 leaves: 250 of them for a table of a million rows, with an index of 16 KiB a share.
LEAVES_PER_PAGE = 16
PAGES = LEAVES // LEAVES_PER_PAGE

_MODULUS = 1 << 128
_NODE = struct.Struct(">I16s")
_SPARSE = struct.Struct(">HI16s")
_ENTRY = struct.Struct(">BHQ16s")
_KEY_BYTES_LIMIT = 4096


@dataclass(frozen=True)
class Node:
    """The digest of one range: how many rows, and the sum of their hashes."""

    count: int = 0
    total: int = 0

    def __add__(self, other: "Node") -> "Node":
        return Node(self.count + other.count, (self.total + other.total) % _MODULUS)

    def __sub__(self, other: "Node") -> "Node":
        return Node(self.count - other.count, (self.total - other.total) % _MODULUS)

    @property
    def text(self) -> str:
        """The digest as people compare it."""
        return f"{self.total:032x}"


NOTHING = Node()


@dataclass(frozen=True)
class Entry:
    """What a side tells about one row: enough to see that it differs, never its content."""

    key: str
    version: int
    digest: bytes

    @property
    def node(self) -> Node:
        """The digest of this row alone."""
        return Node(1, int.from_bytes(self.digest))


def leaf_of(key: bytes) -> int:
    """Return the leaf that a key belongs to."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=2).digest())


def row_hash(key: bytes, version: int, envelope: bytes) -> bytes:
    """Return the 16 bytes that stand for a row in the sums; lengths go in, so that no two rows are spelled alike."""
    return hashlib.blake2b(b"%d:%b%d:%b" % (len(key), key, version, envelope), digest_size=16).digest()


def node_of(row: Row | None) -> Node:
    """Return the digest of one row alone, of nothing for None."""
    if row is None:
        return NOTHING
    return Node(1, int.from_bytes(row_hash(row.key.encode(), row.version, row.envelope)))


class Tally:
    """Takes in the rows of one share of a table; what comes out is its leaves, and its entries in order of their leaves."""

    def __init__(self) -> None:
        self._counts = [0] * LEAVES
        self._totals = [0] * LEAVES
        self._entries: list[tuple[int, bytes]] = []
        self.bytes_read = 0

    def add(self, row: Row) -> None:
        """Count a row."""
        key = row.key.encode()
        leaf = leaf_of(key)
        digest = row_hash(key, row.version, row.envelope)
        self._counts[leaf] += 1
        self._totals[leaf] += int.from_bytes(digest)
        self._entries.append((leaf, _ENTRY.pack(leaf % LEAVES_PER_PAGE, len(key), row.version, digest) + key))
        self.bytes_read += len(key) + len(row.envelope)

    def leaves(self) -> dict[int, Node]:
        """Return the leaves that hold rows."""
        return {leaf: Node(count, self._totals[leaf] % _MODULUS) for leaf, count in enumerate(self._counts) if count}

    def catalogue(self) -> "Catalogue":
        """Return the entries by leaf, and where each page begins."""
        self._entries.sort(key=_by_leaf)
        offsets = [0] * (PAGES + 1)
        for leaf, data in self._entries:
            offsets[leaf // LEAVES_PER_PAGE + 1] += len(data)
        for page in range(PAGES):
            offsets[page + 1] += offsets[page]
        return Catalogue(b"".join(data for _, data in self._entries), tuple(offsets))


@dataclass(frozen=True)
class Catalogue:
    """Entries of a share: page number p lies at offsets[p] to offsets[p + 1]."""

    data: bytes
    offsets: tuple[int, ...]


class Tree:
    """All leaves of a table, as shares are added up."""

    def __init__(self) -> None:
        self._leaves: dict[int, Node] = {}

    def add(self, leaves: Mapping[int, Node]) -> None:
        """Add a share's leaves."""
        for leaf, node in leaves.items():
            self._leaves[leaf] = self._leaves.get(leaf, NOTHING) + node

    def root(self) -> Node:
        """Return the digest of the whole table."""
        return _sum(self._leaves.values())

    def branches(self) -> list[Node]:
        """Return the digests of the branches."""
        found = [NOTHING] * BRANCHES
        for leaf, node in self._leaves.items():
            found[leaf // LEAVES_PER_BRANCH] += node
        return found

    def leaves(self) -> list[Node]:
        """Return the digests of all leaves."""
        return [self._leaves.get(leaf, NOTHING) for leaf in range(LEAVES)]


def differing(ours: Sequence[Node], theirs: Sequence[Node]) -> list[int]:
    """Return the numbers of the nodes that are not equal."""
    return [number for number, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other]


def encode_nodes(nodes: Iterable[Node]) -> bytes:
    """Return nodes as they are exchanged: 20 bytes each."""
    return b"".join(_NODE.pack(node.count, node.total.to_bytes(16)) for node in nodes)


def decode_nodes(data: bytes) -> list[Node]:
    """Return what `encode_nodes` was given. Raises DigestError."""
    if len(data) % _NODE.size:
        raise DigestError(f"{len(data)} bytes are no whole number of digests; run the reconciliation again")
    return [Node(count, int.from_bytes(total)) for count, total in _NODE.iter_unpack(data)]


NODE_BYTES = _NODE.size


def encode_leaves(leaves: Mapping[int, Node]) -> bytes:
    """Return a share's leaves, only those that hold rows."""
    return b"".join(_SPARSE.pack(leaf, node.count, node.total.to_bytes(16)) for leaf, node in sorted(leaves.items()))


def decode_leaves(data: bytes) -> dict[int, Node]:
    """Return what `encode_leaves` was given. Raises DigestError."""
    if len(data) % _SPARSE.size:
        raise DigestError(f"{len(data)} bytes are no whole number of leaves; run the reconciliation again")
    return {leaf: Node(count, int.from_bytes(total)) for leaf, count, total in _SPARSE.iter_unpack(data)}


def decode_entries(data: bytes, leaves: frozenset[int]) -> Iterator[Entry]:
    """Yield a page's entries that belong to `leaves` (numbers within the page). Raises DigestError."""
    position = 0
    while position < len(data):
        if position + _ENTRY.size > len(data):
            raise DigestError("a catalogue ends within an entry; run the reconciliation again")
        leaf, length, version, digest = _ENTRY.unpack_from(data, position)
        position += _ENTRY.size
        key = data[position : position + length]
        position += length
        if len(key) != length or length > _KEY_BYTES_LIMIT:
            raise DigestError("a catalogue holds a key of wrong length; run the reconciliation again")
        if leaf in leaves:
            yield Entry(key.decode(), version, digest)


def _by_leaf(entry: tuple[int, bytes]) -> int:
    return entry[0]


def _sum(nodes: Iterable[Node]) -> Node:
    count = total = 0
    for node in nodes:
        count += node.count
        total += node.total
    return Node(count, total % _MODULUS)
