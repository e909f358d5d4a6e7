"""A Lambda function's code archive: the one that the program deployed, proven by its SHA-256, within Lambda's limits."""

import hashlib
from pathlib import Path

from local.clouds.archives import ArchiveLimits
from local.clouds.archives import unpack as unpack_zip
from local.clouds.errors import ArchiveError

# docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 250 MB unzipped, layers included.
LIMITS = ArchiveLimits(unpacked_bytes=250 * 1024 * 1024, entries=100_000)


def unpack(archive: Path, sha256: str, folder: Path) -> Path:
    """Unpack `archive` to `folder`/`sha256` and return that folder; one that is there already is complete.

    Raises ArchiveError when the archive is missing, has another SHA-256, or is refused by `local.clouds.archives.unpack`.
    """
    target = folder / sha256
    if target.is_dir():
        return target
    _verify(archive, sha256)
    with archive.open("rb") as source:
        unpack_zip(source, target, str(archive), LIMITS)
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
