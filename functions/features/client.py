"""What services use: features and sessions of their own site's store, versioned, so that they replicate and converge."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from functions.errors import TransientError
from functions.features.envelope import Envelope, Value, decode, encode
from functions.features.errors import ContendedRowError
from functions.features.tombstone import tombstone
from functions.features.version import stamp, written_ms
from functions.settings import Site
from functions.stores.protocols import Row, RowStore

# Each refusal means that another writer won a round; eight in a row on one row is a misuse of the row, not bad luck.
_ROUNDS = 8
# Conditional writes have no batch form in either store; this many of a batch are in flight.
_WRITERS = 16


@dataclass(frozen=True)
class Written:
    """What a batch came to: versions of the rows that stand, and why others do not. What failed may be written again."""

    versions: Mapping[str, int]
    failed: Mapping[str, TransientError]


@dataclass(frozen=True)
class Features:
    """A row as a reader sees it. Numbers are Decimal, vectors are `envelope.Vector`."""

    key: str
    version: int
    attributes: Mapping[str, Value]
    event_ms: int = 0
    schema: int = 0
    expires: int = 0

    @property
    def written_ms(self) -> int:
        """When the row was written, in epoch milliseconds of the writer's clock."""
        return written_ms(self.version)


class FeatureStore:
    """Rows of one site's own store. Reads hide tombstones and expired rows; writes are conditional and never tie.

    `clock_ms` returns epoch milliseconds. Store errors pass through: they are transient unless their type says otherwise.
    """

    def __init__(self, rows: RowStore, site: Site, clock_ms: Callable[[], int]) -> None:
        self._rows = rows
        self._site = site
        self._clock_ms = clock_ms
        # Threads start with the first batch and stay.
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="features")

    def get(self, key: str) -> Features | None:
        """Return the row, None if there is none, it was deleted, or it has expired."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Features]:
        """Return the rows that a reader may see, in as few calls as the store allows."""
        now_seconds = self._clock_ms() // 1000
        found = {}
        for key, row in self._rows.read(list(dict.fromkeys(keys))).items():
            envelope = decode(row.envelope)
            # The stores remove both kinds days late, so every reader filters.
            if envelope.deleted or 0 < envelope.expires <= now_seconds:
                continue
            found[key] = Features(
                key, row.version, envelope.attributes, envelope.event_ms, envelope.schema, envelope.expires
            )
        return found

    def set(
        self,
        key: str,
        attributes: Mapping[str, Value],
        *,
        event_ms: int = 0,
        schema: int = 0,
        expires: int = 0,
    ) -> int:
        """Write the whole row and return its version; `expires` in epoch seconds, 0 for never.

        A correction of older data is simply written again with its old `event_ms`: that is data and never decides.
        Raises EnvelopeError for a value that can't be stored, ContendedRowError if other writers keep winning.
        """
        data = encode(Envelope(attributes, False, event_ms, schema, expires))
        return self._write(key, lambda version: Row(key, version, data))

    def delete(self, key: str) -> int:
        """Delete the row on both sides and return the version of the deletion; deleting nothing is no error."""
        return self._write(key, lambda version: tombstone(key, version))

    def set_many(
        self, rows: Mapping[str, Mapping[str, Value]], *, event_ms: int = 0, schema: int = 0, expires: int = 0
    ) -> Written:
        """Write whole rows, each by itself: a batch is no transaction, and one row's failure stops no other.

        Raises EnvelopeError for a value that can't be stored, before anything is written.
        """
        envelopes = {
            key: encode(Envelope(attributes, False, event_ms, schema, expires)) for key, attributes in rows.items()
        }
        return self._write_many(list(envelopes), lambda key, version: Row(key, version, envelopes[key]))

    def delete_many(self, keys: Sequence[str]) -> Written:
        """Delete rows on both sides, each by itself; deleting nothing is no error."""
        return self._write_many(list(dict.fromkeys(keys)), tombstone)

    def _write_many(self, keys: Sequence[str], row: Callable[[str, int], Row]) -> Written:
        def write(key: str) -> int | TransientError:
            try:
                return self._write(key, lambda version: row(key, version))
            except TransientError as error:
                return error

        answers = dict(zip(keys, self._writers.map(write, keys), strict=True))
        return Written(
            {key: answer for key, answer in answers.items() if isinstance(answer, int)},
            {key: answer for key, answer in answers.items() if not isinstance(answer, int)},
        )

    def _write(self, key: str, row: Callable[[int], Row]) -> int:
        last = 0
        for _ in range(_ROUNDS):
            version = stamp(self._clock_ms(), last, self._site)
            existing = self._rows.write(row(version))
            if existing is None:
                return version
            last = existing
        raise ContendedRowError(f"row {key!r}: other writers won {_ROUNDS} rounds; write less often or spread the key")
