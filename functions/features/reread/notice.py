"""What Google's Dataflow template tells of a change in Bigtable: which row, and whether something was deleted.

Nothing else of a message is used. Fragments of one row arrive one a cell, in any order and more than once; values are stripped,
since with values the template drops every deletion; and `commitTimestamp` is up to 999 ms late, for it adds the whole
microseconds of the second to a number that holds its milliseconds already. So a message is a hint, and the row is read again.
https://github.com/GoogleCloudPlatform/DataflowTemplates (v2/googlecloud-to-googlecloud, bigtablechangestreamstopubsub)
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from functions.errors import PermanentError
from functions.events import PubSubMessage
from functions.features.errors import PoisonRecordError
from functions.features.plan import Parked
from functions.settings import FEATURE_ENVELOPE, FEATURE_FAMILY

# How much later than the commit a message may say it was.
LATE_MS = 999

_SET = "SET_CELL"
_DELETE_CELLS = "DELETE_CELLS"
_DELETE_FAMILY = "DELETE_FAMILY"
_KINDS = frozenset((_SET, _DELETE_CELLS, _DELETE_FAMILY))


@dataclass(frozen=True)
class Notice:
    """A row that changed.

    `since_ms`: what was written until then, in epoch milliseconds, was written before every deletion that is told here; 0 when
    none is told. `identity` is one of the messages that told, `record` its content.
    """

    key: str
    identity: str
    record: Mapping[str, Any]
    since_ms: int = 0


@dataclass(frozen=True)
class Notices:
    """The messages of one request: rows by key, what can never be used, and the key that each message names.

    `idle` counts messages that need nothing done.
    """

    by_key: Mapping[str, Notice]
    parked: tuple[Parked, ...]
    keys: Mapping[str, str]
    idle: int
    repeated: int


def collect(messages: Iterable[PubSubMessage]) -> Notices:
    """Return what the messages tell, each row once."""
    by_key: dict[str, Notice] = {}
    parked: list[Parked] = []
    keys: dict[str, str] = {}
    idle = repeated = 0
    for message in messages:
        try:
            found = notice(message)
        except PermanentError as error:
            parked.append(Parked(message.identity, str(error), {"body": message.body}))
            continue
        if found is None:
            idle += 1
            continue
        keys[message.identity] = found.key
        known = by_key.get(found.key)
        repeated += known is not None
        by_key[found.key] = found if known is None else replace(known, since_ms=max(known.since_ms, found.since_ms))
    return Notices(by_key, tuple(parked), keys, idle, repeated)


def notice(message: PubSubMessage) -> Notice | None:
    """Return what one message tells, None for the housekeeping of Bigtable's garbage collection.

    Raises PoisonRecordError for what the template never sends, and for cells beside the envelope, which do not replicate.
    """
    try:
        told = json.loads(message.body)
        key, kind, family = told["rowKey"], told["modType"], told["columnFamily"]
        committed_ms = int(told["commitTimestamp"]) // 1_000
    except (ValueError, KeyError, TypeError) as error:
        raise PoisonRecordError(f"message {message.identity!r} is no change of a Bigtable row") from error
    if not isinstance(key, str) or not key or kind not in _KINDS:
        raise PoisonRecordError(f"message {message.identity!r} tells a change of unknown kind {kind!r}")
    if "\ufffd" in key:
        # The template writes keys as text: bytes that are none were replaced, and name another row or none.
        raise PoisonRecordError(f"row key {key!r} is no UTF-8 text; only text keys replicate")
    if told.get("isGC"):
        return None
    column = told.get("column")
    if family != FEATURE_FAMILY or (kind != _DELETE_FAMILY and column != FEATURE_ENVELOPE):
        raise PoisonRecordError(
            f"row {key!r}: cell {family}:{column} lies beside the envelope and does not replicate;"
            " write features through the client library"
        )
    return Notice(key, message.identity, told, 0 if kind == _SET else committed_ms - LATE_MS)
