"""The merge rule: of two rows of one key the larger version wins, whole row.

Late, doubled and reordered deliveries make no difference, since `newer` is commutative, associative and idempotent.
"""

from functions.features.errors import VersionTieError
from functions.stores.protocols import Row


def newer(one: Row, other: Row) -> Row:
    """Return the row that wins; VersionTieError if equal versions carry different bytes."""
    if one.version == other.version and one.envelope != other.envelope:
        raise VersionTieError(
            f"row {one.key!r}: version {one.version} has two contents; a writer did not stamp through this library, "
            "write the row once more through it"
        )
    return one if one.version >= other.version else other
