"""By which rung of the codec ladder a version's bytes go over: the ladder asked once more, on the same bytes.

A pack is gone as soon as the other site has taken it in, and the choice is a function of the bytes alone. So the version and its
parent, as they lie on this disk, are given to the very functions that the encoder calls, tensor by tensor.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from functions.artifacts import codec
from functions.artifacts.codecs.blocks import Codec
from functions.artifacts.manifest import FileEntry, TensorEntry
from functions.artifacts.publish import describe
from operate.report.result import CodecShare

# The byte of a tensor as the ladder writes it that names what was chosen (functions/artifacts/codecs/ladder.py).
_CHOSEN = 1
_SAME = "same bytes, not sent"
_NAMES = {
    Codec.RAW: "raw",
    Codec.ZSTD: "zstd",
    Codec.REFERENCE: "reference",
    Codec.DELTA: "float delta",
    Codec.XOR: "XOR planes",
    Codec.FLOATS: "floats",
    Codec.PLANES: "byte planes",
    Codec.CHUNKS: "chunks",
}


def shares(folder: Path, parent: Path | None) -> list[CodecShare]:
    """Return what each rung does for a version's folder against its parent's, the largest share of the bytes first."""
    raw: dict[str, int] = defaultdict(int)
    wire: dict[str, int] = defaultdict(int)
    known = _tensors(parent) if parent else {}
    same = set(known.values())
    for path in sorted(folder.iterdir()):
        entry = describe(path, path.name)
        content = path.read_bytes()
        for tensor, data in _pieces(entry, content):
            if data in same:
                rung, size = _SAME, 0
            else:
                name = tensor.name if tensor else entry.path
                rung, size = _asked(data, known.get(name), tensor)
            raw[rung] += len(data)
            wire[rung] += size
    ordered = sorted(raw, key=lambda rung: -raw[rung])
    return [CodecShare(codec=rung, bytes_raw=raw[rung], bytes_wire=wire[rung]) for rung in ordered]


def _asked(data: bytes, base: bytes | None, tensor: TensorEntry | None) -> tuple[str, int]:
    chosen, written = codec.encode(data, base, codec.Form.of(tensor, len(data)))
    if chosen == codec.COPY:
        return _SAME, 0
    if chosen == codec.RAW:
        return _NAMES[Codec.RAW], len(written)
    return _NAMES[Codec(written[_CHOSEN])], len(written)


def _tensors(folder: Path) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for path in folder.iterdir():
        entry = describe(path, path.name)
        for tensor, data in _pieces(entry, path.read_bytes()):
            found[tensor.name if tensor else entry.path] = data
    return found


def _pieces(entry: FileEntry, content: bytes) -> list[tuple[TensorEntry | None, bytes]]:
    """Return a file's tensors and, as one piece, what is around them: a header, or the whole file."""
    pieces: list[tuple[TensorEntry | None, bytes]] = [(each, content[each.start : each.end]) for each in entry.tensors]
    rest = bytearray(content)
    for each in sorted(entry.tensors, key=lambda each: -each.start):
        del rest[each.start : each.end]
    return [*pieces, (None, bytes(rest))]
