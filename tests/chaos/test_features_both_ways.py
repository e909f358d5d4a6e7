"""Features converge whatever happens between the stores: both directions at once, seeded, counts printed.

`./lifeboat test tests/chaos` runs 50,000 operations, `./lifeboat test -m chaos_full` a million. A seed that fails is replayed by
naming it: Chaos(seed, keys, Roughness()).run(operations).
"""

import pytest

from tests.chaos.both_ways import Chaos, Roughness

ORDINARY = [(seed, keys, 5_000) for seed, keys in zip(range(1, 11), [20, 200, 2_000] * 4, strict=False)]
FULL = [(seed, keys, 50_000) for seed, keys in zip(range(101, 121), [20, 200, 2_000, 20_000] * 5, strict=True)]


def run(seed: int, keys: int, operations: int, capsys: pytest.CaptureFixture[str]) -> None:
    chaos = Chaos(seed, keys, Roughness())
    counts = chaos.run(operations)
    with capsys.disabled():
        print(f"\n{counts.line()}", end="")
    here, there = chaos.rows()
    assert {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)} == set()
    assert counts.operations == operations
    assert not chaos.unforeseen()
    assert not chaos.missed()


@pytest.mark.parametrize(("seed", "keys", "operations"), ORDINARY)
def test_both_tables_end_equal(seed: int, keys: int, operations: int, capsys: pytest.CaptureFixture[str]) -> None:
    run(seed, keys, operations, capsys)


@pytest.mark.chaos_full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("seed", "keys", "operations"), FULL)
def test_both_tables_end_equal_after_a_million(
    seed: int, keys: int, operations: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run(seed, keys, operations, capsys)
