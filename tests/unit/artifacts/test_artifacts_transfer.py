"""The whole way of a version between two stores in memory: complete or invisible, whatever fails in between."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from memory_objects import Fault, MemoryObjects, MemoryQueue

from functions.artifacts import alias, plan
from functions.artifacts.alias import Moved, carry, move
from functions.artifacts.announce import Announcer
from functions.artifacts.documents import Transfer, find
from functions.artifacts.encode import encode_chunk
from functions.artifacts.errors import (
    AliasConflictError,
    ManifestError,
    PackError,
    StaleEpochError,
    VerificationError,
    VersionNotReadyError,
)
from functions.artifacts.manifest import decode
from functions.artifacts.paths import file_key, manifest_key, receipt_key, transfer_key
from functions.artifacts.publish import Published, publish
from functions.artifacts.rebuild import Rebuilder
from functions.artifacts.verify import verify
from functions.errors import TransientError
from functions.settings import Site
from functions.stores.errors import PreconditionFailedError

# The least that settings allow: the test's model then has several chunks a file.
CHUNK_BYTES = 10 << 20


def clock_ms() -> int:
    return 1_795_500_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    (root / "sub").mkdir()
    (root / "config.json").write_text('{"dim": 4}')
    (root / "sub" / "empty").write_bytes(b"")
    noise = random.Random(5).randbytes(1 << 16)
    (root / "weights.bin").write_bytes(noise + b"\x00" * CHUNK_BYTES)
    return root


class Way:
    """Both sites and what lies between them."""

    def __init__(self) -> None:
        self.here, self.there = MemoryObjects(), MemoryObjects()
        self.jobs, self.topic = MemoryQueue(), MemoryQueue()

    def publish(self, folder: Path, **more: object) -> Published:
        return publish(folder, "m", self.here, site=Site.AWS, clock_ms=clock_ms, **more)  # type: ignore[arg-type]

    def announce(self, key: str) -> None:
        Announcer(Site.AWS, self.here, self.there, self.jobs, CHUNK_BYTES).run(key)

    def encode_all(self) -> None:
        for message in self.jobs.messages:
            encode_chunk(self.here, self.there, self.topic, plan.decode_chunk_job(message.body))

    def rebuild(self, body: str) -> bool:
        return Rebuilder(self.there, clock_ms).run(plan.decode_rebuild_job(body)).complete

    def verify(self, version: str) -> None:
        verify(self.there, "m", version, site=Site.GCP, clock_ms=clock_ms)

    def whole(self, version: str) -> bool:
        """Tell whether the far side holds the very files and manifest of the near one."""
        manifest = decode(self.here.objects[manifest_key("m", version)][0], "m", version)
        keys = [manifest_key("m", version), *(file_key("m", version, file.path) for file in manifest.files)]
        return all(
            key in self.there.objects and self.there.objects[key][0] == self.here.objects[key][0] for key in keys
        )


@pytest.fixture
def way() -> Way:
    return Way()


def travel(way: Way, folder: Path) -> str:
    version = way.publish(folder).version
    way.announce(manifest_key("m", version))
    way.encode_all()
    return version


def test_a_version_arrives_whole_and_leaves_nothing_behind(way: Way, folder: Path) -> None:
    version = travel(way, folder)
    done = [way.rebuild(message.body) for message in way.topic.messages]
    assert done == [False] * (len(done) - 1) + [True]
    assert way.whole(version)
    way.verify(version)
    assert {key.split("/")[0] for key in way.there.objects} == {"models", "manifests", "transfers", "receipts"}
    transfer = find(way.there, transfer_key("m", version), Transfer)
    assert transfer is not None
    assert transfer[0].bytes_raw == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert 0 < transfer[0].bytes_wire < transfer[0].bytes_raw


@pytest.mark.parametrize("seed", range(5))
def test_any_order_and_any_number_of_deliveries_end_the_same(way: Way, folder: Path, seed: int) -> None:
    version = travel(way, folder)
    bodies = [message.body for message in way.topic.messages] * 3
    random.Random(seed).shuffle(bodies)
    for body in bodies:
        try:
            way.rebuild(body)
        except TransientError:
            continue
    assert way.whole(version)
    assert not [key for key in way.there.objects if key.startswith(("parts/", "packs/", "pending/"))]


def until_done(step: Callable[[], object], limit: int = 4) -> None:
    for _ in range(limit):
        try:
            step()
        except TransientError:
            continue
        return
    pytest.fail("a single planted fault was not survived")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_call_is_repaired_and_never_visible(folder: Path, after: bool) -> None:
    published = Way()
    version = published.publish(folder).version
    at, ended = 0, False
    while not ended:
        way = Way()
        way.here.objects = published.here.objects
        way.there.fault = Fault(at, after)
        until_done(lambda way=way: way.announce(manifest_key("m", version)))  # type: ignore[misc]
        until_done(way.encode_all)
        for message in way.topic.messages:
            until_done(lambda way=way, body=message.body: way.rebuild(body))  # type: ignore[misc]
            assert manifest_key("m", version) not in way.there.objects or way.whole(version), f"torn at call {at}"
        assert way.whole(version), f"not repaired at call {at}"
        ended = way.there.fault.calls <= at
        at += 1
    assert at > 40


def test_a_swapped_or_damaged_pack_is_refused(way: Way, folder: Path) -> None:
    version = travel(way, folder)
    jobs = [plan.decode_rebuild_job(message.body) for message in way.topic.messages]
    rebuilder = Rebuilder(way.there, clock_ms)
    with pytest.raises(PackError, match="another chunk"):
        rebuilder.run(replace(jobs[0], pack=jobs[1].pack))
    way.there.put(jobs[1].pack, way.there.objects[jobs[0].pack][0])
    with pytest.raises(PackError, match="bytes of its name"):
        rebuilder.run(jobs[1])
    with pytest.raises(PackError, match="files"):
        rebuilder.run(replace(jobs[0], file=9))
    assert manifest_key("m", version) not in way.there.objects


def test_bytes_that_changed_at_the_source_are_found_before_anything_shows(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    key = file_key("m", version, "weights.bin")
    way.here.put(key, b"\x01" + way.here.objects[key][0][1:])
    way.announce(manifest_key("m", version))
    way.encode_all()
    with pytest.raises(VerificationError, match=r"weights\.bin"):
        for message in way.topic.messages:
            way.rebuild(message.body)
    assert manifest_key("m", version) not in way.there.objects
    assert file_key("m", version, "weights.bin") not in way.there.objects


def test_tampering_after_arrival_is_found_by_verify(way: Way, folder: Path) -> None:
    version = travel(way, folder)
    for message in way.topic.messages:
        way.rebuild(message.body)
    way.there.put(file_key("m", version, "config.json"), b'{"dim": 5}')
    with pytest.raises(VerificationError, match=r"config\.json"):
        way.verify(version)
    way.there.delete(file_key("m", version, "config.json"))
    with pytest.raises(VerificationError, match="missing"):
        way.verify(version)
    assert receipt_key("m", version) not in way.there.objects


def test_a_version_is_not_sent_back_nor_sent_twice(way: Way, folder: Path) -> None:
    version = travel(way, folder)
    for message in way.topic.messages:
        way.rebuild(message.body)
    sent = len(way.jobs.messages)
    way.announce(manifest_key("m", version))
    Announcer(Site.GCP, way.there, MemoryObjects(), way.jobs, CHUNK_BYTES).run(manifest_key("m", version))
    assert len(way.jobs.messages) == sent


def test_publishing_again_sends_nothing_and_a_torn_publish_is_finished(way: Way, folder: Path) -> None:
    way.here.fault = Fault(at=6)
    with pytest.raises(TransientError):
        way.publish(folder, alias="prod")
    assert not [key for key in way.here.objects if key.startswith(("manifests/", "aliases/"))]
    seen: list[tuple[int, int]] = []
    first = way.publish(folder, alias="prod", progress=lambda done, total: seen.append((done, total)))
    again = way.publish(folder, alias="prod")
    assert (first.created, again.created, again.bytes_sent) == (True, False, 0)
    assert again.alias == first.alias
    assert seen[-1] == (first.bytes_raw, first.bytes_raw)


def test_a_parent_must_be_there(way: Way, folder: Path) -> None:
    with pytest.raises(ManifestError, match="parent"):
        way.publish(folder, parent="00" * 32)
    first = way.publish(folder)
    (folder / "more").write_text("x")
    second = way.publish(folder, parent=first.version)
    (folder / "more").unlink()
    assert decode(way.here.objects[manifest_key("m", second.version)][0], "m", second.version).parent == first.version


def test_an_alias_waits_for_the_receipt_then_moves(way: Way, folder: Path) -> None:
    version = travel(way, folder)
    move(way.here, "m", "prod", version, epoch=1, site=Site.AWS, clock_ms=clock_ms)
    with pytest.raises(VersionNotReadyError):
        way.announce("aliases/m/prod.json")
    for message in way.topic.messages:
        way.rebuild(message.body)
    with pytest.raises(VersionNotReadyError):
        way.announce("aliases/m/prod.json")
    way.verify(version)
    way.announce("aliases/m/prod.json")
    assert alias.current(way.there, "m", "prod") == alias.current(way.here, "m", "prod")
    assert carry(way.here, way.there, "m", "prod", Site.AWS) is Moved.APPLIED
    assert carry(way.there, way.here, "m", "prod", Site.GCP) is Moved.ECHO
    assert carry(way.here, way.there, "m", "none", Site.AWS) is Moved.STALE


def test_an_older_epoch_can_not_move_an_alias(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    move(way.here, "m", "prod", version, epoch=2, site=Site.AWS, clock_ms=clock_ms)
    with pytest.raises(StaleEpochError):
        move(way.here, "m", "prod", version, epoch=1, site=Site.AWS, clock_ms=clock_ms)
    with pytest.raises(ManifestError, match="not on this site"):
        move(way.here, "m", "prod", "00" * 32, epoch=3, site=Site.AWS, clock_ms=clock_ms)


def test_of_two_movers_at_once_one_wins(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    ours = way.here.put

    def raced(key: str, data: bytes, **more: object) -> object:
        way.here.put = ours  # type: ignore[method-assign]
        move(way.here, "m", "prod", version, epoch=7, site=Site.GCP, clock_ms=clock_ms)
        return ours(key, data, **more)  # type: ignore[arg-type]

    way.here.put = raced  # type: ignore[method-assign,assignment]
    with pytest.raises(AliasConflictError):
        move(way.here, "m", "prod", version, epoch=3, site=Site.AWS, clock_ms=clock_ms)
    assert alias.current(way.here, "m", "prod").epoch == 7  # type: ignore[union-attr]


def test_a_move_whose_answer_was_lost_is_recognised(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    ours = way.here.put

    def lost(key: str, data: bytes, **more: object) -> object:
        ours(key, data, **more)  # type: ignore[arg-type]
        raise PreconditionFailedError("the try after the lost answer loses to itself")

    way.here.put = lost  # type: ignore[method-assign,assignment]
    assert move(way.here, "m", "prod", version, epoch=3, site=Site.AWS, clock_ms=clock_ms).epoch == 3
