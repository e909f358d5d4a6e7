"""From rows read again to what is to be done, for a source that tells which rows changed but not what they hold.

The rows' present state is what counts, so order, repeats and lost values of the messages make no difference. What tells an echo
from a write of our own is the version: its residue names the site that stamped it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from functions.errors import PermanentError
from functions.features.envelope import decode
from functions.features.errors import PoisonRecordError
from functions.features.plan import Adoption, Change, Outcome, Parked, Plan
from functions.features.reread.notice import Notice, Notices
from functions.features.version import beyond_skew, origin, written_ms
from functions.settings import Site
from functions.stores.protocols import Row


@dataclass(frozen=True)
class Reread:
    """What the rows ask for; `restored` are rows of the far side that are put back at home."""

    plan: Plan
    restored: tuple[Row, ...]


def plan_rows(told: Notices, home: Mapping[str, Row], far: Mapping[str, Row], now_ms: int, site: Site) -> Reread:
    """Return what is to be done about the rows that were told of.

    `home` holds what stands in `site`'s own store now; `far` what the other side holds of the rows that are gone or that a
    deletion was told of.
    """
    changes: dict[str, Change] = {}
    adoptions: dict[str, Adoption] = {}
    parked = list(told.parked)
    restored: list[Row] = []
    outcomes = Counter({Outcome.STALE: told.idle + told.repeated})
    for key, notice in told.by_key.items():
        try:
            row = home.get(key)
            other = far.get(key)
            found: Change | Adoption | Row | Outcome
            if row is None:
                found = _gone(notice, other, now_ms, site)
            elif notice.since_ms and other is not None and other.version > row.version:
                # The deletion took the newest version away: a later write was stamped below it, or an older row came again.
                found = other
            else:
                found = _there(notice, row, now_ms, site)
        except PermanentError as error:
            parked.append(Parked(notice.identity, str(error), notice.record))
            continue
        if isinstance(found, Change):
            changes[key] = found
        elif isinstance(found, Adoption):
            adoptions[key] = found
        elif isinstance(found, Row):
            restored.append(found)
            outcomes[Outcome.STALE] += 1
        else:
            outcomes[found] += 1
    return Reread(Plan(changes, adoptions, parked, outcomes), tuple(restored))


def _there(notice: Notice, row: Row, now_ms: int, site: Site) -> Change | Adoption | Outcome:
    decode(row.envelope)
    if beyond_skew(row.version, now_ms):
        raise PoisonRecordError(
            f"row {row.key!r}: version {row.version} lies too far in the future; correct the clock of its writer"
        )
    stamped_by = origin(row.version)
    if stamped_by is None:
        # A cell with the server's own time: a program wrote an envelope and knows no versions.
        return Adoption(row.key, row.version, row.version, notice.identity)
    return Change(row, notice.identity) if stamped_by is site else Outcome.ECHO


def _gone(notice: Notice, far: Row | None, now_ms: int, site: Site) -> Adoption | Row | Outcome:
    """Judge a row that is not there: aware writers leave a tombstone, so a program deleted it, or housekeeping did."""
    if far is None:
        return Outcome.STALE
    envelope = decode(far.envelope)
    if 0 < envelope.expires <= now_ms // 1000:
        return Outcome.STALE
    if not notice.since_ms:
        # A write was told and a deletion will be: that message decides.
        return Outcome.STALE
    if envelope.deleted:
        # What was deleted here had not reached the far side; its older tombstone makes both equal again.
        return far
    if origin(far.version) is site or written_ms(far.version) <= notice.since_ms:
        return Adoption(notice.key, None, far.version, notice.identity, removed=True)
    # The far side wrote it at about the time of the deletion or after it; the larger version wins, as everywhere.
    return far
