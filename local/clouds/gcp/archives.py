"""Unpacks a function's source archive: never outside its folder, never above the platform's limits."""

import io
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from local.clouds.errors import ArchiveError

# https://cloud.google.com/functions/quotas: 100 MB compressed, 500 MB uncompressed with modules.
ARCHIVE_BYTES_LIMIT = 100 << 20
UNPACKED_BYTES_LIMIT = 500 << 20
ENTRIES_LIMIT = 50_000
COPY_BYTES = 1 << 20


def unpack(data: bytes, folder: Path, what: str) -> None:
    """Unpack a zip file into `folder`, which appears whole or not at all; one that is there already is left alone.

    Raises ArchiveError when it is no zip file, holds a link or a path that leaves the folder, or is above the limits.
    """
    if folder.is_dir():
        return
    if len(data) > ARCHIVE_BYTES_LIMIT:
        raise ArchiveError(f"{what} has {len(data)} bytes, the platform takes {ARCHIVE_BYTES_LIMIT}; leave files out")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _extract(archive, unfinished, what)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ArchiveError(f"{what} is no readable zip file ({error}); pack the function again") from error
    except ArchiveError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    unfinished.rename(folder)


def _extract(archive: zipfile.ZipFile, folder: Path, what: str) -> None:
    entries = archive.infolist()
    if len(entries) > ENTRIES_LIMIT:
        raise ArchiveError(f"{what} holds {len(entries)} entries, the limit is {ENTRIES_LIMIT}; leave files out")
    left = UNPACKED_BYTES_LIMIT
    for entry in entries:
        target = folder / _safe_path(entry, what)
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        # The size in the zip file's directory is only its sender's word: what comes out is counted.
        with archive.open(entry) as source, target.open("wb") as sink:
            while block := source.read(COPY_BYTES):
                left -= len(block)
                if left < 0:
                    raise ArchiveError(f"{what} unpacks to more than {UNPACKED_BYTES_LIMIT} bytes; leave files out")
                sink.write(block)


def _safe_path(entry: zipfile.ZipInfo, what: str) -> PurePosixPath:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not path.parts or ":" in path.parts[0]:
        raise ArchiveError(f"{what} holds the path {entry.filename!r}, which leaves its folder; pack it again")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise ArchiveError(f"{what} holds the link {entry.filename!r}; pack the file itself")
    return path
