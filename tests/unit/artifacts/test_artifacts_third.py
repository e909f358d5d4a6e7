"""The third copy: whole, proven by what it attests, never torn, and what stands there already is not sent again."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from artifact_way import Way, clock_ms
from memory_objects import Fault, MemoryObjects
from signing import trust

from functions.artifacts import alias, plan
from functions.artifacts.announce import Announcer
from functions.artifacts.documents import Alias, find
from functions.artifacts.errors import ManifestError, VerificationError
from functions.artifacts.manifest import decode
from functions.artifacts.paths import alias_key, file_key, manifest_key
from functions.artifacts.plan import ThirdJob
from functions.artifacts.sweep import QUIET_MS, Sweeper
from functions.artifacts.third import ThirdCopier, public_url
from functions.artifacts.transfer import Pace
from functions.errors import TransientError
from functions.settings import Site
from functions.stores.checksums import crc64nvme
from functions.stores.protocols import ObjectInfo


class MemoryThird(MemoryObjects):
    """A third store in memory; it counts what is sent to it."""

    sent = 0
    damage = False

    def stream(self, key: str, size: int, part_bytes: int, read: Callable[[int, int], bytes]) -> ObjectInfo:
        data = b"".join(read(start, min(part_bytes, size - start)) for start in range(0, max(1, size), part_bytes))
        self.sent += len(data)
        data = b"?" + data[1:] if self.damage and data else data
        info = self.put(key, data, absent=True)
        return ObjectInfo(info.key, info.size, info.token, None, {}, info.modified_ms, crc64nvme(data))

    def copy(self, key: str, source: str) -> ObjectInfo:
        return self.put(key, self._found(source)[0])


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def third() -> MemoryThird:
    return MemoryThird()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weights.bin").write_bytes(random.Random(1).randbytes(5_000))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


def copy(way: Way, third: MemoryThird, version: str, group: int = 0) -> bool:
    return ThirdCopier(way.here, third, 700, trust()).run(ThirdJob("m", version, group)).complete


def whole(way: Way, third: MemoryThird, version: str) -> bool:
    manifest = decode(way.here.objects[manifest_key("m", version)][0], "m", version)
    keys = [manifest_key("m", version), *(file_key("m", version, file.path) for file in manifest.files)]
    return all(third.objects.get(key, (None,))[0] == way.here.objects[key][0] for key in keys)


def test_a_version_and_its_aliases_arrive(way: Way, third: MemoryThird, folder: Path) -> None:
    version = way.publish(folder, alias="prod").version
    assert copy(way, third, version)
    assert whole(way, third, version)
    assert alias.current(third, "m", "prod") == alias.current(way.here, "m", "prod")
    sent = third.sent
    assert copy(way, third, version)
    assert third.sent == sent


def test_a_file_that_stands_there_is_copied_there(way: Way, third: MemoryThird, folder: Path) -> None:
    first = way.publish(folder).version
    copy(way, third, first)
    sent = third.sent
    (folder / "config.json").write_text('{"v": 2}')
    second = way.publish(folder, parent=first).version
    copy(way, third, second)
    assert whole(way, third, second)
    assert third.sent - sent == len('{"v": 2}')


def test_groups_that_come_in_any_order_show_the_version_last(
    way: Way, third: MemoryThird, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "GROUP_BYTES", 10)
    version = way.publish(folder).version
    groups = plan.groups(decode(way.here.objects[manifest_key("m", version)][0], "m", version))
    assert sorted(number for group in groups for number in group) == [0, 1, 2]
    done = [copy(way, third, version, group) for group in reversed(range(len(groups)))]
    assert done == [False] * (len(done) - 1) + [True]
    assert whole(way, third, version)
    with pytest.raises(ManifestError, match="groups"):
        copy(way, MemoryThird(), version, 9)


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_call_is_repaired_by_the_retry(way: Way, folder: Path, after: bool) -> None:
    version = way.publish(folder, alias="prod").version
    at, ended = 0, False
    while not ended:
        third = MemoryThird(fault=Fault(at, after))
        for _ in range(3):
            try:
                copy(way, third, version)
                break
            except TransientError:
                assert manifest_key("m", version) not in third.objects or whole(way, third, version)
        assert whole(way, third, version)
        assert alias_key("m", "prod") in third.objects
        ended, at = third.fault.calls <= at, at + 1
    assert at > 10


def test_bytes_that_arrive_as_others_are_taken_away(way: Way, third: MemoryThird, folder: Path) -> None:
    version = way.publish(folder).version
    third.damage = True
    with pytest.raises(VerificationError, match=r"CRC64NVME"):
        copy(way, third, version)
    assert manifest_key("m", version) not in third.objects
    third.damage = False
    way.here.put(file_key("m", version, "weights.bin"), b"\x00" * 5_000)
    with pytest.raises(VerificationError, match=r"weights\.bin"):
        copy(way, third, version)
    assert file_key("m", version, "weights.bin") not in third.objects


def test_files_for_the_third_copy_keep_to_the_rate(way: Way, third: MemoryThird, folder: Path) -> None:
    version, pauses = way.publish(folder).version, list[float]()
    pace = Pace(1_000, clock=lambda: 0.0, pause=pauses.append)
    job = ThirdJob("m", version, 0)
    done = ThirdCopier(way.here, third, 2_000, trust(), pace).run(job)
    # Two bytes of config, the empty file, then weights in parts of 2,000 at most: each waits for those before it.
    assert done.bytes_wire == 5_002
    assert pauses == pytest.approx([0.002, 0.002, 2.002, 4.002])


def test_an_older_alias_never_replaces_a_newer_one(way: Way, third: MemoryThird, folder: Path) -> None:
    version = way.publish(folder, alias="prod", epoch=1).version
    copy(way, third, version)
    newer = Alias(model="m", version=version, alias="prod", epoch=2, stamp=0, origin=Site.GCP)
    third.put(alias_key("m", "prod"), newer.model_dump_json().encode())
    copy(way, third, version)
    found = find(third, alias_key("m", "prod"), Alias)
    assert found is not None and found[0] == newer


def test_events_and_the_sweeper_ask_for_it(way: Way, third: MemoryThird, folder: Path) -> None:
    version = way.publish(folder, alias="prod").version

    def announce(key: str) -> list[object]:
        way.jobs.messages.clear()
        Announcer(Site.AWS, way.here, way.there, way.jobs, way.arrived, 10 << 20, trust(), third=True).run(key)
        return [plan.decode_sending_job(message.body) for message in way.jobs.messages]

    assert ThirdJob("m", version, 0) in announce(manifest_key("m", version))
    way.jobs.messages.clear()
    way.travel(version)
    alias.move(way.here, "m", "canary", version, epoch=1, site=Site.AWS, clock_ms=clock_ms)
    assert announce("aliases/m/canary.json") == [ThirdJob("m", version, 0)]

    def swept(later_ms: int, side: Way) -> int:
        queue = way.jobs if side is way else side.jobs
        return (
            Sweeper(
                side.site,
                side.here,
                side.there,
                queue,
                way.topic,
                10 << 20,
                lambda: clock_ms() + later_ms,
                trust(),
                third,
            )
            .run()
            .third
        )

    assert swept(QUIET_MS + 1, way) == 1
    # The site that it came to waits longer: the one that it came from may be at it.
    assert swept(QUIET_MS + 1, way.back) == 0
    assert swept(4 * QUIET_MS + 1, way.back) == 1
    copy(way, third, version)
    assert swept(4 * QUIET_MS + 1, way.back) == 0
    third.fault = Fault(at=0)
    assert swept(4 * QUIET_MS + 1, way) == 0


def test_the_public_address_of_a_file_is_quoted() -> None:
    assert public_url("https://models.example.com/", "m", "1a", "sub folder/a#b") == (
        "https://models.example.com/models/m/1a/sub%20folder/a%23b"
    )
