"""Batches over the bridge: one call, deletes only after it, loops and repeats stopped, refusals parked."""

import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from functions.bridge.carry import Outcome, QueueToTopic, TopicToQueue
from functions.bridge.parcel import ORIGIN, Outgoing, Parcel
from functions.bridge.window import WINDOW_MS, Window
from functions.errors import FunctionError
from functions.gathering import Gathering
from functions.settings import Site
from functions.stores.errors import StoreRefusedError, StoreUnavailableError


class MemoryTopic:
    def __init__(self) -> None:
        self.calls: list[list[Outgoing]] = []
        self.error: Exception | None = None

    def publish(self, messages: Sequence[Outgoing]) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(list(messages))


class MemorySource:
    def __init__(self) -> None:
        self.parked: list[tuple[str, str]] = []
        self.error: Exception | None = None

    def park(self, record: Mapping[str, Any], reason: str) -> None:
        if self.error is not None:
            raise self.error
        self.parked.append((record["messageId"], reason))


class Clock:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def record(number: int, **attributes: str) -> dict[str, Any]:
    typed = {name: {"dataType": "String", "stringValue": value} for name, value in attributes.items()}
    return {"messageId": f"m-{number}", "body": f"body {number}", "messageAttributes": typed, "attributes": {}}


class Bridge:
    def __init__(self) -> None:
        self.topic, self.source, self.clock = MemoryTopic(), MemorySource(), Clock()
        self.carry = QueueToTopic(Site.AWS, self.source, self.topic, Window(), self.clock)


def test_ten_messages_are_one_publish() -> None:
    bridge = Bridge()
    result = bridge.carry.run([record(number) for number in range(10)])
    assert [len(call) for call in bridge.topic.calls] == [10]
    assert result.failed == [] and result.outcomes[Outcome.CARRIED] == 10


def test_nothing_is_let_go_before_the_publish_is_acknowledged() -> None:
    bridge = Bridge()
    bridge.topic.error = StoreUnavailableError("no answer")
    result = bridge.carry.run([record(1), record(2)])
    assert result.failed == ["m-1", "m-2"]
    bridge.topic.error = None
    assert bridge.carry.run([record(1), record(2)]).outcomes[Outcome.CARRIED] == 2


def test_a_message_of_the_other_side_never_goes_back() -> None:
    bridge = Bridge()
    result = bridge.carry.run([record(1, **{ORIGIN: "gcp"}), record(2, **{ORIGIN: "aws"}), record(3)])
    assert result.outcomes[Outcome.LOOP] == 1
    assert [len(call) for call in bridge.topic.calls] == [2]


def test_a_repeat_is_carried_once_within_the_window_and_again_after_it() -> None:
    bridge = Bridge()
    assert bridge.carry.run([record(1), record(1)]).outcomes[Outcome.REPEAT] == 1
    assert bridge.carry.run([record(1)]).outcomes[Outcome.REPEAT] == 1
    bridge.clock.now_ms += WINDOW_MS
    assert bridge.carry.run([record(1)]).outcomes[Outcome.CARRIED] == 1


def test_a_message_that_can_never_pass_is_parked_and_the_others_go_on() -> None:
    bridge = Bridge()
    result = bridge.carry.run([record(1), record(2, long="v" * 2_000), record(3)])
    assert [parked[0] for parked in bridge.source.parked] == ["m-2"]
    assert "allowed 1024" in bridge.source.parked[0][1]
    assert (result.failed, result.outcomes[Outcome.CARRIED]) == ([], 2)


def test_what_cannot_be_parked_comes_again() -> None:
    bridge = Bridge()
    bridge.source.error = StoreRefusedError("no dead letter queue")
    assert bridge.carry.run([record(1, long="v" * 2_000)]).failed == ["m-1"]


def test_window_forgets_the_oldest_first() -> None:
    window = Window(most=2)
    parcels = [Parcel(str(number), Site.AWS, b"") for number in range(3)]
    for number, parcel in enumerate(parcels):
        window.add(parcel, number)
    assert [window.holds(parcel, 3) for parcel in parcels] == [False, True, True]


class MemoryQueue:
    """Takes a batch at a time and counts how many calls overlapped."""

    def __init__(self) -> None:
        self.batches: list[list[Mapping[str, Any]]] = []
        self.refuse: set[str] = set()
        self.first = threading.Event()
        self.go_on = threading.Event()
        self._running = 0

    def send(self, entries: Sequence[Mapping[str, Any]]) -> list[FunctionError | None]:
        self._running += 1
        assert self._running == 1, "two calls at once"
        self.batches.append(list(entries))
        self.first.set()
        assert self.go_on.wait(10)
        self._running -= 1
        return [
            StoreUnavailableError("not taken") if entry["MessageBody"] in self.refuse else None for entry in entries
        ]


def test_requests_that_arrive_together_share_calls_and_each_learns_its_own_fate() -> None:
    queue = MemoryQueue()
    queue.refuse = {"body 7"}
    carry = TopicToQueue(Site.GCP, False, Gathering(queue.send, 10), Window(), Clock())
    fates: dict[int, object] = {}

    def one(number: int) -> None:
        try:
            fates[number] = carry.run(Parcel(str(number), Site.GCP, f"body {number}".encode()))
        except StoreUnavailableError as error:
            fates[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(21)]
    threads[0].start()
    assert queue.first.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(carry.sending._waiting) < 20:
        threading.Event().wait(0.001)
    queue.go_on.set()
    for thread in threads:
        thread.join(10)
    assert [len(batch) for batch in queue.batches] == [1, 10, 10]
    assert sum(fate is Outcome.CARRIED for fate in fates.values()) == 20
    assert isinstance(fates[7], StoreUnavailableError)


@pytest.mark.parametrize("seed", range(5))
def test_every_message_ends_as_one_outcome(seed: int) -> None:
    chance = random.Random(seed)
    bridge = Bridge()
    total: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
    delivered = 0
    for _ in range(200):
        batch = [
            record(
                chance.randrange(300),
                **({ORIGIN: "gcp"} if chance.random() < 0.2 else {}),
                **({"long": "v" * 2_000} if chance.random() < 0.1 else {}),
            )
            for _ in range(chance.randint(1, 10))
        ]
        bridge.topic.error = StoreUnavailableError("x") if chance.random() < 0.3 else None
        result = bridge.carry.run(batch)
        delivered += len(batch)
        for outcome, count in result.outcomes.items():
            total[outcome] += count
    assert sum(total.values()) == delivered
    carried = [message.attributes["lifeboat_id"] for call in bridge.topic.calls for message in call]
    assert len(carried) == len(set(carried)) == total[Outcome.CARRIED]
