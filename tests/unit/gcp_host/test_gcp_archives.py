"""Source archives from outside never write outside their folder."""

import io
import stat
import zipfile
from pathlib import Path

import pytest

from local.clouds.archives import ArchiveLimits
from local.clouds.errors import ArchiveError
from local.clouds.gcp import archives
from local.clouds.gcp.archives import unpack


def zipped(*names: str, link: bool = False, body: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = ((stat.S_IFLNK if link else stat.S_IFREG) | 0o644) << 16
            archive.writestr(entry, body)
    return buffer.getvalue()


def test_files_and_folders_appear(tmp_path: Path) -> None:
    unpack(zipped("main.py", "functions/a/b.py"), tmp_path / "out", "it")
    assert (tmp_path / "out" / "functions" / "a" / "b.py").read_bytes() == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil", "C:/evil"])
def test_paths_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError, match="leaves its folder"):
        unpack(zipped("main.py", name), tmp_path / "a" / "out", "it")
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "a" / "out").exists()


def test_links_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="link"):
        unpack(zipped("main.py", link=True), tmp_path / "out", "it")


def test_bytes_are_counted_as_they_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LIMITS", ArchiveLimits(unpacked_bytes=1000, entries=10))
    with pytest.raises(ArchiveError, match="more than 1000"):
        unpack(zipped("a", "b", body=b"0" * 600), tmp_path / "out", "it")


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no readable zip"):
        unpack(b"hello", tmp_path / "out", "it")
