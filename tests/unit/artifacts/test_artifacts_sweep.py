"""The sweeper: what it decides from the state of both sites, and that it repairs whatever was lost without undoing anything."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from artifact_way import CHUNK_BYTES, Way, clock_ms
from hypothesis import given
from hypothesis import strategies as st
from memory_objects import MemoryObjects, MemoryQueue
from signing import trust

from functions.artifacts import alias, plan
from functions.artifacts.documents import Alias
from functions.artifacts.paths import file_key, manifest_key, receipt_key
from functions.artifacts.sweep import DAY_MS, QUIET_MS, Holding, Sweeper, Swept, compare
from functions.settings import Site

NOW = 1_795_500_000_000
ONE, TWO = ("m", "1a" * 32), ("m", "2b" * 32)


def ago(milliseconds: int) -> int:
    return NOW - milliseconds


def test_what_the_other_site_lacks_is_sent_once_nothing_moves() -> None:
    home = Holding(manifests={ONE: ago(QUIET_MS + 1), TWO: ago(QUIET_MS - 1)})
    assert compare(home, Holding(), NOW).send == [ONE]
    assert compare(home, Holding(manifests={ONE: NOW}), NOW).send == []
    # It waits, or parts of it still come in.
    assert compare(home, Holding(pending={ONE: ago(QUIET_MS - 1)}), NOW).send == []
    assert compare(home, Holding(parts={f"parts/{ONE[1]}/9/00000/000001": ago(5)}), NOW).send == []
    assert compare(home, Holding(pending={ONE: ago(QUIET_MS + 1)}), NOW).send == [ONE]


def test_what_came_over_and_has_no_receipt_is_proven() -> None:
    home = Holding(manifests={ONE: ago(QUIET_MS + 1)}, transfers={ONE: NOW})
    away = Holding(manifests={ONE: NOW})
    assert compare(home, away, NOW).prove == [ONE]
    assert compare(replace(home, receipts={ONE: NOW}), away, NOW).prove == []
    # What was published here has no transfer, and needs no receipt here.
    assert compare(replace(home, transfers={}), away, NOW).prove == []


def test_of_two_states_of_an_alias_the_newer_goes_over() -> None:
    older = Alias(model="m", version=ONE[1], alias="prod", epoch=1, stamp=4, origin=Site.AWS)
    newer = Alias(model="m", version=TWO[1], alias="prod", epoch=1, stamp=8, origin=Site.AWS)
    name = ("m", "prod")
    assert compare(Holding(aliases={name: newer}), Holding(aliases={name: older}), NOW).carry == [name]
    assert compare(Holding(aliases={name: newer}), Holding(), NOW).carry == [name]
    assert compare(Holding(aliases={name: older}), Holding(aliases={name: newer}), NOW).carry == []
    assert compare(Holding(aliases={name: newer}), Holding(aliases={name: newer}), NOW).carry == []


ages = st.integers(0, 3 * DAY_MS)
versions = st.sampled_from([ONE, TWO])


@given(
    st.dictionaries(versions, ages),
    st.dictionaries(versions, ages),
    st.dictionaries(st.builds(lambda v, n: f"parts/{v[1]}/9/00000/{n:06d}", versions, st.integers(0, 3)), ages),
    st.dictionaries(st.builds(lambda n: f"packs/{n:064x}", st.integers(0, 3)), ages),
    st.dictionaries(st.builds(lambda v, n: f"models/m/{v[1]}/sub/{n}", versions, st.integers(0, 3)), ages),
)
def test_nothing_is_deleted_that_can_be_needed(
    manifests: dict[tuple[str, str], int],
    pending: dict[tuple[str, str], int],
    parts: dict[str, int],
    packs: dict[str, int],
    files: dict[str, int],
) -> None:
    home = Holding(
        manifests={name: ago(age) for name, age in manifests.items()},
        pending={name: ago(age) for name, age in pending.items()},
        parts={name: ago(age) for name, age in parts.items()},
        packs={name: ago(age) for name, age in packs.items()},
        files={name: ago(age) for name, age in files.items()},
    )
    gone = set(compare(home, Holding(), NOW).delete)
    for key, age in {**parts, **packs, **files}.items():
        assert key not in gone or age > DAY_MS
    for key in files:
        version = key.split("/")[2]
        assert key not in gone or ("m", version) not in manifests
        signs = [age for other, age in parts.items() if version in other]
        waits = ("m", version) in pending and min([pending["m", version], *signs]) <= DAY_MS
        assert key not in gone or not waits
        assert key not in gone or min(age for other, age in files.items() if version in other) > DAY_MS
    for (model, version), age in pending.items():
        if f"pending/{model}/{version}.json" in gone:
            assert (model, version) in manifests or age > DAY_MS
    # And what nobody needs does go.
    idle = {key for key, age in packs.items() if age > DAY_MS}
    assert idle <= gone


class Sides:
    """A way and its return, with a sweeper on either side."""

    def __init__(self) -> None:
        self.way = Way()
        self.later_ms = 0

    def sweep(self, site: Site, deep: bool = False) -> Swept:
        way = self.way if site is Site.AWS else self.way.back
        sweeper = Sweeper(
            site,
            way.here,
            way.there,
            self.way.jobs if site is Site.AWS else MemoryQueue(),
            self.way.topic,
            CHUNK_BYTES,
            lambda: NOW + self.later_ms,
            trust(),
        )
        return sweeper.run(deep)


@pytest.fixture
def sides() -> Sides:
    return Sides()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    noise = random.Random(5).randbytes(1 << 16)
    (root / "weights.bin").write_bytes(noise + b"\x00" * CHUNK_BYTES)
    (root / "config.json").write_text("{}")
    return root


def settle(sides: Sides) -> None:
    way = sides.way
    while way.jobs.messages or way.topic.messages:
        way.encode_all()
        way.jobs.messages.clear()
        todo, way.topic.messages = way.topic.messages, []
        for message in todo:
            way.rebuild(message.body)


def test_a_version_whose_event_was_lost_arrives_by_the_sweep(sides: Sides, folder: Path) -> None:
    version = sides.way.publish(folder, alias="prod").version
    assert sides.sweep(Site.AWS).sent == 0
    sides.later_ms = QUIET_MS + 1
    assert sides.sweep(Site.AWS).sent == 1
    settle(sides)
    assert sides.way.whole(version)
    assert alias.current(sides.way.there, "m", "prod") == alias.current(sides.way.here, "m", "prod")
    for site in Site:
        assert sides.sweep(site) == Swept(0, 0, 0, 0, 0)


def test_only_the_batches_that_are_missing_are_sent_again(sides: Sides, folder: Path) -> None:
    version = sides.way.publish(folder).version
    sides.way.announce(manifest_key("m", version))
    assert len(sides.way.jobs.messages) > 1
    sides.way.encode_all()
    sides.way.jobs.messages.clear()
    sides.way.rebuild(sides.way.topic.messages[0].body)
    sides.way.topic.messages.clear()
    sides.later_ms = QUIET_MS + 1
    assert sides.sweep(Site.AWS).sent == 1
    assert [plan.decode_sending_job(message.body).batch for message in sides.way.jobs.messages] == [1, 2]
    settle(sides)
    assert sides.way.whole(version)


def test_a_lost_alias_event_and_a_lost_receipt_are_made_good(sides: Sides, folder: Path) -> None:
    version = sides.way.publish(folder).version
    sides.way.travel(version)
    alias.move(sides.way.here, "m", "prod", version, epoch=1, site=Site.AWS, clock_ms=clock_ms)
    assert sides.sweep(Site.GCP).carried == 0
    assert sides.sweep(Site.AWS).carried == 1
    assert alias.current(sides.way.there, "m", "prod") == alias.current(sides.way.here, "m", "prod")
    sides.way.there.delete(receipt_key("m", version))
    sides.later_ms = QUIET_MS + 1
    assert sides.sweep(Site.AWS).proven == 0
    assert sides.sweep(Site.GCP).proven == 1
    settle(sides)
    assert receipt_key("m", version) in sides.way.there.objects


def test_what_a_dead_transfer_left_is_deleted_after_a_day_and_comes_again(sides: Sides, folder: Path) -> None:
    version = sides.way.publish(folder).version
    sides.way.announce(manifest_key("m", version))
    sides.way.encode_all()
    sides.way.rebuild(sides.way.topic.messages[1].body)
    sides.way.topic.messages.clear()
    assert {key.split("/")[0] for key in sides.way.there.objects} >= {"packs", "parts", "pending"}
    sides.later_ms = DAY_MS - 1
    assert sides.sweep(Site.GCP, deep=True).deleted == 0
    sides.later_ms = DAY_MS + 1
    assert sides.sweep(Site.GCP, deep=True).deleted > 0
    assert not sides.way.there.objects
    assert sides.sweep(Site.AWS).sent == 1
    settle(sides)
    assert sides.way.whole(version)


def test_files_of_a_publish_that_died_are_deleted_and_others_stay(sides: Sides, folder: Path) -> None:
    version = sides.way.publish(folder).version
    torn = file_key("m", "5c" * 32, "weights.bin")
    sides.way.here.put(torn, b"half")
    sides.later_ms = DAY_MS + 1
    assert sides.sweep(Site.AWS).deleted == 0
    assert sides.sweep(Site.AWS, deep=True).deleted == 1
    assert torn not in sides.way.here.objects
    assert file_key("m", version, "weights.bin") in sides.way.here.objects


def test_a_damaged_manifest_does_not_keep_others_from_being_sent(sides: Sides, folder: Path) -> None:
    sides.way.here.put(manifest_key("a", "1a" * 32), b"{}")
    version = sides.way.publish(folder).version
    sides.later_ms = QUIET_MS + 1
    swept = sides.sweep(Site.AWS)
    assert (swept.sent, swept.open) == (1, 1)
    settle(sides)
    assert sides.way.whole(version)


def test_sweeps_in_the_middle_of_a_transfer_change_nothing(sides: Sides, folder: Path) -> None:
    version = sides.way.publish(folder).version
    sides.way.announce(manifest_key("m", version))
    sides.way.encode_all()
    sides.way.jobs.messages.clear()
    for message in sides.way.topic.messages:
        before = dict(sides.way.there.objects)
        for site in Site:
            assert sides.sweep(site, deep=True) == Swept(0, 0, 0, 0, 0)
        assert sides.way.there.objects == before
        sides.way.rebuild(message.body)
    assert sides.way.whole(version)
    assert isinstance(sides.way.there, MemoryObjects)
