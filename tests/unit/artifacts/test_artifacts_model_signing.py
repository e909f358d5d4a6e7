"""`model.sig` is what OpenSSF's own tool takes: the public `model-signing` package verifies a folder as it was downloaded."""

from pathlib import Path

import numpy as np
import pytest
from artifact_way import Way
from memory_objects import MemoryObjects
from model_signing import verifying
from safetensors.numpy import save_file
from signing import MemorySigner, signers

from functions.artifacts import signature
from functions.artifacts.paths import file_key
from functions.settings import Site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    save_file({"w": np.arange(12, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    # Names whose order differs by how they are compared: as bytes here, as paths there.
    for name in ("tokenizer/vocab.txt", "tokenizer.json", "tokenizer-extra.json", "é.txt"):
        (folder / name).write_text("[]")
    return folder


def downloaded(store: MemoryObjects, version: str, to: Path) -> Path:
    prefix = file_key("m", version, "")
    for key, (data, _) in store.objects.items():
        if key.startswith(prefix):
            path = to / key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return to


def verify(model: Path, signer: MemorySigner, keys: Path) -> None:
    key = keys / "key.pem"
    key.write_text(signer.public_key_pem)
    verifying.Config().use_elliptic_key_verifier(public_key=key).verify(model, model / signature.NAME)


def test_a_version_verifies_on_the_site_that_published_it_and_on_the_other(folder: Path, tmp_path: Path) -> None:
    way = Way()
    version = way.publish(folder).version
    way.travel(version)
    for name, store in (("here", way.here), ("there", way.there)):
        model = downloaded(store, version, tmp_path / name)
        verify(model, signers()[Site.AWS], tmp_path)
    assert (tmp_path / "here" / signature.NAME).read_bytes() == (tmp_path / "there" / signature.NAME).read_bytes()


@pytest.mark.parametrize("damage", ["change", "remove", "add", "stranger"])
def test_what_is_not_as_it_was_signed_is_refused_by_the_tool(folder: Path, tmp_path: Path, damage: str) -> None:
    way = Way()
    version = way.publish(folder).version
    model = downloaded(way.here, version, tmp_path / "copy")
    if damage == "change":
        (model / "config.json").write_text('{"other": 1}')
    elif damage == "remove":
        (model / "config.json").unlink()
    elif damage == "add":
        (model / "more.txt").write_text("")
    signer = MemorySigner() if damage == "stranger" else signers()[Site.AWS]
    with pytest.raises(ValueError, match=r"(?i)signature|manifest|verif"):
        verify(model, signer, tmp_path)


def test_a_folder_that_brings_a_signature_of_its_own_keeps_it(folder: Path) -> None:
    (folder / signature.NAME).write_text("theirs")
    way = Way()
    version = way.publish(folder).version
    assert way.here.objects[file_key("m", version, signature.NAME)][0] == b"theirs"
    way.travel(version)
    assert way.whole(version)
