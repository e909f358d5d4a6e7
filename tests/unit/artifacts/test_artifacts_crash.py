"""A crash at every call to either store, before and after its effect, both ways: nothing torn shows, and the version arrives.

It arrives by the retry of the message at which a function died or, where that is lost too, by the sweeper.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from artifact_way import Way
from memory_objects import NOW_MS, Fault, MemoryObjects
from safetensors.numpy import save_file
from signing import trust

from functions.artifacts import alias, plan
from functions.artifacts.announce import Announcer
from functions.artifacts.encode import Encoder
from functions.artifacts.paths import alias_key, manifest_key, receipt_key
from functions.artifacts.sweep import QUIET_MS, Sweeper
from functions.errors import FunctionError, TransientError
from functions.settings import Site
from functions.stores.protocols import Message

# Small, so that a test's model has many parts and a run takes milliseconds.
CHUNK_BYTES = 4_000
SWEEPS = 4


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "CHUNK_BYTES_RANGE", (1, 1 << 28))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A parent with a file of several parts, and a child of which one tensor differs."""
    root = tmp_path_factory.mktemp("models")
    chance = np.random.default_rng(3)
    tensors = {f"layer{number}": chance.standard_normal((40, 20), np.float32) for number in range(3)}
    made = []
    for name in ("parent", "child"):
        folder = root / name
        folder.mkdir()
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(f'{{"name": "{name}"}}')
        (folder / "vocabulary.bin").write_bytes(random.Random(4).randbytes(3_000))
        tensors["layer1"] = tensors["layer1"] * np.float32(1.01)
        made.append(folder)
    return made[0], made[1]


class Crashing:
    """One version on its way between two stores of which one fails at one call."""

    def __init__(self, site: Site, folders: tuple[Path, Path]) -> None:
        self.way = Way(site)
        self.parent = self.way.publish(folders[0]).version
        self._announce(self.parent)
        self._drain()
        published = self.way.publish(folders[1], parent=self.parent, alias="prod")
        self.version, self.alias = published.version, published.alias

    def plant(self, store: MemoryObjects, at: int, after: bool) -> None:
        store.fault = Fault(at, after)

    def travel(self, step: Callable[[Callable[[], object]], None]) -> None:
        """Run the path once; `step` runs one message and says what becomes of it when its function dies."""
        step(lambda: self._announce(self.version))
        step(lambda: self._announcer().run(alias_key("m", "prod")))
        self.travel_queues(step)

    def travel_queues(self, step: Callable[[Callable[[], object]], None]) -> None:
        """Run what lies on the queues until they are empty."""
        encoder = Encoder(self.way.here, self.way.there, self.way.topic)
        while self.way.jobs.messages or self.way.topic.messages:
            for message in self._taken(self.way.jobs.messages):
                step(lambda body=message.body: encoder.run(plan.decode_sending_job(body)))  # type: ignore[misc]
            for message in self._taken(self.way.topic.messages):
                step(lambda body=message.body: self.way.rebuild(body))  # type: ignore[misc]

    def sweep(self, round_: int) -> None:
        """Let both sites sweep, later and later."""
        for site in Site:
            way = self.way if site is self.way.site else self.way.back
            Sweeper(
                site,
                way.here,
                way.there,
                way.jobs,
                self.way.topic if way is not self.way else way.arrived,
                CHUNK_BYTES,
                lambda: NOW_MS + round_ * (QUIET_MS + 1),
                trust(),
            ).run(deep=True)

    def check_not_torn(self) -> None:
        if manifest_key("m", self.version) in self.way.there.objects:
            assert self.way.whole(self.version)
        moved = alias.current(MemoryObjects(objects=self.way.there.objects), "m", "prod")
        assert moved is None or manifest_key("m", moved.version) in self.way.there.objects

    @property
    def arrived(self) -> bool:
        there = self.way.there.objects
        return (
            self.way.whole(self.version) and receipt_key("m", self.version) in there and alias_key("m", "prod") in there
        )

    def _announcer(self) -> Announcer:
        way = self.way
        return Announcer(way.site, way.here, way.there, way.jobs, way.arrived, CHUNK_BYTES, trust())

    def _announce(self, version: str) -> None:
        self._announcer().run(manifest_key("m", version))

    def _drain(self) -> None:
        encoder = Encoder(self.way.here, self.way.there, self.way.topic)
        for message in self._taken(self.way.jobs.messages):
            encoder.run(plan.decode_sending_job(message.body))
        for message in self._taken(self.way.topic.messages):
            self.way.rebuild(message.body)

    @staticmethod
    def _taken(messages: list[Message]) -> Iterator[Message]:
        while messages:
            yield messages.pop(0)


