"""A pack that was written once and must be readable for as long as any release reads packs of version 3.

golden_pack.json holds it, with every way of writing a piece and every codec of a block in it, and the SHA-256 of what each piece
is. A new way gets a new id and a piece more at the end; what stands there is never written again.
"""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from functions.artifacts.codec import COPY, LADDER, LADDER_ON_BASE, RAW, Form, decode
from functions.artifacts.codecs import delta, planes
from functions.artifacts.codecs.blocks import HEADER, Codec
from functions.artifacts.codecs.ladder import encode_tensor, open_tensor, stretch_of
from functions.artifacts.codecs.layouts import LAYOUTS
from functions.artifacts.pack import Base, Pack, PackedPiece, pack, unpack
from functions.artifacts.plan import EncodeJob

FILE = Path(__file__).with_name("golden_pack.json")
VERSION, PARENT = "3f" * 32, "5a" * 32
ROWS, ROW = 24, 100
# Codec of the piece, dtype, codec of its blocks.
PIECES = (
    (RAW, "", None),
    (COPY, "", None),
    (LADDER, "", Codec.RAW),
    (LADDER, "", Codec.ZSTD),
    (LADDER_ON_BASE, "BF16", Codec.REFERENCE),
    (LADDER_ON_BASE, "BF16", Codec.DELTA),
    (LADDER_ON_BASE, "F32", Codec.DELTA),
    (LADDER_ON_BASE, "F64", Codec.DELTA),
    (LADDER_ON_BASE, "F16", Codec.DELTA),
    (LADDER_ON_BASE, "F8_E4M3", Codec.DELTA),
    (LADDER_ON_BASE, "I32", Codec.DELTA),
    (LADDER_ON_BASE, "BF16", Codec.XOR),
    (LADDER, "BF16", Codec.FLOATS),
    (LADDER, "F32", Codec.FLOATS),
    (LADDER, "I64", Codec.PLANES),
    (LADDER_ON_BASE, "", Codec.CHUNKS),
)


def contents(number: int) -> tuple[bytes, bytes]:
    """Return a piece's bytes and its base's, by integer arithmetic that no library changes."""
    codec, dtype, block = PIECES[number]
    layout = LAYOUTS.get(dtype)
    width = layout.width if layout else 1
    state, child, parent = number + 1, bytearray(), bytearray()
    for place in range(ROWS * ROW):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        noise = state >> 24
        exponent = (layout.exponent_mask // 2 - (noise & 7)) if layout else 0
        older = (exponent << layout.mantissa_bits | noise >> 3) if layout and exponent > 0 else noise >> 3
        step = (noise >> 33 & 3) - (noise >> 35 & 3) << place // ROW % 5
        older %= 1 << (8 * width)
        parent += older.to_bytes(width, "little")
        child += ((older + step) % (1 << (8 * width))).to_bytes(width, "little")
    if codec == COPY or block is Codec.REFERENCE:
        child = parent
    if block is Codec.CHUNKS:
        # Chunks have 64 KiB; what they find again has moved.
        parent = parent * 80
        child = parent[100_000:] + child
    if block is Codec.ZSTD:
        child = child[:100] * 40
    return bytes(child), bytes(parent)


def form(number: int) -> Form:
    dtype = PIECES[number][1]
    return Form(dtype, (ROWS, ROW)) if dtype else Form()


def write() -> bytes:
    """Return the pack as this release writes it."""
    pieces, bodies = [], []
    for number, (codec, _, block) in enumerate(PIECES):
        child, parent = contents(number)
        of = form(number)
        base = Base(0, "base", 0, len(parent)) if codec in (COPY, LADDER_ON_BASE) else None
        body = b"" if codec == COPY else child
        if block is not None:
            asked = Codec.DELTA if block is Codec.REFERENCE else block
            body = encode_tensor(
                child, parent if base else None, of.dtype, of.shape, codec=asked, block_bytes=8_000_000
            )
        pieces.append(PackedPiece(codec, len(body), base, hashlib.sha256(child).hexdigest()))
        bodies.append(body)
    return pack(EncodeJob("golden", VERSION, 10 << 20, 0, (PARENT,)), pieces, bodies)


@pytest.fixture(scope="module")
def golden() -> Pack:
    return unpack(base64.b64decode(json.loads(FILE.read_text())["pack"]))


def test_it_says_what_it_said(golden: Pack) -> None:
    assert (golden.model, golden.version, golden.chunk_bytes, golden.batch) == ("golden", VERSION, 10 << 20, 0)
    assert golden.bases == (PARENT,)
    assert len(golden.pieces) == len(PIECES)


@pytest.mark.parametrize("number", range(len(PIECES)))
def test_every_piece_is_read_as_it_was(golden: Pack, number: int) -> None:
    codec, _, block = PIECES[number]
    child, parent = contents(number)
    of = form(number)
    piece = golden.pieces[number]
    assert piece.codec == codec
    if block is not None:
        first = open_tensor(golden.payload(number), len(child), of.dtype).blocks[0]
        assert HEADER.unpack_from(first)[0] == block
    found = decode(codec, golden.payload(number), len(child), parent if piece.base else None, of)
    assert bytes(found) == child
    assert hashlib.sha256(found).hexdigest() == piece.blake3


@pytest.mark.parametrize(
    "number", [at for at, (_, _, block) in enumerate(PIECES) if block in (Codec.DELTA, Codec.FLOATS)]
)
def test_what_is_ours_alone_is_written_as_it_was(golden: Pack, number: int) -> None:
    """No other library's release changes these bytes, and neither do the kernel and NumPy differ in them."""
    child, parent = contents(number)
    layout, stretch = LAYOUTS[form(number).dtype], stretch_of((ROWS, ROW))
    block = open_tensor(golden.payload(number), len(child), form(number).dtype).blocks[0]
    written = (
        delta.encode(child, parent, layout, stretch)
        if PIECES[number][2] is Codec.DELTA
        else planes.encode(child, layout, stretch)
    )
    assert bytes(block[HEADER.size :]) == written
