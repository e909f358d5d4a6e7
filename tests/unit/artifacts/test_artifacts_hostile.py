"""Bad input: each is refused with a message that names version, file and check; nothing is shown, nothing large is allocated."""

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from artifact_way import Way, clock_ms
from memory_objects import MemoryObjects
from safetensors.numpy import save
from signing import MemorySigner, signers, trust

from functions.artifacts import alias, attestation, documents, sign
from functions.artifacts import manifest as manifests
from functions.artifacts.errors import (
    ManifestError,
    SafetensorsError,
    SignatureError,
    UnfitError,
    UnsafePathError,
    VerificationError,
    VersionNotReadyError,
)
from functions.artifacts.manifest import Manifest
from functions.artifacts.paths import (
    alias_key,
    check_name,
    check_path,
    file_key,
    manifest_key,
    pending_key,
    verdict_key,
)
from functions.artifacts.safetensors import tensors
from functions.artifacts.sign import Authority, seal, unseal
from functions.artifacts.validate import validate
from functions.errors import FunctionError
from functions.settings import Site

MUTATIONS = 20_000
FLOOR_BYTES = 256 * 1024


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(save({"w": np.arange(64, dtype=np.float32).reshape(8, 8)}))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def replaced(way: Way, version: str, signer: MemorySigner, **changes: object) -> bytes:
    """Return a version's manifest with other fields, signed by somebody."""
    value = json.loads(unseal(way.here.objects[manifest_key("m", version)][0], "it").payload)
    value["predicate"] |= changes
    return seal(json.dumps(value).encode(), signer)


# Manifests


def test_a_manifest_signed_by_a_stranger_goes_nowhere(way: Way, folder: Path) -> None:
    version = way.publish(folder, alias="prod").version
    forged = replaced(way, version, MemorySigner())
    way.here.put(manifest_key("m", version), forged)
    with pytest.raises(SignatureError, match=f"manifest of m {version} is not signed by site aws"):
        way.announce(manifest_key("m", version))
    assert not way.jobs.messages and not way.there.objects


