"""Code archives are unpacked whole, once, inside their folder, and never above the limits."""

import hashlib
import stat
import zipfile
from pathlib import Path

import pytest

from local.clouds.archives import ArchiveLimits
from local.clouds.aws.lambda_host import archives
from local.clouds.errors import ArchiveError


def packed(folder: Path, entries: dict[str, bytes]) -> tuple[Path, str]:
    archive = folder / "code.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in entries.items():
            opened.writestr(name, content)
    return archive, hashlib.sha256(archive.read_bytes()).hexdigest()


def test_unpacks_once_and_whole(tmp_path: Path) -> None:
    archive, sha256 = packed(tmp_path, {"app/__init__.py": b"", "app/deep/x.py": b"x = 1\n"})
    root = archives.unpack(archive, sha256, tmp_path / "functions")
    assert root == tmp_path / "functions" / sha256
    assert (root / "app/deep/x.py").read_bytes() == b"x = 1\n"
    archive.unlink()
    assert archives.unpack(archive, sha256, tmp_path / "functions") == root


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "a/../../evil.py", "..\\evil.py", "C:/evil.py"])
def test_refuses_paths_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    archive, sha256 = packed(tmp_path, {"good.py": b"", name: b"evil"})
    with pytest.raises(ArchiveError, match="leaves its folder"):
        archives.unpack(archive, sha256, tmp_path / "functions")
    assert list((tmp_path / "functions").iterdir()) == []


def test_refuses_links(tmp_path: Path) -> None:
    archive = tmp_path / "code.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(link, "/etc/passwd")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(ArchiveError, match="link"):
        archives.unpack(archive, sha256, tmp_path / "functions")


def test_refuses_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LIMITS", ArchiveLimits(unpacked_bytes=1000, entries=10))
    archive, sha256 = packed(tmp_path, {"zeros.bin": bytes(5000)})
    with pytest.raises(ArchiveError, match="1000 bytes"):
        archives.unpack(archive, sha256, tmp_path / "functions")


def test_refuses_another_content_and_a_missing_file(tmp_path: Path) -> None:
    archive, _ = packed(tmp_path, {"a.py": b""})
    with pytest.raises(ArchiveError, match="SHA-256"):
        archives.unpack(archive, "0" * 64, tmp_path / "functions")
    with pytest.raises(ArchiveError, match="cannot read"):
        archives.unpack(tmp_path / "none.zip", "0" * 64, tmp_path / "functions")
    with pytest.raises(ArchiveError, match="hexadecimal"):
        archives.unpack(archive, "../../x", tmp_path / "functions")


def test_refuses_what_is_no_zip(tmp_path: Path) -> None:
    archive = tmp_path / "code.zip"
    archive.write_bytes(b"not a zip")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(ArchiveError, match="no readable zip"):
        archives.unpack(archive, sha256, tmp_path / "functions")
