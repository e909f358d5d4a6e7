"""Parity of user data: digests of both databases by range of keys, table by table, and a closer look at what differs.

Nothing is changed unless it is asked for. A row on its way is no divergence: a row counts if one side still has not come to the
version that the other had at the first look, or if both have the same version and not the same row.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from functions.features.version import written_ms
from functions.settings import Site
from functions.stores.clients import Clients
from functions.userdata.parity import Apart, Prover, TableParity
from functions.userdata.protocols import OutboxDatabase, SealedDatabase
from functions.userdata.schema import REFERENCE_TABLES
from operate.output import Progress
from operate.verify.parity import NAMED, SideParity, StoreParity

# How long a row may take to be on both sides before it counts as a divergence, in so many looks.
SETTLE_SECONDS = 3.0
LOOKS = 10


@dataclass(frozen=True)
class Databases:
    """Both sides' databases."""

    home: OutboxDatabase
    far: SealedDatabase

    @classmethod
    def of(cls, clients: Clients, clock_ms: Callable[[], int]) -> "Databases":
        """Return the databases of a stack. Raises SettingsError where the stack has none."""
        return cls(clients.aurora(REFERENCE_TABLES), clients.spanner(REFERENCE_TABLES, clock_ms))

    def open_still(self, table: str, apart: Sequence[Apart]) -> list[Apart]:
        """Return those of some rows that have not come together."""
        keys = [each.key for each in apart]
        ours, theirs = self.home.read(table, keys), self.far.read(table, keys)
        still = []
        for each in apart:
            here, there = ours.get(each.key), theirs.get(each.key)
            arrived = min(here.version if here else 0, there.version if there else 0) >= each.newest
            same_version = here is not None and there is not None and here.version == there.version
            if not arrived or (same_version and here != there):
                still.append(each)
        return still


def verify_users(
    databases: Databases, clock_ms: Callable[[], int], tell: Progress, *, repair: bool = False
) -> list[StoreParity]:
    """Compare every table of both databases, one result a table; with `repair`, the newer row is written first where rows differ.

    A side's lag is the age of the oldest row that it lacked at the first look, 0 when it lacked none. Raises the stores' errors.
    """
    prover = Prover(databases.home, databases.far, REFERENCE_TABLES, clock_ms)
    if repair:
        tell("user data: what differs is brought in line")
        prover.prove(repair=True)
    began = time.monotonic()
    tell("user data: digests of both databases are compared")
    first = prover.prove(repair=False)
    lags = {table.table: _lags(table, clock_ms()) for table in first}
    waiting = {table.table: table.apart for table in first}
    for _ in range(LOOKS):
        waiting = {name: databases.open_still(name, apart) for name, apart in waiting.items() if apart}
        if not any(waiting.values()):
            break
        tell(f"user data: rows on their way are looked at again; {sum(map(len, waiting.values()))} rows")
        time.sleep(SETTLE_SECONDS / LOOKS)
    if any(table.apart and not waiting.get(table.table) for table in first):
        # What was on its way has arrived: the digests that are shown are those of now.
        first = prover.prove(repair=False)
    parked = databases.home.parked()
    seconds = round(time.monotonic() - began, 2)
    return [_parity(table, waiting.get(table.table, ()), lags[table.table], parked, seconds) for table in first]


def _lags(table: TableParity, now_ms: int) -> dict[Site, int]:
    """Return how old the oldest row is that each side lacked."""

    def age(versions: list[int]) -> int:
        return max((max(0, now_ms - written_ms(version)) for version in versions), default=0)

    return {
        Site.AWS: age([each.far for each in table.apart if each.home < each.far]),
        Site.GCP: age([each.home for each in table.apart if each.far < each.home]),
    }


def _parity(
    table: TableParity, still: Sequence[Apart], lags: dict[Site, int], parked: int, seconds: float
) -> StoreParity:
    # A row beside its own tombstone has no versions to tell apart, so it is only counted.
    beside = table.differing - len(table.apart)
    sides = {
        site.value: SideParity(
            rows=table.rows[place],
            tombstones=table.tombstones[place],
            digest=table.digests[place],
            unreadable=len(table.refused),
            lag_ms=lags[site],
            # Both directions park at home, where people look.
            parked=parked if site is Site.AWS else None,
        )
        for place, site in enumerate(Site)
    }
    return StoreParity(
        store=f"userdata/{table.table}",
        equal=not still and not beside and not table.refused,
        sides=sides,
        differing=len(still) + beside,
        unsettled=[each.key for each in still[:NAMED]],
        seconds=seconds,
    )
