"""Unpacks a function's code archive: once for each content, never outside its folder, never above Lambda's limits."""

import hashlib
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from local.clouds.errors import ArchiveError

# docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 250 MB unzipped, layers included.
UNPACKED_BYTES_LIMIT = 250 * 1024 * 1024
ENTRIES_LIMIT = 100_000
COPY_BYTES = 1 << 20


def unpack(archive: Path, sha256: str, folder: Path) -> Path:
    """Unpack `archive` to `folder`/`sha256` and return that folder; one that is there already is complete.

    Raises ArchiveError when the archive is missing, is no zip file, has another SHA-256, holds a path that leaves the
    folder or a link, or unpacks to more than the limits.
    """
    target = folder / sha256
    if target.is_dir():
        return target
    _verify(archive, sha256)
    # A rename makes the folder appear whole, so a crash half-way leaves nothing that looks ready.
    unfinished = folder / f"{sha256}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            _extract(opened, unfinished, archive)
    except zipfile.BadZipFile as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise ArchiveError(f"{archive} is no readable zip file ({error}); pack the function again") from error
    except ArchiveError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(target)
    return target


def _verify(archive: Path, sha256: str) -> None:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ArchiveError(f"{sha256!r} is no SHA-256 in hexadecimal; the provider plugin writes it beside the archive")
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArchiveError(
            f"cannot read code archive {archive}: {error.strerror}; deploy the function again"
        ) from error
    if found != sha256:
        raise ArchiveError(f"code archive {archive} has SHA-256 {found}, not {sha256}; deploy the function again")


def _extract(opened: zipfile.ZipFile, folder: Path, archive: Path) -> None:
    entries = opened.infolist()
    if len(entries) > ENTRIES_LIMIT:
        raise ArchiveError(f"{archive} holds {len(entries)} entries (limit {ENTRIES_LIMIT})")
    left = UNPACKED_BYTES_LIMIT
    for entry in entries:
        target = folder / _safe_path(entry, archive)
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        # The size in the directory of the zip file is the sender's word; what is counted is what comes out.
        with opened.open(entry) as source, target.open("wb") as sink:
            while block := source.read(COPY_BYTES):
                left -= len(block)
                if left < 0:
                    raise ArchiveError(f"{archive} unpacks to more than {UNPACKED_BYTES_LIMIT} bytes, Lambda's limit")
                sink.write(block)
        target.chmod(0o755 if (entry.external_attr >> 16) & stat.S_IXUSR else 0o644)


def _safe_path(entry: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in path.parts[0]:
        raise ArchiveError(f"{archive} holds the path {entry.filename!r}, which leaves its folder; pack it again")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ArchiveError(f"{archive} holds the link {entry.filename!r}; pack the file itself")
    return path
