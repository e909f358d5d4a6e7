"""`./lifeboat verify`: runs the parts that were asked for and tells what they found, for people or machines."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from local.names import GroundKind
from operate.access import of_stack
from operate.errors import LifeboatError
from operate.output import progress, say, write_json, write_table
from operate.verify.parity import PARITY_COLUMNS, StoreParity, parity_rows
from operate.verify.parts import PARTS, Subject
from operate.verify.parts import run as run_parts

# Stacks of real accounts are reached from here too; only this one lives on the local ground.
LOCAL_STACK = "local"


def run(
    names: Sequence[str],
    stack: str,
    environment: Mapping[str, str],
    kind: GroundKind,
    *,
    repair: bool,
    sample: int | None,
    as_json: bool,
) -> int:
    """Verify a deployed stack and return the exit code: 1 where a store of both sides differs."""
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise LifeboatError(f"{', '.join(unknown)} can't be verified; it may be {', '.join(PARTS)}")
    if kind is GroundKind.RECORD:
        raise LifeboatError("a ground that only records holds nothing to verify; unset LIFEBOAT_GROUND")
    with progress() as tell:
        subject = Subject(of_stack(stack, environment), now_ms, stack == LOCAL_STACK, repair, sample)
        found = run_parts([name for name in PARTS if name in names or not names], subject, tell)
    if as_json:
        write_json(document(found))
    else:
        write_table(list(PARITY_COLUMNS), [row for parity in found for row in parity_rows(parity)])
        for parity in found:
            for line in parity.repaired:
                say(f"{parity.store}: repaired {line}")
            for line in parity.unsettled:
                say(f"{parity.store}: differs: {line}")
    return 0 if equal(found) else 1


def equal(found: Sequence[StoreParity]) -> bool:
    """Say whether no store that was looked at differs."""
    return all(parity.equal is not False for parity in found)


def document(found: Sequence[StoreParity]) -> dict[str, Any]:
    """Return what `--json` writes: whether all is equal, and every store with its sides by site."""
    stores = []
    for parity in found:
        fields = asdict(parity)
        fields["sides"] = {str(site): side for site, side in fields["sides"].items()}
        stores.append(fields)
    return {"equal": equal(found), "stores": stores}


def now_ms() -> int:
    """Return the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000
