"""From a batch of change records to what is to be done, with no store in sight.

The batch is collapsed to the newest version of each key, so a hot key costs one write. A poison record is set aside with its
reason and never stops the others.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from functions.errors import PermanentError
from functions.features.echo import Meaning, meaning
from functions.features.errors import PoisonRecordError
from functions.features.items import Content, content, from_base64, key_of
from functions.features.merge import newer
from functions.features.version import beyond_skew
from functions.settings import Site
from functions.stores.protocols import Row

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html
_EXPIRY_PRINCIPAL = "dynamodb.amazonaws.com"
_EVENTS = frozenset(("INSERT", "MODIFY", "REMOVE"))


class Outcome(StrEnum):
    """Every change record ends as exactly one of these; no record is dropped without being counted."""

    APPLIED = "applied"
    STALE = "stale"
    ECHO = "echo"
    PARKED = "parked"
    FAILED = "failed"


@dataclass(frozen=True)
class Change:
    """One record that is to be sent as it stands."""

    row: Row
    sequence: str


@dataclass(frozen=True)
class Adoption:
    """A write by a program that knows no versions: the row gets one at home, then it is a change like any other.

    `seen` is the version the record shows, `last` the newest that the key is known to have had. `removed`: the row was deleted
    outright, so a tombstone takes its place.
    """

    key: str
    seen: int | None
    last: int
    sequence: str
    removed: bool = False


@dataclass(frozen=True)
class Parked:
    """A record that can never be applied."""

    sequence: str
    reason: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """`outcomes` counts the records that need nothing done; the rest are in the three collections."""

    changes: Mapping[str, Change]
    adoptions: Mapping[str, Adoption]
    parked: Sequence[Parked]
    outcomes: Counter[Outcome] = field(default_factory=Counter)


def plan(records: Sequence[Mapping[str, Any]], now_ms: int, site: Site) -> Plan:
    """Return what the change records of `site`'s own store ask for. Records are DynamoDB stream records as Lambda passes them."""
    changes: dict[str, Change] = {}
    adoptions: dict[str, Adoption] = {}
    parked: list[Parked] = []
    outcomes: Counter[Outcome] = Counter()
    for record in records:
        sequence = str(record.get("dynamodb", {}).get("SequenceNumber", ""))
        try:
            found = _read(record, sequence, now_ms, site)
            if isinstance(found, Change):
                known = changes.get(found.row.key)
                if known is None:
                    changes[found.row.key] = found
                    continue
                winner = newer(known.row, found.row)
                changes[found.row.key] = known if winner is known.row else found
                outcomes[Outcome.STALE] += 1
            elif isinstance(found, Adoption):
                # Only the last can still be true: each is judged by the version that the row shows now.
                outcomes[Outcome.STALE] += found.key in adoptions
                adoptions[found.key] = found
            else:
                outcomes[found] += 1
        except PermanentError as error:
            parked.append(Parked(sequence, str(error), record))
    return Plan(changes, adoptions, parked, outcomes)


def unforeseen(record: Mapping[str, Any], error: Exception) -> Plan:
    """Return the plan that parks one record because reading it ended in an error that no rule foresaw."""
    sequence = str(record.get("dynamodb", {}).get("SequenceNumber", ""))
    return Plan(
        {}, {}, [Parked(sequence, f"record {sequence!r} can't be read: {type(error).__name__}: {error}", record)]
    )


def lowest(sequences: Sequence[str]) -> str | None:
    """Return the first of the sequence numbers in the stream's order: they are numbers of up to 40 digits, written as text."""
    return min(sequences, key=int, default=None)


def _read(record: Mapping[str, Any], sequence: str, now_ms: int, site: Site) -> Change | Adoption | Outcome:
    event, change = record.get("eventName"), record.get("dynamodb")
    if event not in _EVENTS or not isinstance(change, dict):
        raise PoisonRecordError(f"record {sequence!r} of kind {event!r} is no change of a row")
    key = key_of(change.get("Keys", {}))
    old = _image(change.get("OldImage"))
    new = None if event == "REMOVE" else _image(change.get("NewImage"))
    if new is None and event != "REMOVE":
        raise PoisonRecordError("record carries no new image; the table's stream must be NEW_AND_OLD_IMAGES")
    by_store = record.get("userIdentity", {}).get("principalId") == _EXPIRY_PRINCIPAL
    what = meaning(old, new, by_store, site)
    if what is Meaning.ECHO:
        return Outcome.ECHO
    if what in (Meaning.UNCHANGED, Meaning.EXPIRED):
        return Outcome.STALE
    last = max((old.version or 0) if old else 0, (new.version or 0) if new else 0)
    if new is None or what is Meaning.UNAWARE:
        return Adoption(key, new.version if new else None, last, sequence, removed=new is None)
    version = new.version or 0
    if beyond_skew(version, now_ms):
        raise PoisonRecordError(
            f"row {key!r}: version {version} lies too far in the future; correct the clock of its writer"
        )
    return Change(Row(key, version, new.envelope), sequence)


def _image(image: Mapping[str, Any] | None) -> Content | None:
    return content(image, from_base64) if image is not None else None
