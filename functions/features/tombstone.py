"""A delete is a row too: a tombstone in the place of the data, kept longer than any event can travel."""

from functions.features.envelope import Envelope, encode
from functions.features.version import written_ms
from functions.stores.protocols import Row

# Longer than every retention that could replay an older write: 24 h of the stream, 7 days of change streams, Pub/Sub and dead
# letters, with as much again for people to react. Cassandra keeps 10 days for the same reason.
GRACE_SECONDS = 14 * 24 * 3600


def tombstone(key: str, version: int) -> Row:
    """Return the row that deletes `key`; stores drop it once the grace has passed."""
    return Row(key, version, encode(Envelope(deleted=True, expires=written_ms(version) // 1000 + GRACE_SECONDS)))
