"""Features converge whatever happens between the stores: both directions at once, seeded, counts printed.

`./lifeboat test tests/chaos` runs 50,000 operations, `./lifeboat test -m chaos_full` a million. A seed that fails is replayed by
naming it: Chaos(seed, keys, Roughness()).run(operations).
"""

from collections.abc import Callable

import pytest

from functions.settings import Site
from tests.chaos.both_ways import Chaos, Roughness

ORDINARY = [(seed, keys, 5_000) for seed, keys in zip(range(1, 11), [20, 200, 2_000] * 4, strict=False)]
FULL = [(seed, keys, 50_000) for seed, keys in zip(range(101, 121), [20, 200, 2_000, 20_000] * 5, strict=True)]


LOSSY = [(seed, keys) for seed, keys in zip(range(31, 34), [20, 200, 2_000], strict=True)]


def run(seed: int, keys: int, operations: int, tell: Callable[[str], None]) -> None:
    chaos = Chaos(seed, keys, Roughness())
    counts = chaos.run(operations)
    tell(counts.line())
    here, there = chaos.rows()
    assert {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)} == set()
    assert counts.operations == operations
    # No loops: whatever was under way came to rest.
    assert counts.settled_ms <= 2_000
    assert not chaos.unforeseen()
    assert not chaos.missed()


@pytest.mark.parametrize(("seed", "keys", "operations"), ORDINARY)
def test_both_tables_end_equal(seed: int, keys: int, operations: int, tell: Callable[[str], None]) -> None:
    run(seed, keys, operations, tell)


@pytest.mark.parametrize(("seed", "keys"), LOSSY)
def test_what_is_lost_for_good_is_made_up_for_and_proven(seed: int, keys: int, tell: Callable[[str], None]) -> None:
    """Messages are dropped, the stream is trimmed past the checkpoint, and the clocks' own comparison mends it."""
    chaos = Chaos(seed, keys, Roughness())
    chaos.run(1_000)
    assert not chaos.asked_for()
    chaos.lose(2_000)
    here, there = chaos.rows()
    different = {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}
    assert different
    assert chaos.asked_for() == set(Site)
    report = chaos.reconcile()
    tell(
        f"seed {seed}: {chaos.counts.lost} changes lost for good, {len(different)} rows differed;"
        f" {report.differing} found, sent {dict(report.sent)}, adopted {dict(report.adopted)}, digests equal"
    )
    here, there = chaos.rows()
    assert here == there
    assert len(set(report.digests.values())) == 1


@pytest.mark.chaos_full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("seed", "keys", "operations"), FULL)
def test_both_tables_end_equal_after_a_million(
    seed: int, keys: int, operations: int, tell: Callable[[str], None]
) -> None:
    run(seed, keys, operations, tell)
