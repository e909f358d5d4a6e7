"""What every proof of parity comes to, whichever store it is about, and the table that people read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Names of rows that differ, in a result: enough to look into, never a whole table.
NAMED = 100


@dataclass(frozen=True)
class SideParity:
    """One side of a store.

    `lag_ms`: how far this side is behind the other, None if nothing tells. `parked` counts records that this side's paths
    could not apply and kept for people, None where they are counted on the other side. `unreadable` counts rows that have no
    exact form.
    """

    rows: int
    tombstones: int
    digest: str
    unreadable: int = 0
    lag_ms: int | None = None
    parked: int | None = None


@dataclass(frozen=True)
class StoreParity:
    """One store, its sides by name: both sites, and for models the third copy.

    `unsettled` names what differs, `repaired` what no longer does, at most a hundred each. `equal` is None if `skipped` says why.
    """

    store: str
    equal: bool | None
    sides: Mapping[str, SideParity] = field(default_factory=dict)
    differing: int = 0
    unsettled: Sequence[str] = ()
    seconds: float = 0.0
    skipped: str = ""
    repaired: Sequence[str] = ()


PARITY_COLUMNS = ("store", "site", "rows", "tombstones", "digest", "lag", "parked", "verdict")


def parity_rows(parity: StoreParity) -> list[tuple[str, ...]]:
    """Return the lines of a table, one a side; rich markup in the verdict."""
    if parity.skipped:
        return [(parity.store, *["-"] * (len(PARITY_COLUMNS) - 2), f"[yellow]skipped: {parity.skipped}[/]")]
    verdict = "[green]equal[/]" if parity.equal else f"[red]{parity.differing} differ[/]"
    return [
        (
            parity.store,
            str(site),
            f"{side.rows:,}",
            f"{side.tombstones:,}",
            side.digest[:16],
            "-" if side.lag_ms is None else f"{side.lag_ms:,} ms",
            "-" if side.parked is None else f"{side.parked:,}",
            verdict if not side.unreadable else f"[red]{side.unreadable} unreadable[/]",
        )
        for site, side in parity.sides.items()
    ]
