"""A Cloud Run function's source archive, as it was downloaded from its bucket, within the platform's limits."""

import io
from pathlib import Path

from local.clouds.archives import ArchiveLimits
from local.clouds.archives import unpack as unpack_zip
from local.clouds.errors import ArchiveError

# https://cloud.google.com/functions/quotas: 100 MB compressed, 500 MB uncompressed with modules.
ARCHIVE_BYTES_LIMIT = 100 << 20
LIMITS = ArchiveLimits(unpacked_bytes=500 << 20, entries=50_000)


def unpack(data: bytes, folder: Path, what: str) -> None:
    """Unpack a zip file into `folder`. Raises ArchiveError for one that is too large or that `local.clouds.archives` refuses."""
    if len(data) > ARCHIVE_BYTES_LIMIT:
        raise ArchiveError(f"{what} has {len(data)} bytes, the platform takes {ARCHIVE_BYTES_LIMIT}; leave files out")
    unpack_zip(io.BytesIO(data), folder, what, LIMITS)
