"""What to do about a key that the two sides hold differently: pure, and the same merge rule as everywhere.

The reconciler never deletes: a row that one side lacks is sent there, since every deletion through the library is a row too. A
deletion that a program made outright, and whose event was lost, is therefore undone here; nothing tells it from a row that never
arrived.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from functions.features.envelope import Envelope, peek
from functions.features.errors import EnvelopeError
from functions.features.reconcile.digest import Entry
from functions.features.tombstone import GRACE_SECONDS
from functions.features.version import beyond_skew, origin
from functions.settings import Site
from functions.stores.protocols import Row


class Action(StrEnum):
    """What a key needs. SEND: `row` to `site`. ADOPT: `site`'s own row gets a version. PARK: people have to look."""

    NOTHING = "nothing"
    SEND = "send"
    ADOPT = "adopt"
    PARK = "park"


@dataclass(frozen=True)
class Decision:
    """The action for one key; `last` is the newest version known of it, `reason` says why it is parked."""

    action: Action
    key: str
    site: Site | None = None
    row: Row | None = None
    last: int = 0
    reason: str = ""


def takes_part(header: Envelope, cutoff_seconds: int) -> bool:
    """Return whether a row counts: one that had expired by `cutoff_seconds` may be gone on one side already.

    Stores remove expired rows and old tombstones days late and each at its own time.
    """
    return not 0 < header.expires <= cutoff_seconds


def ended(header: Envelope, cutoff_seconds: int) -> bool:
    """Return whether a row can be taken away for good: nothing that may still arrive is older than it and would come back.

    A tombstone's expiry has that grace in it; what expires by its writer's wish gets it on top.
    """
    grace_seconds = 0 if header.deleted else GRACE_SECONDS
    return 0 < header.expires <= cutoff_seconds - grace_seconds


def candidates(here: Mapping[str, Entry], there: Mapping[str, Entry]) -> list[str]:
    """Return the keys that only one side lists, or that they list with other versions or other content."""
    return sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))


def decide(
    key: str, rows: Mapping[Site, Row | None], now_ms: int, cutoff_seconds: int, plain_writers: frozenset[Site]
) -> Decision:
    """Return what makes both sides hold the same row.

    `plain_writers`: sites where a program may change a row and leave its version as it was, which the store then shows.
    """
    standing: dict[Site, Row] = {}
    for site, row in sorted(rows.items()):
        if row is None:
            continue
        try:
            if takes_part(peek(row.envelope), cutoff_seconds):
                standing[site] = row
        except EnvelopeError as error:
            return Decision(Action.PARK, key, site, row, reason=f"row {key!r} at {site}: {error}")
    last = max((row.version for row in standing.values()), default=0)
    for site, row in standing.items():
        if beyond_skew(row.version, now_ms):
            reason = (
                f"row {key!r} at {site}: version {row.version} lies too far in the future; correct its writer's clock"
            )
            return Decision(Action.PARK, key, site, row, last, reason)
        if row.version == 0 or origin(row.version) is None:
            return Decision(Action.ADOPT, key, site, row, last)
    if not standing or (len(set(standing.values())) == 1 and len(standing) == len(rows)):
        return Decision(Action.NOTHING, key)
    winners = [site for site, row in standing.items() if row.version == last]
    if len(winners) == 1:
        (winner,) = winners
        return Decision(Action.SEND, key, winner.peer, standing[winner], last)
    # Equal versions, other bytes: some program wrote past the version on the one side where that is seen.
    plain = [site for site in winners if site in plain_writers]
    if len(plain) == 1:
        return Decision(Action.ADOPT, key, plain[0], standing[plain[0]], last)
    reason = f"row {key!r}: version {last} has two contents and none tells which came later; write the row once more"
    return Decision(Action.PARK, key, None, standing[winners[0]], last, reason)
