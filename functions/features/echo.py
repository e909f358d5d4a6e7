"""What a change to a row means: the exact echo test.

A filter on an origin attribute loses writes, since a writer that knows nothing of it leaves the old tag in place. What tells is
whether the version moved: only the apply path and aware writers move it, and its origin says which of the two it was.
"""

from enum import StrEnum

from functions.features.errors import PoisonRecordError
from functions.features.items import Content
from functions.features.version import origin
from functions.settings import Site


class Meaning(StrEnum):
    """Why a change record exists."""

    LOCAL = "local"
    ECHO = "echo"
    UNAWARE = "unaware"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    EXPIRED = "expired"


def meaning(old: Content | None, new: Content | None, by_store: bool, site: Site) -> Meaning:
    """Return what the change from `old` to `new` (None: no such row) at `site` means.

    `by_store`: the store removed the row itself because its time to live had passed.
    Raises PoisonRecordError for a version that no site can have stamped.
    """
    if new is None:
        return Meaning.EXPIRED if by_store else Meaning.REMOVED
    if new.version is None:
        return Meaning.UNAWARE
    if old is not None and old.version == new.version:
        return Meaning.UNCHANGED if old.envelope == new.envelope else Meaning.UNAWARE
    stamped_by = origin(new.version)
    if stamped_by is None:
        raise PoisonRecordError(f"version {new.version} was stamped by no known site")
    return Meaning.LOCAL if stamped_by is site else Meaning.ECHO
