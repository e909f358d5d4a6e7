"""What happens to failed stream batches: nothing lost, nothing twice, poison isolated within the documented effort."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.clouds.aws.event_sources.decisions import (
    Batch,
    Failure,
    ParkedReason,
    RetryPolicy,
    ShardProgress,
    StreamRecord,
    decide,
    expire,
    reported_failure,
)


def records(count: int, created_at: float = 0.0) -> tuple[StreamRecord, ...]:
    return tuple(StreamRecord(str(number), f"key{number}", created_at, b"{}") for number in range(count))


def numbers(chosen: tuple[StreamRecord, ...]) -> list[int]:
    return [int(record.sequence_number) for record in chosen]


def drive(batch: Batch, poison: set[int], policy: RetryPolicy, reports: bool) -> tuple[list[int], list[int], int]:
    """Run a batch to its end against a function that fails on `poison`; return done, parked and invocations in order."""
    line, done, parked, invocations = [batch], [], [], 0
    while line:
        head = line.pop(0)
        invocations += 1
        bad = [place for place, record in enumerate(head.records) if int(record.sequence_number) in poison]
        failure = None
        if bad:
            failure = Failure(index=bad[0], reported=True) if reports else Failure()
        decision = decide(head, failure, policy)
        done += numbers(decision.done)
        parked += numbers(decision.parked.records) if decision.parked else []
        line[:0] = decision.following
        assert invocations < 100_000
    return done, parked, invocations


@given(
    size=st.integers(1, 64),
    poison=st.sets(st.integers(0, 63), max_size=8),
    retries=st.integers(0, 3),
    reports=st.booleans(),
)
def test_bisecting_parks_exactly_the_poison(size: int, poison: set[int], retries: int, reports: bool) -> None:
    policy = RetryPolicy(bisect=True, maximum_retries=retries)
    done, parked, _ = drive(Batch(records(size)), poison, policy, reports)
    present = sorted(number for number in poison if number < size)
    assert parked == present
    assert done == [number for number in range(size) if number not in poison]


@given(size=st.integers(1, 64), poison=st.sets(st.integers(0, 63), max_size=8), retries=st.integers(0, 3))
def test_without_bisect_every_record_ends_once(size: int, poison: set[int], retries: int) -> None:
    done, parked, invocations = drive(Batch(records(size)), poison, RetryPolicy(maximum_retries=retries), reports=True)
    assert sorted(done + parked) == list(range(size))
    assert not poison.intersection(done)
    assert invocations <= retries + 1


def test_one_poison_record_costs_a_logarithm_of_the_batch() -> None:
    retries = 2
    _, parked, invocations = drive(Batch(records(1024)), {700}, RetryPolicy(True, retries), reports=False)
    assert parked == [700]
    # Ten halvings, each with its good half, and the tries of the record itself.
    assert invocations <= 2 * 10 + 1 + retries


def test_a_reported_record_is_tried_alone_at_once() -> None:
    policy = RetryPolicy(bisect=True, maximum_retries=2)
    first = decide(Batch(records(10)), Failure(index=4, reported=True), policy)
    assert numbers(first.done) == [0, 1, 2, 3]
    assert [numbers(batch.records) for batch in first.following] == [[4, 5, 6, 7, 8, 9]]
    second = decide(first.following[0], Failure(index=0, reported=True), policy)
    assert [numbers(batch.records) for batch in second.following] == [[4], [5, 6, 7, 8, 9]]
    assert [batch.failures for batch in second.following] == [0, 0]


def test_retries_without_a_bound_never_park() -> None:
    batch = Batch(records(1))
    for _ in range(50):
        decision = decide(batch, Failure(), RetryPolicy())
        assert decision.parked is None
        assert decision.pause
        (batch,) = decision.following
    assert batch.failures == batch.invocations == 50


def test_records_above_the_age_are_parked_from_the_head() -> None:
    old, young = records(3, created_at=0.0), records(5, created_at=100.0)[3:]
    decision = expire(Batch((*old, *young)), RetryPolicy(maximum_age_seconds=60), now=120.0)
    assert decision.parked is not None
    assert numbers(decision.parked.records) == [0, 1, 2]
    assert decision.reason is ParkedReason.AGE
    assert [numbers(batch.records) for batch in decision.following] == [[3, 4]]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", None),
        (b"null", None),
        (b"{}", None),
        (b'{"batchItemFailures": []}', None),
        (b'{"batchItemFailures": null}', None),
        (b'{"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "1"}]}', Failure(1, reported=True)),
        (b'{"batchItemFailures": [{"itemIdentifier": ""}]}', Failure()),
        (b'{"batchItemFailures": [{"itemIdentifier": null}]}', Failure()),
        (b'{"batchItemFailures": [{"wrongName": "1"}]}', Failure()),
        (b'{"batchItemFailures": [{"itemIdentifier": "99"}]}', Failure()),
        (b"no json", Failure()),
    ],
)
def test_reported_failures_are_read_as_documented(answer: bytes, expected: Failure | None) -> None:
    assert reported_failure(answer, records(4)) == expected


@given(st.permutations(range(30)))
def test_a_checkpoint_never_passes_an_unfinished_record(order: list[int]) -> None:
    progress = ShardProgress(None)
    progress.fetched([str(number) for number in range(30)])
    finished: set[int] = set()
    for number in order:
        progress.finished([str(number)])
        finished.add(number)
        lowest_open = next(n for n in range(31) if n not in finished)
        assert progress.checkpoint == (str(lowest_open - 1) if lowest_open else None)
    assert progress.pending == 0


def test_answers_are_json_of_a_real_response() -> None:
    answer = json.dumps({"batchItemFailures": [{"itemIdentifier": "3"}]}).encode()
    assert reported_failure(answer, records(4)) == Failure(3, reported=True)
