"""Assets and archives as files of the ground."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from local.providers.archives import restore_assets, store_assets
from local.providers.errors import ArchiveError
from local.providers.wire import ARCHIVE, SIGNATURE, Asset, Secret, conceal_like, contains_unknown, decode, encode


def archive(**body: object) -> Asset:
    return Asset(archive=True, hash="h", body={SIGNATURE: ARCHIVE, "hash": "h", **body})


def test_a_file_is_kept_under_its_hash(tmp_path: Path) -> None:
    source = tmp_path / "code.zip"
    source.write_bytes(b"bytes")
    row = store_assets({"code": archive(path=str(source)), "n": [1]}, tmp_path / "archives")
    sha256 = hashlib.sha256(b"bytes").hexdigest()
    assert row == {
        "code": {"archive": str(tmp_path / "archives" / sha256), "sha256": sha256, "hash": "h"},
        "n": [1],
    }
    assert Path(row["code"]["archive"]).read_bytes() == b"bytes"


def test_folders_and_maps_are_packed_alike_whenever_their_content_is(tmp_path: Path) -> None:
    folder = tmp_path / "src"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.py").write_text("x = 1")
    packed = store_assets(archive(path=str(folder)), tmp_path / "archives")
    mapped = store_assets(archive(assets={"inner/a.py": {"text": "x = 1"}}), tmp_path / "archives")
    assert packed["sha256"] == mapped["sha256"]
    with zipfile.ZipFile(packed["archive"]) as opened:
        assert opened.read("inner/a.py") == b"x = 1"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"/nowhere\.zip is no file"):
        store_assets(archive(path="/nowhere.zip"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stored_asset_is_the_programs_again_when_the_content_is_the_same() -> None:
    known = archive(path="code.zip")
    assert restore_assets({"archive": "/x", "sha256": "s", "hash": "h"}, known) is known
    changed = restore_assets({"archive": "/x", "sha256": "s", "hash": "other"}, known)
    assert (changed.hash, changed.body["path"]) == ("other", "/x")


def test_values_survive_the_wire() -> None:
    values = {"n": 3, "f": 1.5, "b": True, "s": Secret({"x": ["y"]}), "a": archive(path="p"), "o": {"none": None}}
    back = decode(encode(values))
    assert back == {**values, "o": {}}
    assert isinstance(back["n"], int)


def test_secrets_are_put_back_place_by_place() -> None:
    like = {"a": {"b": Secret("old"), "c": "plain"}, "l": [Secret("1")]}
    assert conceal_like({"a": {"b": "new", "c": "d"}, "l": ["2", "3"]}, like) == {
        "a": {"b": Secret("new"), "c": "d"},
        "l": [Secret("2"), "3"],
    }


def test_unknown_markers_are_found_anywhere() -> None:
    values = decode(encode({"a": ["04da6b54-80e4-46f7-96ec-b56ff0331ba9"]}))
    assert contains_unknown(values)
