"""Carry messages over: read, guard against loops and repeats, send, and only then let the source forget.

A message that has come from the other side never goes back there: the subscription's filter and this guard both say so. Every
message ends as exactly one of the outcomes, and each is counted.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from functions.bridge.carriers import Entry, Topic
from functions.bridge.parcel import Outgoing, Parcel, from_sqs, to_pubsub, to_sqs
from functions.bridge.window import Window
from functions.errors import FunctionError, PermanentError, TransientError
from functions.gathering import Gathering
from functions.settings import Site
from functions.telemetry import LOGGER


class Outcome(StrEnum):
    """What became of one message."""

    CARRIED = "carried"
    LOOP = "loop"
    REPEAT = "repeat"
    PARKED = "parked"
    FAILED = "failed"


@dataclass(frozen=True)
class Load:
    """A batch sorted out: what to send (with the record it came from), and what can never be sent, with the reason."""

    ready: Sequence[tuple[Mapping[str, Any], Parcel, Outgoing]]
    refused: Sequence[tuple[Mapping[str, Any], str]]
    outcomes: Counter[Outcome]


@dataclass(frozen=True)
class Result:
    """What a batch came to; `failed` holds the ids of the messages that are to come again."""

    failed: Sequence[str]
    outcomes: Mapping[Outcome, int]


class Source(Protocol):
    """The queue that a message came from."""

    def park(self, record: Mapping[str, Any], reason: str) -> None:
        """Put the message on the queue's dead letter queue with the reason; the caller then lets it go."""


def sort_out(records: Sequence[Mapping[str, Any]], here: Site, window: Window, now_ms: int) -> Load:
    """Return what a batch of SQS messages asks for. Repeats inside the batch are found as well."""
    ready: list[tuple[Mapping[str, Any], Parcel, Outgoing]] = []
    refused: list[tuple[Mapping[str, Any], str]] = []
    outcomes: Counter[Outcome] = Counter()
    seen: set[tuple[Site, str]] = set()
    for record in records:
        try:
            parcel = from_sqs(record, here)
            if parcel.origin is here.peer:
                outcomes[Outcome.LOOP] += 1
            elif (parcel.origin, parcel.identity) in seen or window.holds(parcel, now_ms):
                outcomes[Outcome.REPEAT] += 1
            else:
                ready.append((record, parcel, to_pubsub(parcel)))
                seen.add((parcel.origin, parcel.identity))
        except PermanentError as error:
            refused.append((record, str(error)))
    return Load(ready, refused, outcomes)


@dataclass(frozen=True)
class QueueToTopic:
    """From a queue of site `here` to a topic of the other side."""

    here: Site
    source: Source
    topic: Topic
    window: Window
    clock_ms: Callable[[], int]

    def run(self, records: Sequence[Mapping[str, Any]]) -> Result:
        """Carry a batch: one publish for all of it. What is not in `failed` may be deleted."""
        load = sort_out(records, self.here, self.window, self.clock_ms())
        outcomes = Counter(load.outcomes)
        failed: list[str] = []
        if load.ready:
            try:
                self.topic.publish([outgoing for _, _, outgoing in load.ready])
                for _, parcel, _ in load.ready:
                    self.window.add(parcel, self.clock_ms())
                outcomes[Outcome.CARRIED] += len(load.ready)
            except TransientError as error:
                LOGGER.warning("%d messages could not be published: %s", len(load.ready), error)
                failed += [str(record["messageId"]) for record, _, _ in load.ready]
            except PermanentError as error:
                # Each was checked against the topic's limits, so it is the topic that is wrong: people mend that.
                LOGGER.error("the topic refused %d messages: %s", len(load.ready), error)
                failed += [str(record["messageId"]) for record, _, _ in load.ready]
        for record, reason in load.refused:
            LOGGER.error("message parked", extra={"key": record.get("messageId"), "reason": reason})
            try:
                self.source.park(record, reason)
                outcomes[Outcome.PARKED] += 1
            except (TransientError, PermanentError) as error:
                LOGGER.error("message could not be parked: %s", error)
                failed.append(str(record.get("messageId", "")))
        outcomes[Outcome.FAILED] = len(failed)
        return Result(failed, {outcome: outcomes[outcome] for outcome in Outcome})


@dataclass(frozen=True)
class TopicToQueue:
    """From a topic of site `here` to a queue of the other side. Many threads may carry at once; they share calls.

    `sending` gathers the entries of requests that run at once: Pub/Sub pushes one message a request, SQS takes ten a call.
    """

    here: Site
    fifo: bool
    sending: Gathering[Entry, FunctionError | None]
    window: Window
    clock_ms: Callable[[], int]

    def run(self, parcel: Parcel) -> Outcome:
        """Carry one message; returns when the queue has it. Raises what says whether it may pass later."""
        if parcel.origin is self.here.peer:
            return Outcome.LOOP
        if self.window.holds(parcel, self.clock_ms()):
            return Outcome.REPEAT
        error = self.sending.submit(to_sqs(parcel, self.fifo))
        if error is not None:
            raise error
        self.window.add(parcel, self.clock_ms())
        return Outcome.CARRIED
