"""The version of a model: a Merkle root over the names, sizes and digests of its files.

Any tool can compute it. Sort the files by the bytes of their UTF-8 path. With BLAKE3 of 32 bytes as the hash, integers as eight
bytes big-endian, and `||` for joining:

    leaf(file)  = hash(0x00 || length of path || path || size || BLAKE3 of the file)
    root([one]) = leaf(one)
    root(files) = hash(0x01 || root(first k) || root(the rest)), k the largest power of two below the number of files

The tree is that of RFC 6962 section 2.1 (distinct prefixes for leaves and nodes, so neither passes for the other); unlike a
signature over digests alone it covers the names, so two files can't trade places.
"""

from collections.abc import Sequence
from typing import Protocol

from blake3 import blake3

from functions.artifacts.errors import ManifestError


class NamedFile(Protocol):
    """What the root covers of a file; `blake3` in hexadecimal."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def blake3(self) -> str: ...


def root(files: Sequence[NamedFile]) -> str:
    """Return the root in hexadecimal; ManifestError for no files or a name that stands twice."""
    ordered = sorted(files, key=lambda file: file.path.encode())
    if not ordered or len({file.path for file in ordered}) != len(ordered):
        raise ManifestError("a version has at least one file, and no two of one name")
    return _tree([_leaf(file) for file in ordered]).hex()


def _leaf(file: NamedFile) -> bytes:
    path = file.path.encode()
    return blake3(
        b"\x00" + len(path).to_bytes(8, "big") + path + file.size.to_bytes(8, "big") + bytes.fromhex(file.blake3)
    ).digest()


def _tree(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return blake3(b"\x01" + _tree(leaves[:split]) + _tree(leaves[split:])).digest()
