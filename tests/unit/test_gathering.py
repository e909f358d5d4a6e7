"""Requests that run at once become batches: everyone gets its own answer, or the batch's error."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.gathering import Gathering


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
