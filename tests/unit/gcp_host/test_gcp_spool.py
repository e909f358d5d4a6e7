"""Messages under way survive the process that holds them."""

from pathlib import Path

import pytest

from local.clouds.gcp.backlog import Entry
from local.clouds.gcp.delivery import Message
from local.clouds.gcp.spool import Spool

SUBSCRIPTION = "projects/p/subscriptions/s"
FIRST = Message("m1", b"\x00\xff", {"a": "ä"}, 1_700_000_000_000_000_001, "key")
SECOND = Message("m2", b"", {}, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "push.db"


def test_messages_and_attempts_come_back_after_a_kill(path: Path) -> None:
    spool = Spool(path, "ground-1")
    first, second = spool.add(SUBSCRIPTION, [FIRST, SECOND])
    spool.postpone(first, attempts=3, due=12.5)
    # No close: a killed process closes nothing.
    again = Spool(path, "ground-1").load(SUBSCRIPTION)
    assert again == [Entry(first.ordinal, FIRST, 3, 12.5), second]


def test_a_message_pulled_twice_is_stored_once(path: Path) -> None:
    spool = Spool(path, "ground-1")
    assert len(spool.add(SUBSCRIPTION, [FIRST])) == 1
    assert [entry.message for entry in spool.add(SUBSCRIPTION, [FIRST, SECOND])] == [SECOND]
    assert len(spool.add("projects/p/subscriptions/other", [FIRST])) == 1


def test_settled_and_forgotten_messages_are_gone(path: Path) -> None:
    spool = Spool(path, "ground-1")
    first, second = spool.add(SUBSCRIPTION, [FIRST, SECOND])
    spool.settle(first)
    assert spool.load(SUBSCRIPTION) == [second]
    spool.forget(SUBSCRIPTION)
    assert spool.load(SUBSCRIPTION) == []


def test_another_ground_starts_empty(path: Path) -> None:
    Spool(path, "ground-1").add(SUBSCRIPTION, [FIRST])
    assert Spool(path, "ground-2").load(SUBSCRIPTION) == []
    assert Spool(path, "ground-1").load(SUBSCRIPTION) == []
