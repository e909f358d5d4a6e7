"""Requests that run at once become batches: everyone gets its own answer, or the batch's error."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.errors import TransientError
from functions.gathering import AsyncGathering, Gathering


def test_everyone_gets_its_own_answer_and_batches_form() -> None:
    sizes: list[int] = []
    first_runs, others_wait = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        first_runs.set()
        assert others_wait.wait(10)
        return [item * 2 for item in items]

    gathering = Gathering(work, most=8)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(gathering.submit, 0)
        assert first_runs.wait(10)
        rest = [pool.submit(gathering.submit, number) for number in range(1, 20)]
        while len(gathering._waiting) < 19:
            threading.Event().wait(0.001)
        others_wait.set()
        assert [one.result() for one in [first, *rest]] == [number * 2 for number in range(20)]
    assert sizes == [1, 8, 8, 3]


def test_an_error_reaches_everyone_of_its_batch_and_nobody_else() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise ValueError("one")
        return list(items)

    gathering = Gathering(work, most=1)
    with pytest.raises(ValueError, match="one"):
        gathering.submit(1)
    assert gathering.submit(2) == 2


def test_requests_of_a_loop_become_batches_with_an_answer_each() -> None:
    sizes: list[int] = []
    others_wait = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        assert others_wait.wait(10)
        return [item * 2 for item in items]

    async def run() -> list[int]:
        gathering = AsyncGathering(work, most=8)
        asked = [asyncio.ensure_future(gathering.submit(number)) for number in range(20)]
        while not sizes:
            await asyncio.sleep(0)
        asked += [asyncio.ensure_future(gathering.submit(20))]
        await asyncio.sleep(0)
        others_wait.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(run()) == [number * 2 for number in range(21)]
    assert sizes == [8, 8, 5]


def test_a_client_that_hangs_up_takes_nobody_along() -> None:
    done: list[int] = []
    first_runs, go_on = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        first_runs.set()
        assert go_on.wait(10)
        done.extend(items)
        return list(items)

    async def run() -> int:
        gathering = AsyncGathering(work, most=8)
        first = asyncio.ensure_future(gathering.submit(1))
        await asyncio.to_thread(first_runs.wait, 10)
        second, third = (asyncio.ensure_future(gathering.submit(number)) for number in (2, 3))
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        go_on.set()
        return await third

    assert asyncio.run(run()) == 3
    # What was taken in is done all the same: its sender will only send it again.
    assert done == [1, 2, 3]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=40),
    st.integers(1, 9),
    st.lists(st.integers(0, 3), max_size=40),
)
def test_an_unforeseen_fault_hits_its_own_item_and_order_holds(
    asked: list[tuple[str, bool]], most: int, pauses: list[int]
) -> None:
    done: list[int] = []
    runs: Counter[int] = Counter()

    def work(items: Sequence[int]) -> list[int]:
        runs.update(items)
        for item in items:
            if asked[item][1]:
                raise ValueError(item)
        done.extend(items)
        return list(items)

    async def submit(gathering: AsyncGathering[int, int], number: int) -> int | str:
        try:
            return await gathering.submit(number)
        except ValueError as error:
            return str(error)

    async def run() -> list[int | str]:
        gathering: AsyncGathering[int, int] = AsyncGathering(work, most)
        tasks = []
        for number in range(len(asked)):
            tasks.append(asyncio.ensure_future(submit(gathering, number)))
            for _ in range(pauses[number] if number < len(pauses) else 0):
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    answers = asyncio.run(run())
    assert answers == [str(number) if bad else number for number, (_, bad) in enumerate(asked)]
    for key in "abcd":
        mine = [number for number in done if asked[number][0] == key]
        assert mine == [number for number, (other, bad) in enumerate(asked) if other == key and not bad]
    # Halving: an item runs again at most once for each doubling of the batch.
    assert all(count <= 1 + most.bit_length() for count in runs.values())


def test_a_store_that_is_away_fails_the_batch_at_once() -> None:
    calls: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        raise TransientError("away")

    async def run() -> list[object]:
        gathering: AsyncGathering[int, int] = AsyncGathering(work, most=8)
        return await asyncio.gather(*(gathering.submit(number) for number in range(8)), return_exceptions=True)

    assert all(isinstance(answer, TransientError) for answer in asyncio.run(run()))
    assert calls == [8]


def test_a_batch_waits_for_the_rest_of_its_burst_and_no_longer_once_it_is_full() -> None:
    sizes: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return list(items)

    async def burst(count: int, window_seconds: float) -> list[int]:
        gathering = AsyncGathering(work, most=4, window_seconds=window_seconds)
        tasks = []
        for number in range(count):
            tasks.append(asyncio.ensure_future(gathering.submit(number)))
            # Each arrives in a turn of the loop of its own, as requests do.
            await asyncio.sleep(0)
        return await asyncio.wait_for(asyncio.gather(*tasks), 10)

    assert asyncio.run(burst(3, 0.05)) == [0, 1, 2]
    assert sizes == [3]
    sizes.clear()
    # A full batch goes at once: an hour's window would be felt.
    assert asyncio.run(burst_at_once(work, 4)) == [0, 1, 2, 3]
    assert sizes == [4]


async def burst_at_once(work: Callable[[Sequence[int]], list[int]], count: int) -> list[int]:
    gathering = AsyncGathering(work, most=count, window_seconds=3600.0)
    return await asyncio.wait_for(asyncio.gather(*(gathering.submit(number) for number in range(count))), 10)
