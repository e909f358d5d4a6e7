"""Bring changes into one database, both directions alike: apply them, and bury what lost its parent.

A child that arrives for a parent which was deleted there can never be applied, and the delete of the parent waits on the other
side for exactly this child. So the delete wins: the child gets a tombstone above its version, which travels back, takes the child
away there, and lets the parent's delete pass. Both sides come to the same rows, whichever moves first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from functions.features.version import beyond_skew, written_ms
from functions.userdata.change import Change, ordered, parents_of
from functions.userdata.protocols import Fate, UserDatabase
from functions.userdata.schema import Table


class Outcome(StrEnum):
    """Every change ends as exactly one of these; none is dropped without being counted."""

    APPLIED = "applied"
    STALE = "stale"
    ECHO = "echo"
    ADOPTED = "adopted"
    BURIED = "buried"
    WAITING = "waiting"
    PARKED = "parked"


@dataclass(frozen=True)
class Settled:
    """What became of one change: its outcome, why it is to be parked, and how old it was when it landed."""

    change: Change
    outcome: Outcome
    reason: str = ""
    lag_ms: int = 0


_OUTCOMES = {Fate.APPLIED: Outcome.APPLIED, Fate.STALE: Outcome.STALE, Fate.WAITING: Outcome.WAITING}


def settle(
    target: UserDatabase, changes: Sequence[Change], tables: Sequence[Table], clock_ms: Callable[[], int]
) -> list[Settled]:
    """Apply changes, at most one a row; PARKED is said, not done: where to keep a change is for the caller."""
    by_name = {table.name: table for table in tables}
    now_ms = clock_ms()
    settled: list[Settled] = []
    sound: list[Change] = []
    for change in changes:
        if change.table not in by_name:
            settled.append(Settled(change, Outcome.PARKED, f"table {change.table} is not declared"))
        elif beyond_skew(change.version, now_ms) or change.origin is None:
            reason = f"version {change.version} lies too far in the future, or is no site's; correct the writer's clock"
            settled.append(Settled(change, Outcome.PARKED, reason))
        else:
            sound.append(change)
    sound = ordered(sound, tables)
    for change, answer in zip(sound, target.apply(sound) if sound else (), strict=True):
        if answer.fate is Fate.REFUSED:
            settled.append(Settled(change, Outcome.PARKED, answer.reason))
        elif answer.fate is Fate.WAITING and _orphan(target, change, by_name[change.table]):
            target.bury(change.table, change.key, change.version)
            settled.append(Settled(change, Outcome.BURIED))
        else:
            lag_ms = max(0, clock_ms() - written_ms(change.version)) if answer.fate is Fate.APPLIED else 0
            settled.append(Settled(change, _OUTCOMES[answer.fate], lag_ms=lag_ms))
    return settled


def _orphan(target: UserDatabase, change: Change, table: Table) -> bool:
    """Say whether a parent of the row was deleted in the target: a missing one without a tombstone may still come."""
    for parent, key in parents_of(change, table).items():
        state = target.read(parent, [key]).get(key)
        if state is not None and state.deleted:
            return True
    return False