def retried(crashing: Crashing) -> Callable[[Callable[[], object]], None]:
    def step(work: Callable[[], object]) -> None:
        for _ in range(3):
            try:
                work()
                break
            except TransientError:
                crashing.check_not_torn()
        crashing.check_not_torn()

    return step


def lost(crashing: Crashing) -> Callable[[Callable[[], object]], None]:
    def step(work: Callable[[], object]) -> None:
        with contextlib.suppress(FunctionError):
            work()
        crashing.check_not_torn()

    return step


def calls(folders: tuple[Path, Path], site: Site, where: str) -> range:
    """Return the numbers of the calls to one store that a version takes."""
    crashing = Crashing(site, folders)
    store: MemoryObjects = getattr(crashing.way, where)
    crashing.plant(store, -1, False)
    crashing.travel(retried(crashing))
    assert crashing.arrived
    assert store.fault.calls > 15
    return range(store.fault.calls)


@pytest.mark.parametrize("site", list(Site))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", ["here", "there"])
def test_a_crash_at_any_call_is_repaired_by_the_retry(
    folders: tuple[Path, Path], site: Site, after: bool, where: str
) -> None:
    for at in calls(folders, site, where):
        crashing = Crashing(site, folders)
        crashing.plant(getattr(crashing.way, where), at, after)
        crashing.travel(retried(crashing))
        # The event of an alias that came ahead of its version comes again.
        crashing.travel(retried(crashing))
        assert crashing.arrived, f"not repaired at call {at} of {where}"


@pytest.mark.parametrize("site", list(Site))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", ["here", "there"])
def test_where_the_message_is_lost_with_the_function_the_sweeper_repairs(
    folders: tuple[Path, Path], site: Site, after: bool, where: str
) -> None:
    for at in calls(folders, site, where):
        crashing = Crashing(site, folders)
        crashing.plant(getattr(crashing.way, where), at, after)
        crashing.travel(lost(crashing))
        for round_ in range(1, SWEEPS):
            if crashing.arrived:
                break
            crashing.sweep(round_)
            crashing.travel_queues(lost(crashing))
        assert crashing.arrived, f"not repaired at call {at} of {where}"
        crashing.check_not_torn()


@pytest.mark.parametrize("seed", range(25))
def test_messages_lost_doubled_and_late_with_sweeps_between_end_the_same(folders: tuple[Path, Path], seed: int) -> None:
    chance = random.Random(seed)
    crashing = Crashing(chance.choice(list(Site)), folders)
    kept: list[Callable[[], object]] = []

    def step(work: Callable[[], object]) -> None:
        for _ in range(chance.choice([0, 1, 1, 2])):
            lost(crashing)(work)
        if chance.random() < 0.3:
            kept.append(work)

    crashing.travel(step)
    for work in chance.sample(kept, len(kept)):
        lost(crashing)(work)
    for round_ in range(1, 12):
        crashing.sweep(round_)
        crashing.travel_queues(step if round_ < 3 else lost(crashing))
        if crashing.arrived and round_ > 3:
            break
    assert crashing.arrived
    # Late ones come when all is done.
    for work in kept:
        lost(crashing)(work)
    assert crashing.arrived
    assert alias.current(crashing.way.there, "m", "prod") == crashing.alias
