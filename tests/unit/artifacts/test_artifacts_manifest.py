"""Versions, manifests, headers: what another tool would compute, and what is refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from signing import signers

from functions.artifacts import manifest as manifests
from functions.artifacts.digest import digest
from functions.artifacts.errors import ManifestError, SafetensorsError, UnsafePathError
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.paths import check_path, parse_key
from functions.artifacts.publish import describe, file_entry
from functions.artifacts.root import root
from functions.artifacts.safetensors import TensorSpan, tensors
from functions.artifacts.sign import seal, unseal
from functions.settings import Site

VERSION = "3f" * 32
SIGNER = signers()[Site.AWS]


def entry(path: str, data: bytes = b"") -> FileEntry:
    found = digest([data])
    return file_entry(path, found, [])


def test_the_root_is_what_its_documentation_says() -> None:
    files = [entry("b", b"2"), entry("a", b"1"), entry("c/d", b"3")]

    def leaf(path: bytes, data: bytes) -> bytes:
        return blake3(
            b"\x00" + struct.pack(">Q", len(path)) + path + struct.pack(">Q", len(data)) + blake3(data).digest()
        ).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return blake3(b"\x01" + left + right).digest()

    assert root(files) == node(node(leaf(b"a", b"1"), leaf(b"b", b"2")), leaf(b"c/d", b"3")).hex()
    assert root(files[:1]) == leaf(b"b", b"2").hex()


@given(
    st.lists(
        st.tuples(st.text("abc/", min_size=1, max_size=5), st.binary(max_size=3)),
        min_size=1,
        max_size=9,
        unique_by=lambda f: f[0],
    )
)
def test_the_root_knows_no_order_but_every_name_and_byte(named: list[tuple[str, bytes]]) -> None:
    files = [
        FileEntry.model_construct(path=path, size=len(data), blake3=blake3(data).hexdigest()) for path, data in named
    ]
    whole = root(files)
    assert root(files[::-1]) == whole
    renamed = files[0].model_copy(update={"path": files[0].path + "x"})
    assert root([renamed, *files[1:]]) != whole
    other = files[0].model_copy(update={"blake3": blake3(b"another").hexdigest()})
    assert root([other, *files[1:]]) != whole


def test_files_can_not_trade_places() -> None:
    assert root([entry("a", b"1"), entry("b", b"2")]) != root([entry("a", b"2"), entry("b", b"1")])


@pytest.mark.parametrize(
    "path", ["/a", "a//b", "../a", "a/../b", "a/.", "", "a\\b", "c:a", "a\nb", "a\x00", "x" * 600, "\ud800"]
)
def test_paths_that_leave_their_folder_are_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        check_path(path)


def test_keys_are_told_apart() -> None:
    assert parse_key(f"manifests/m/{VERSION}.json") == ("manifests", "m", VERSION)
    assert parse_key("aliases/m/prod.json") == ("aliases", "m", "prod")
    assert parse_key("models/m/x") is None
    assert parse_key("manifests/m/x/y.json") is None
    for bad in ("manifests/m/short.json", "aliases/../prod.json", "aliases/m/a b.json"):
        with pytest.raises(ManifestError):
            parse_key(bad)


def manifest(files: list[FileEntry], **more: object) -> Manifest:
    fields: dict[str, object] = {"model": "m", "version": root(files), "origin": "aws", "created_ms": 1, "files": files}
    return Manifest.model_validate(fields | more)


def test_a_manifest_comes_back_as_it_went_in() -> None:
    one = manifest([entry("a", b"1"), entry("b/c", b"2")], lineage={"data": {"rows": 3}, "metrics": {"loss": 0.25}})
    assert manifests.decode(manifests.encode(one, SIGNER), "m", one.version) == one


TWO = manifest([entry("a", b"1"), entry("b", b"2")])


def changed(subject: list[dict[str, object]] | None = None, **changes: object) -> bytes:
    """Return TWO's manifest with other fields, signed by the site's own key: what only the reading itself can refuse."""
    value = json.loads(unseal(manifests.encode(TWO, SIGNER), "it").payload)
    value["predicate"] |= changes
    return seal(json.dumps(value | ({} if subject is None else {"subject": subject})).encode(), SIGNER)


def files() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(unseal(changed(), "it").payload)["predicate"]["files"]
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"x" * 100,
        changed(version=VERSION),
        changed(model="../m"),
        changed(files=[]),
        changed(origin="azure"),
        changed(format=2),
        changed(unknown=1),
        changed(epoch="1"),
        changed(created_ms=-1),
        changed(files=files()[::-1]),
        changed(files=[*files(), "x"]),
        changed(subject=[]),
        changed(subject=[{"name": "a", "digest": {"sha256": "0" * 64}}, {"name": "c", "digest": {"sha256": "0" * 64}}]),
        changed(subject=[{"name": "a", "digest": {"md5": "0" * 32}}]),
        changed(sequence=2),
        changed(previous={"kind": "version", "version": VERSION, "sha256": VERSION}),
        changed(lineage={"training_data": "all of it"}),
        changed(lineage={"x": "y" * 300_000}),
    ],
)
def test_a_manifest_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        manifests.decode(data, "m", root([entry("a", b"1"), entry("b", b"2")]))


def test_a_manifest_under_another_key_is_refused() -> None:
    one = manifest([entry("a", b"1")])
    with pytest.raises(ManifestError, match="describes"):
        manifests.decode(manifests.encode(one, SIGNER), "other", one.version)


def test_tensors_are_hashed_in_the_same_pass(tmp_path: Path) -> None:
    arrays = {
        name: np.random.default_rng(n).random((n, 7), np.float32) for n, name in enumerate(["empty", "a", "b", "c"])
    }
    save_file(arrays, tmp_path / "model.safetensors")
    found = describe(tmp_path / "model.safetensors", "model.safetensors")
    assert {tensor.name: tensor.blake3 for tensor in found.tensors} == {
        name: blake3(array.tobytes()).hexdigest() for name, array in arrays.items()
    }
    data = (tmp_path / "model.safetensors").read_bytes()
    assert (found.size, found.blake3) == (len(data), blake3(data).hexdigest())


@given(st.binary(max_size=60), st.lists(st.integers(0, 9), max_size=8), st.integers(1, 9))
def test_tensor_digests_do_not_depend_on_the_blocks(data: bytes, lengths: list[int], block: int) -> None:
    spans, position = [], 0
    for number, length in enumerate(lengths):
        end = min(len(data), position + length)
        spans.append(TensorSpan(str(number), "U8", (end - position,), position, end))
        position = end
    found = digest([data[i : i + block] for i in range(0, len(data), block)], spans)
    assert list(found.tensors) == [blake3(data[span.start : span.end]).hexdigest() for span in spans]


def header(value: object, body: int = 0) -> bytes:
    text = json.dumps(value).encode() if not isinstance(value, bytes) else value
    return struct.pack("<Q", len(text)) + text + b"\x00" * body


def read_tensors(data: bytes) -> list[TensorSpan]:
    return tensors(lambda offset, length: data[offset : offset + length], len(data), "file")


GOOD = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "U8", "shape": [], "data_offsets": [8, 9]},
}


def test_a_sound_header_is_read() -> None:
    assert [span.name for span in read_tensors(header({"__metadata__": {"x": "y"}, **GOOD}, 9))] == ["a", "b"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2**40) + b"{}",
        header(b"[]"),
        header(b"{"),
        header(b"[" * 100_000),
        header(GOOD, 8),
        header(GOOD, 10),
        header({"a": 1}),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, 4),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, 4),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, 4),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, 4),
        header(
            {
                "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
            },
            6,
        ),
        header({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, 1),
    ],
)
def test_a_malformed_header_is_refused(data: bytes) -> None:
    with pytest.raises(SafetensorsError):
        read_tensors(data)


@given(st.binary(max_size=200), st.data())
def test_a_mutated_header_never_does_worse_than_be_refused(noise: bytes, data) -> None:  # type: ignore[no-untyped-def]
    raw = bytearray(header(GOOD, 9))
    start = data.draw(st.integers(0, len(raw)))
    raw[start : start + len(noise)] = noise
    try:
        assert all(0 <= span.start <= span.end <= len(raw) for span in read_tensors(bytes(raw)))
    except SafetensorsError:
        return
