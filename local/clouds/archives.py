"""Unpacks a function's code archive: never outside its folder, never above a platform's limits, whole or not at all."""

import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from local.clouds.errors import ArchiveError

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class ArchiveLimits:
    """What a platform takes: bytes of all files unpacked, and entries."""

    unpacked_bytes: int
    entries: int


def unpack(source: BinaryIO, folder: Path, what: str, limits: ArchiveLimits) -> None:
    """Unpack a zip file into `folder`; one that is there already is complete and is left alone.

    `what` names the archive in errors. Raises ArchiveError when it is no zip file, holds a path that leaves the folder or a
    link, or unpacks to more than the limits.
    """
    if folder.is_dir():
        return
    # A rename makes the folder appear whole, so a crash half-way leaves nothing that looks ready.
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with zipfile.ZipFile(source) as opened:
            _extract(opened, unfinished, what, limits)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise ArchiveError(f"{what} is no readable zip file ({error}); pack the function again") from error
    except ArchiveError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder)


def _extract(opened: zipfile.ZipFile, folder: Path, what: str, limits: ArchiveLimits) -> None:
    entries = opened.infolist()
    if len(entries) > limits.entries:
        raise ArchiveError(f"{what} holds {len(entries)} entries, the limit is {limits.entries}; leave files out")
    left = limits.unpacked_bytes
    for entry in entries:
        target = folder / _safe_path(entry, what)
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        # The size in the directory of the zip file is the sender's word; what is counted is what comes out.
        with opened.open(entry) as source, target.open("wb") as sink:
            while block := source.read(COPY_BYTES):
                left -= len(block)
                if left < 0:
                    raise ArchiveError(f"{what} unpacks to more than {limits.unpacked_bytes} bytes; leave files out")
                sink.write(block)
        target.chmod(0o755 if (entry.external_attr >> 16) & stat.S_IXUSR else 0o644)


def _safe_path(entry: zipfile.ZipInfo, what: str) -> PurePosixPath:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not path.parts or ":" in path.parts[0]:
        raise ArchiveError(f"{what} holds the path {entry.filename!r}, which leaves its folder; pack it again")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ArchiveError(f"{what} holds the link {entry.filename!r}; pack the file itself")
    return path
