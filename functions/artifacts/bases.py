"""What a piece can be written against: bytes of other versions that both sites have. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from functions.artifacts.manifest import FileEntry, Manifest, TensorEntry
from functions.artifacts.pack import Base
from functions.artifacts.plan import Piece
from functions.settings import CHUNK_BYTES_RANGE, MEBIBYTE

# Opaque bytes of a file that grew or shrank stand elsewhere in the parent's.
SLACK_BYTES = MEBIBYTE


@dataclass(frozen=True)
class Match:
    """A base for one piece; `same` if its bytes are the piece's own, by the digests of both manifests."""

    base: Base
    same: bool


@dataclass(frozen=True)
class _Place:
    number: int
    path: str
    start: int
    end: int

    def part(self, offset: int, length: int) -> Base | None:
        """Return so many bytes from `offset`, as many as there are."""
        length = min(length, self.end - self.start - offset)
        return Base(self.number, self.path, self.start + offset, length) if length > 0 else None

    def around(self, offset: int, length: int) -> Base | None:
        """Return the bytes in this place and some on either side, for what has moved a little; as many as there are."""
        start = max(0, offset - SLACK_BYTES)
        end = min(self.end - self.start, offset + length + SLACK_BYTES, start + CHUNK_BYTES_RANGE[1])
        return Base(self.number, self.path, self.start + start, end - start) if end > start else None


class Bases:
    """The tensors and files of some versions by digest, and those of the parent by name too.

    `manifests` in the order in which a job names the versions; None holds the place of one that could not be read.
    """

    def __init__(self, manifests: Sequence[Manifest | None], parent: str | None) -> None:
        self._by_digest: dict[str, _Place] = {}
        self._tensors: dict[str, tuple[_Place, TensorEntry]] = {}
        self._files: dict[str, _Place] = {}
        self._heads: dict[str, _Place] = {}
        for number, manifest in enumerate(manifests):
            if manifest is not None:
                self._add(number, manifest, is_parent=manifest.version == parent)

    def match(self, file: FileEntry, piece: Piece) -> Match | None:
        """Return the best base for a piece of a file: the same bytes, else what stands in its place in the parent."""
        place = self._by_digest.get(file.blake3)
        if place is not None and (base := place.part(piece.start, piece.length)):
            return Match(base, same=True)
        if piece.tensor is None:
            head = bool(file.tensors) and piece.start == 0
            place = (self._heads if head else self._files).get(file.path)
            base = place.around(piece.start, piece.length) if place and (head or not file.tensors) else None
            return Match(base, same=False) if base else None
        tensor = file.tensors[piece.tensor]
        offset = piece.start - tensor.start
        place = self._by_digest.get(tensor.blake3)
        if place is not None and (base := place.part(offset, piece.length)):
            return Match(base, same=True)
        place, parent = self._tensors.get(tensor.name, (None, None))
        if place is None or parent is None or (parent.dtype, parent.shape) != (tensor.dtype, tensor.shape):
            return None
        base = place.part(offset, piece.length)
        return Match(base, same=False) if base and base.length == piece.length else None

    def _add(self, number: int, manifest: Manifest, is_parent: bool) -> None:
        for file in manifest.files:
            whole = _Place(number, file.path, 0, file.size)
            self._by_digest.setdefault(file.blake3, whole)
            if is_parent:
                self._files[file.path] = whole
                self._heads[file.path] = _Place(
                    number, file.path, 0, file.tensors[0].start if file.tensors else file.size
                )
            for tensor in file.tensors:
                place = _Place(number, file.path, tensor.start, tensor.end)
                self._by_digest.setdefault(tensor.blake3, place)
                if is_parent:
                    self._tensors.setdefault(tensor.name, (place, tensor))
