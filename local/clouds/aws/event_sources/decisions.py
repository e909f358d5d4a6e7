"""What happens to a batch of stream records after an invocation: done, tried again, split, or parked.

Pure: no clock, no network. Rules: docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html and
services-dynamodb-errors.html. Where they leave a case open (the first record of a batch is the reported one), the record
is tried alone, so that it cannot hold up the others.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class StreamRecord:
    """One change, ready to be sent."""

    sequence_number: str
    partition: str
    """Text of the item's key: records of one item stay in order."""
    created_at: float
    """Epoch seconds."""
    body: bytes
    """JSON of the record as the function gets it."""


@dataclass(frozen=True)
class Batch:
    """Records of one invocation, in stream order. `failures` are the tries that used up a retry."""

    records: tuple[StreamRecord, ...]
    failures: int = 0
    invocations: int = 0


@dataclass(frozen=True)
class RetryPolicy:
    """How long a batch is tried; None: until the stream forgets the record."""

    bisect: bool = False
    maximum_retries: int | None = None
    maximum_age_seconds: int | None = None


class ParkedReason(StrEnum):
    """Why records were given up, in the words of an invocation record."""

    RETRIES = "RetryAttemptsExhausted"
    AGE = "RecordAgeExceeded"


@dataclass(frozen=True)
class Failure:
    """A batch failed from record `index` on; `reported` when the function itself named that record."""

    index: int = 0
    reported: bool = False


@dataclass(frozen=True)
class Decision:
    """What to do with a batch: `done` and `parked` are finished with, `following` comes next, in order.

    Together they hold every record of the batch exactly once, in order. `pause` asks for a back-off before the next try.
    """

    done: tuple[StreamRecord, ...] = ()
    parked: Batch | None = None
    reason: ParkedReason | None = None
    following: tuple[Batch, ...] = ()
    split: bool = False
    pause: bool = False


def reported_failure(answer: bytes, records: Sequence[StreamRecord]) -> Failure | None:
    """Read a function's batchItemFailures for a stream: the lowest failed record, None for success.

    An identifier that is empty, null, misnamed or not of this batch fails the whole batch.
    """
    identifiers = failed_identifiers(answer)
    if not identifiers:
        return None
    places = {record.sequence_number: place for place, record in enumerate(records)}
    found = [places.get(identifier or "") for identifier in identifiers]
    known = [place for place in found if place is not None]
    if len(known) < len(found):
        return Failure()
    return Failure(index=min(known), reported=True)


def failed_identifiers(answer: bytes) -> list[str | None]:
    """Return the item identifiers in a partial batch response, None for a broken one; empty for success."""
    try:
        response: Any = json.loads(answer or b"null")
    except ValueError:
        return [None]
    failures = response.get("batchItemFailures") if isinstance(response, dict) else None
    if not isinstance(failures, list):
        return []
    identifiers = [failure.get("itemIdentifier") if isinstance(failure, dict) else None for failure in failures]
    return [identifier if isinstance(identifier, str) and identifier else None for identifier in identifiers]


def decide(batch: Batch, failure: Failure | None, policy: RetryPolicy) -> Decision:
    """Say what follows an invocation of the batch that ended with `failure`, or well."""
    if failure is None:
        return Decision(done=batch.records)
    tried = replace(batch, invocations=batch.invocations + 1)
    if policy.bisect and len(batch.records) > 1:
        return _split(tried, failure)
    failing = replace(tried, records=batch.records[failure.index :], failures=batch.failures + 1)
    done = batch.records[: failure.index]
    if policy.maximum_retries is not None and failing.failures > policy.maximum_retries:
        return Decision(done=done, parked=failing, reason=ParkedReason.RETRIES)
    return Decision(done=done, following=(failing,), pause=True)


def _split(batch: Batch, failure: Failure) -> Decision:
    """Split without using up a retry: every split leaves shorter batches, so it comes to an end."""
    records = batch.records
    if failure.index > 0:
        return Decision(
            done=records[: failure.index], following=(replace(batch, records=records[failure.index :]),), split=True
        )
    middle = 1 if failure.reported else len(records) // 2
    halves = (replace(batch, records=records[:middle]), replace(batch, records=records[middle:]))
    return Decision(following=halves, split=True)


def expire(batch: Batch, policy: RetryPolicy, now: float) -> Decision:
    """Part a batch that is about to be sent: records above the age limit at its head are parked, the rest follows."""
    limit = policy.maximum_age_seconds
    old = 0
    if limit is not None:
        while old < len(batch.records) and now - batch.records[old].created_at > limit:
            old += 1
    if not old:
        return Decision(following=(batch,))
    rest = batch.records[old:]
    return Decision(
        parked=replace(batch, records=batch.records[:old]),
        reason=ParkedReason.AGE,
        following=(replace(batch, records=rest),) if rest else (),
    )


class ShardProgress:
    """How far a shard is finished, when its records finish in another order than they came.

    `checkpoint` is the last sequence number below and at which everything is finished.
    """

    def __init__(self, checkpoint: str | None) -> None:
        self.checkpoint = checkpoint
        # Insertion order is stream order.
        self._finished: dict[str, bool] = {}

    @property
    def pending(self) -> int:
        """Records above the checkpoint that were fetched."""
        return len(self._finished)

    def fetched(self, sequence_numbers: Sequence[str]) -> None:
        """Take note of records, in stream order."""
        for number in sequence_numbers:
            self._finished[number] = False

    def finished(self, sequence_numbers: Sequence[str]) -> bool:
        """Take note of finished records; say whether the checkpoint moved."""
        for number in sequence_numbers:
            self._finished[number] = True
        moved = False
        while self._finished:
            number = next(iter(self._finished))
            if not self._finished[number]:
                break
            del self._finished[number]
            self.checkpoint, moved = number, True
        return moved
