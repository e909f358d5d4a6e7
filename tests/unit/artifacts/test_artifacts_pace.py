"""Throttling is waited out with random pauses and a limit; a sender keeps to its rate."""

import pytest
from memory_objects import MemoryObjects

from functions.artifacts.transfer import FIRST_SECONDS, LONGEST_SECONDS, TRIES, Pace, PatientObjects
from functions.stores.errors import NotFoundError, StoreUnavailableError, ThrottledError
from functions.stores.protocols import ObjectInfo


class Throttling(MemoryObjects):
    """A store that throttles the first calls."""

    left = 0
    fault_kind: type[Exception] = ThrottledError

    def head(self, key: str) -> ObjectInfo:
        if self.left:
            self.left -= 1
            raise self.fault_kind("slow down")
        return super().head(key)


def test_throttling_is_waited_out_with_pauses_that_grow_and_end() -> None:
    store, pauses = Throttling(), list[float]()
    store.put("a", b"1")
    patient = PatientObjects(store, pause=pauses.append, chance=lambda: 1.0)
    store.left = TRIES - 1
    assert patient.head("a").size == 1
    assert pauses == [min(LONGEST_SECONDS, FIRST_SECONDS * 2**number) for number in range(TRIES - 1)]
    store.left = TRIES
    with pytest.raises(ThrottledError):
        patient.head("a")


def test_pauses_are_random_within_their_bound() -> None:
    store, pauses = Throttling(), list[float]()
    store.put("a", b"1")
    store.left = 3
    PatientObjects(store, pause=pauses.append).head("a")
    assert all(0 <= pause <= FIRST_SECONDS * 2**number for number, pause in enumerate(pauses))


def test_any_other_fault_goes_up_at_once() -> None:
    store, pauses = Throttling(), list[float]()
    patient = PatientObjects(store, pause=pauses.append)
    with pytest.raises(NotFoundError):
        patient.head("a")
    store.fault_kind, store.left = StoreUnavailableError, 1
    with pytest.raises(StoreUnavailableError):
        patient.head("a")
    assert not pauses


def test_every_verb_reaches_the_store() -> None:
    store = MemoryObjects()
    patient = PatientObjects(store)
    patient.put("p/1", b"ab", metadata={"a": "b"})
    patient.put("p/2", b"c", absent=True)
    assert patient.get("p/1", 10)[0] == b"ab"
    assert patient.get_range("p/1", 1, 1) == b"b"
    assert [info.key for info in patient.list("p/")] == ["p/1", "p/2"]
    assert patient.assemble("q", ["p/1", "p/2"], 0).size == 3
    patient.delete("q")
    assert "q" not in store.objects


def test_bytes_go_at_the_rate_that_was_told() -> None:
    now, pauses = [100.0], list[float]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    patient = PatientObjects(MemoryObjects(), Pace(1_000, clock=lambda: now[0], pause=pause))
    for number in range(5):
        patient.put(f"{number}", bytes(500))
    # The first goes at once; each after it waits for the one before.
    assert pauses == pytest.approx([0.5] * 4)
    now[0] += 10
    patient.put("later", bytes(500))
    assert len(pauses) == 4
    Pace(0, pause=pause).spend(1 << 40)
    assert len(pauses) == 4