def test_a_manifest_signed_by_a_stranger_is_not_rebuilt(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    way.announce(manifest_key("m", version))
    way.encode_all()
    way.there.put(pending_key("m", version), replaced(way, version, MemorySigner()))
    with pytest.raises(SignatureError, match=version):
        way.rebuild(way.topic.messages[0].body)
    # It made room for the real one, and nothing of it shows.
    assert pending_key("m", version) not in way.there.objects
    assert manifest_key("m", version) not in way.there.objects


@pytest.mark.parametrize(
    "tamper",
    [
        lambda envelope: envelope | {"payload": envelope["payload"][:-8] + "AAAAAAA="},
        lambda envelope: envelope | {"signatures": []},
        lambda envelope: envelope | {"signatures": envelope["signatures"] * 9},
        lambda envelope: envelope | {"payloadType": "text/plain"},
        lambda envelope: envelope | {"payload": "%%%"},
        lambda envelope: envelope | {"more": 1},
        lambda envelope: envelope | {"signatures": [{"keyid": "0" * 64, "sig": "AAAA"}]},
        lambda envelope: [envelope],
    ],
)
def test_a_tampered_envelope_is_refused(way: Way, folder: Path, tamper: Callable[[dict[str, object]], object]) -> None:
    version = way.publish(folder).version
    data = json.dumps(tamper(json.loads(way.here.objects[manifest_key("m", version)][0]))).encode()
    with pytest.raises((ManifestError, SignatureError), match=version):
        manifests.trusted(data, "m", version, trust())


def test_a_signature_over_other_bytes_is_refused(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    envelope = json.loads(way.here.objects[manifest_key("m", version)][0])
    other = json.loads(replaced(way, version, signers()[Site.AWS], epoch=7))
    with pytest.raises(SignatureError, match="not over these bytes"):
        manifests.trusted(json.dumps(other | {"signatures": envelope["signatures"]}).encode(), "m", version, trust())


def test_a_replayed_old_manifest_is_refused_under_another_name_and_moves_no_alias_back(way: Way, folder: Path) -> None:
    old = way.publish(folder, alias="prod", epoch=1).version
    old_manifest = way.here.objects[manifest_key("m", old)][0]
    old_alias = way.here.objects[alias_key("m", "prod")][0]
    (folder / "config.json").write_text('{"newer": true}')
    new = way.publish(folder, alias="prod", epoch=2).version
    way.here.put(manifest_key("m", new), old_manifest)
    with pytest.raises(ManifestError, match=f"manifest of m {new} (describes|is refused)"):
        way.announce(manifest_key("m", new))
    # In its own place it is the version that it always was; the other site's alias is newer and stays.
    far = Way()
    far.there.put(alias_key("m", "prod"), way.here.objects[alias_key("m", "prod")][0])
    far.here.put(alias_key("m", "prod"), old_alias)
    assert alias.carry(far.here, far.there, "m", "prod", Site.AWS) is alias.Moved.STALE
    found = documents.find(far.there, alias_key("m", "prod"), documents.Alias)
    assert found is not None and found[0].version == new


def test_an_attestation_of_another_kind_is_no_manifest(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    data = attestation.attest([], attestation.AUDIT_TYPE, {}, signers()[Site.AWS])
    with pytest.raises(ManifestError, match="expected is urn:lifeboat:model-version:v1"):
        manifests.trusted(data, "m", version, trust())


def test_a_manifest_has_a_largest_size(way: Way) -> None:
    with pytest.raises(ManifestError, match="at most"):
        manifests.trusted(b"x" * (manifests.MOST_MANIFEST_BYTES + 1), "m", "0" * 64, trust())


# Objects


def test_a_tampered_object_on_the_far_side_is_not_proven(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    way.travel(version)
    key = file_key("m", version, "model.safetensors")
    data = way.there.objects[key][0]
    way.there.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VerificationError, match=f"m {version} file 'model.safetensors'"):
        way.verify(version)


def test_a_version_whose_files_were_exchanged_is_kept_and_never_promoted(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    way.here.put(file_key("m", version, "config.json"), b"[]")
    verdict = validate(way.here, "m", version, site=Site.AWS, trust=trust(), clock_ms=clock_ms, again=True)
    assert not verdict.passed and "'config.json'" in verdict.reason
    with pytest.raises(UnfitError, match="no alias may point to it"):
        alias.move(way.here, "m", "prod", version, epoch=0, site=Site.AWS, clock_ms=clock_ms)
    del way.here.objects[verdict_key("m", version)]
    with pytest.raises(VersionNotReadyError, match="was not validated"):
        alias.move(way.here, "m", "prod", version, epoch=0, site=Site.AWS, clock_ms=clock_ms)


@pytest.mark.parametrize(
    ("name", "data", "check"),
    [
        ("weights.bin", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00lsq\x01\x85q\x02Rq\x03.", "pickle"),
        ("weights.pt", b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.", "pickle"),
        ("notes.txt", b"cos\nsystem\n(S'ls'\ntR.", "pickle"),
        ("array.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", "pickle"),
        ("archive.zip", b"PK\x03\x04" + b"\0" * 40, "pickle"),
        ("tokenizer.json", b"{", "json"),
        ("config.json", b"[" * 200_000, "json"),
        ("model.safetensors.index.json", b'{"weight_map": {"w": "../../other"}}', "json"),
        ("model.safetensors.index.json", b'{"weight_map": {"w": "model.safetensors"}}', ""),
    ],
)
def test_validation_names_the_check(way: Way, folder: Path, name: str, data: bytes, check: str) -> None:
    (folder / name).write_bytes(data)
    published = way.publish(folder)
    failed = {each.name for each in published.verdict.checks if each.passed is False}
    assert failed == ({check} if check else set())
    if check:
        with pytest.raises(UnfitError, match="is kept, but alias prod stays where it is"):
            way.publish(folder, alias="prod")
        assert alias.current(way.here, "m", "prod") is None


@pytest.mark.parametrize("text", [b"", b"plain text", b"N.", b"I1\n.", b"\x00" * 100, b"PKnot", "é".encode() * 9])
def test_what_is_no_pickle_passes(way: Way, folder: Path, text: bytes) -> None:
    (folder / "vocab.txt").write_bytes(text)
    assert way.publish(folder, alias="prod").verdict.passed


# Names


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "",
        ".",
        "a/.",
        "a\\b",
        "c:x",
        "a\0b",
        "a\nb",
        "\x7f",
        "\ud800",
        "x" * 513,
    ],
)
def test_a_path_that_is_a_trick_is_refused_in_a_signed_manifest_too(way: Way, folder: Path, path: str) -> None:
    with pytest.raises(UnsafePathError):
        check_path(path)
    version = way.publish(folder).version
    payload = json.loads(unseal(way.here.objects[manifest_key("m", version)][0], "it").payload)
    payload["subject"][0]["name"] = payload["predicate"]["files"][0]["path"] = path
    try:
        data = seal(json.dumps(payload).encode(), signers()[Site.AWS])
    except UnicodeEncodeError:
        return
    with pytest.raises(ManifestError, match=version):
        manifests.trusted(data, "m", version, trust())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-x", "x" * 101, "a\n", "é", "a\0"])
def test_a_name_that_is_a_trick_is_refused(way: Way, folder: Path, name: str) -> None:
    with pytest.raises(ManifestError):
        check_name(name, "model")
    with pytest.raises(ManifestError):
        way.publish(folder, alias=name)
    assert not way.here.objects


def test_a_link_out_of_the_folder_is_followed_by_content_and_a_loop_ends(way: Way, folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    published = way.publish(folder)
    assert published.files == 2


# Lengths that lie, and noise


class Reader:
    """A file that counts what is asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.longest = data, 0

    def __call__(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(self.data), "a range outside of the file"
        self.longest = max(self.longest, length)
        return self.data[offset : offset + length]


def look(data: bytes) -> int:
    """Read a header and return the peak of memory beyond the file itself; anything but a refusal fails."""
    read = Reader(data)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        found = tensors(read, len(data), "model.safetensors")
    except SafetensorsError as error:
        assert str(error).startswith("model.safetensors")
    else:
        assert all(8 <= each.start <= each.end <= len(data) for each in found)
        assert sum(each.end - each.start for each in found) <= len(data)
    assert read.longest <= len(data)
    return tracemalloc.get_traced_memory()[1] - before


def mutated(data: bytes, header_bytes: int, draw: random.Random) -> bytes:
    """Return a file with bits flipped, ranges cut, doubled or replaced, or numbers changed, mostly in the header."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        limit = header_bytes if draw.random() < 0.8 else len(out)
        at = draw.randrange(max(1, min(limit, len(out))))
        kind = draw.randrange(7)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del out[at : at + draw.randint(1, 64)]
        elif kind == 2:
            out[at:at] = out[at : at + draw.randint(1, 256)]
        elif kind == 3:
            out[:8] = draw.choice(
                (0, 1, len(out), max(0, len(out) - 8), 1 << 20, 1 << 31, 1 << 63, 2**64 - 1)
            ).to_bytes(8, "little")
        elif kind == 4:
            out[at : at + 8] = draw.randbytes(8)
        elif kind == 5:
            digits = [i for i in range(8, min(len(out), header_bytes)) if 48 <= out[i] <= 57]
            if digits:
                out[draw.choice(digits)] = draw.randrange(48, 58)
        else:
            del out[max(8, at) :]
    return bytes(out)


def test_twenty_thousand_mutated_files_neither_crash_nor_allocate_more_than_twice_the_file() -> None:
    draw = random.Random(20_251)
    originals = [
        save({"w": np.zeros((16, 16), np.float32)}),
        save({f"layer.{i}.weight": np.zeros((4, 4), np.float16) for i in range(12)}, {"format": "pt", "note": "é"}),
        save({"a": np.zeros(0, np.int8), "b": np.ones(1_000, np.int64), "c": np.zeros((1, 1, 1), np.uint8)}),
    ]
    tracemalloc.start()
    try:
        refused = 0
        for number in range(MUTATIONS):
            original = originals[number % len(originals)]
            data = mutated(original, 8 + int.from_bytes(original[:8], "little"), draw)
            peak = look(data)
            assert peak <= max(FLOOR_BYTES, 2 * len(data)), f"mutation {number}: {peak} bytes for {len(data)}"
            refused += data != original
    finally:
        tracemalloc.stop()
    assert refused > MUTATIONS * 0.9


@pytest.mark.parametrize(
    "header",
    [
        b"[" + b"[]," * 1_000_000 + b"[]]",
        b'{"a":' + b"[" * 2_000_000,
        b'{"a":[' + b"0," * 2_000_000 + b"0]}",
        b'{"' + "\U0001f6f6".encode() + b"x" * (9 << 20) + b'":0}',
        b"{" + b'"a":{},' * 400_000 + b'"b":{}}',
    ],
)
def test_a_header_that_would_grow_in_memory_is_refused_before_it_is_parsed(header: bytes) -> None:
    data = len(header).to_bytes(8, "little") + header
    tracemalloc.start()
    try:
        peak = look(data)
    finally:
        tracemalloc.stop()
    # One copy of the header is read; nothing is made of it.
    assert peak <= 1.1 * len(data)


def test_mutated_manifests_are_refused_or_are_the_manifest(way: Way, folder: Path) -> None:
    version = way.publish(folder, lineage={"metrics": {"loss": 0.5}}).version
    data = way.here.objects[manifest_key("m", version)][0]
    draw = random.Random(7)
    real = manifests.trusted(data, "m", version, trust())
    for _ in range(3_000):
        at = draw.randrange(len(data))
        noise = data[:at] + draw.randbytes(draw.randint(0, 3)) + data[at + draw.randint(0, 3) :]
        try:
            assert manifests.trusted(noise, "m", version, trust()) == real
        except (ManifestError, SignatureError):
            continue


def test_mutated_statements_that_are_signed_rightly_are_still_bounded(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    payload = unseal(way.here.objects[manifest_key("m", version)][0], "it").payload
    draw = random.Random(8)
    for _ in range(1_000):
        at = draw.randrange(len(payload))
        noise = payload[:at] + draw.choice((b"9" * 40, b"-", b'"', b"[", b"null", b"{}", b"")) + payload[at + 1 :]
        try:
            found: Manifest = manifests.trusted(seal(noise, signers()[Site.AWS]), "m", version, trust())
            assert found.version == version
        except FunctionError as error:
            assert version in str(error)


def test_a_publisher_without_trust_in_its_own_key_is_stopped(folder: Path) -> None:
    from functions.artifacts.publish import publish

    store = MemoryObjects()
    authority = Authority(MemorySigner(), sign.Trust.of({}))
    with pytest.raises(SignatureError, match="deploy the stack"):
        publish(folder, "m", store, site=Site.AWS, authority=authority, clock_ms=clock_ms)
    assert not [key for key in store.objects if key.startswith("manifests/")]
