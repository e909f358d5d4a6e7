"""Tables and stores whose attributes merge by policies: every write reads what stands there, joins, and swaps.

Such rows cost a read and a conditional write where plain ones replicate with one write, so a table has policies only if its
config says so. Programs that replace whole items past the library take the merged attributes with them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from functions.errors import TransientError
from functions.features.client import Features
from functions.features.envelope import Envelope, Value, decode, encode
from functions.features.errors import ContendedRowError, EnvelopeError, PolicyError
from functions.features.policies.rules import (
    RESERVED,
    Content,
    Policies,
    Policy,
    check,
    count,
    join,
    read_content,
    to_row,
    total,
)
from functions.features.tombstone import tombstone
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.protocols import Applied, FeatureTable, Row, RowStore

# As in the plain client: each lost round is another writer's success.
_ROUNDS = 8


class MergingRows:
    """The target of a replication path into `site`'s table. Reads and scans are the table's own."""

    def __init__(self, table: FeatureTable, site: Site, policies: Policies, clock_ms: Callable[[], int]) -> None:
        self._table = table
        self._site = site
        self._policies = policies
        self._clock_ms = clock_ms

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        return self._table.read(keys)

    def write(self, row: Row) -> int | None:
        return self._table.write(row)

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        return self._table.scan(start, end)

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        try:
            standing = self._table.read([row.key for row in rows])
        except TransientError:
            return [Applied.FAILED] * len(rows)
        return [self._apply_one(row, standing.get(row.key)) for row in rows]

    def _apply_one(self, row: Row, standing: Row | None) -> Applied:
        try:
            for _ in range(_ROUNDS):
                winner = self._winner(row, standing)
                if winner is None:
                    return Applied.STALE
                if self._table.swap(winner, None if standing is None else standing.version):
                    return Applied.APPLIED
                standing = self._table.read([row.key]).get(row.key)
        except (EnvelopeError, PolicyError):
            return Applied.REFUSED
        except TransientError:
            return Applied.FAILED
        return Applied.FAILED

    def _winner(self, row: Row, standing: Row | None) -> Row | None:
        """Return the row that is to stand there, None if the one that does is right."""
        arriving = read_content(row, self._policies)
        if standing is None:
            return row
        present = read_content(standing, self._policies)
        joined = join(present, arriving, self._policies)
        if row.version > standing.version and joined == arriving:
            return row
        if (row.version < standing.version and joined == present) or row == standing:
            return None
        version = stamp(self._clock_ms(), max(row.version, standing.version), self._site)
        return to_row(row.key, version, joined)


class MergingStore:
    """What services use for a table with policies: like FeatureStore, but attributes with a policy only ever merge.

    An attribute that `set` leaves out goes away if it is plain and stays if it has a policy; `delete` ends the row's life and
    with it everything that was merged. Counters are read as their total.
    """

    def __init__(self, table: FeatureTable, site: Site, policies: Policies, clock_ms: Callable[[], int]) -> None:
        self._table = table
        self._site = site
        self._policies = policies
        self._clock_ms = clock_ms

    def get(self, key: str) -> Features | None:
        """Return the row, None if there is none, it was deleted, or it has expired."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Features]:
        """Return the rows that a reader may see."""
        now_seconds = self._clock_ms() // 1000
        found = {}
        for key, row in self._table.read(list(dict.fromkeys(keys))).items():
            envelope = decode(row.envelope)
            if envelope.deleted or 0 < envelope.expires <= now_seconds:
                continue
            attributes = {
                name: total(value) if self._policies.get(name) is Policy.COUNTER else value
                for name, value in envelope.attributes.items()
                if name != RESERVED
            }
            found[key] = Features(key, row.version, attributes, envelope.event_ms, envelope.schema, envelope.expires)
        return found

    def set(
        self, key: str, attributes: Mapping[str, Value], *, event_ms: int = 0, schema: int = 0, expires: int = 0
    ) -> int:
        """Write the plain attributes and merge the others; returns the version.

        Raises PolicyError for a value that its policy can't merge; counters are changed with `increment` alone.
        """
        given = decode(encode(Envelope(attributes)))
        plain, merged = {}, {}
        for name, value in given.attributes.items():
            policy = self._policies.get(name)
            if policy is Policy.COUNTER or name == RESERVED:
                raise PolicyError(f"attribute {name!r} can't be set; counters are changed with increment()")
            if policy is None:
                plain[name] = value
            else:
                check(name, policy, value)
                merged[name] = value

        def change(content: Content, version: int) -> Content:
            fresh = Content(content.life, version, False, plain, merged, event_ms, schema, expires)
            return join(content, fresh, self._policies)

        return self._write(key, change)

    def increment(self, key: str, name: str, amount: int | Decimal = 1) -> int:
        """Count `amount`, which may be negative, and return the version. The rest of the row stays as it is."""
        if self._policies.get(name) is not Policy.COUNTER:
            raise PolicyError(f"attribute {name!r} is no counter; give it the policy in the table's config")

        def change(content: Content, version: int) -> Content:
            counted = count(content.merged.get(name), Decimal(amount), self._site)
            return replace(content, merged={**content.merged, name: counted})

        return self._write(key, change)

    def delete(self, key: str) -> int:
        """Delete the row on both sides and return the version of the deletion."""
        return self._write(key, lambda content, version: None)

    def _write(self, key: str, change: Callable[[Content, int], Content | None]) -> int:
        for _ in range(_ROUNDS):
            standing = self._table.read([key]).get(key)
            last = 0 if standing is None else standing.version
            version = stamp(self._clock_ms(), last, self._site)
            content = change(self._living(standing), version)
            row = tombstone(key, version) if content is None else to_row(key, version, content)
            if self._table.swap(row, None if standing is None else standing.version):
                return version
        raise ContendedRowError(f"row {key!r}: other writers won {_ROUNDS} rounds; write less often or spread the key")

    def _living(self, standing: Row | None) -> Content:
        """Return what there is to change: a row that was deleted begins a new life over its tombstone."""
        content = None if standing is None else read_content(standing, self._policies)
        if content is None or content.deleted:
            return Content(content.life if content else 0, 0, False, {}, {}, 0, 0, 0)
        return content


def target(table: FeatureTable, site: Site, policies: Policies, clock_ms: Callable[[], int]) -> RowStore:
    """Return what a path applies rows to: the table itself where no attribute has a policy."""
    return MergingRows(table, site, policies, clock_ms) if policies else table
