"""The whole way of a version between two stores in memory: complete or invisible, whatever fails in between."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from artifact_way import CHUNK_BYTES, Way, clock_ms
from memory_objects import Fault

from functions.artifacts import alias, plan
from functions.artifacts.alias import Moved, carry, move
from functions.artifacts.documents import Transfer, find
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
from functions.artifacts.plan import ProveJob, RebuildJob
from functions.errors import TransientError
from functions.settings import Site
from functions.stores.errors import PreconditionFailedError
from functions.stores.protocols import ObjectInfo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    (root / "sub").mkdir()
    (root / "config.json").write_text('{"dim": 4}')
    (root / "sub" / "empty").write_bytes(b"")
    noise = random.Random(5).randbytes(1 << 16)
    (root / "weights.bin").write_bytes(noise + b"\x00" * CHUNK_BYTES)
    (root / "vocabulary.txt").write_bytes(noise[: 1 << 12])
    return root


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


def test_a_swapped_or_damaged_pack_is_refused(way: Way, folder: Path) -> None:
    version = travel(way, folder)
    jobs = [plan.decode_receiving_job(message.body) for message in way.topic.messages]
    rebuilder = way.rebuilder
    assert all(isinstance(job, RebuildJob) for job in jobs)
    with pytest.raises(PackError, match="another batch"):
        rebuilder.run(replace(jobs[0], pack=jobs[1].pack))
    way.there.put(jobs[1].pack, way.there.objects[jobs[0].pack][0])
    with pytest.raises(PackError, match="bytes of its name"):
        rebuilder.run(jobs[1])
    with pytest.raises(PackError, match="batches"):
        rebuilder.run(replace(jobs[0], batch=9))
    assert manifest_key("m", version) not in way.there.objects


def test_bytes_that_changed_at_the_source_are_found_before_anything_shows(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    key = file_key("m", version, "weights.bin")
    way.here.put(key, b"\x01" + way.here.objects[key][0][1:])
    way.announce(manifest_key("m", version))
    with pytest.raises(VerificationError, match=r"weights\.bin"):
        for _ in range(2):
            way.encode_all()
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


def test_a_version_is_not_sent_back_nor_sent_twice(way: Way, folder: Path) -> None:
    version = travel(way, folder)
    for message in way.topic.messages:
        way.rebuild(message.body)
    sent = len(way.jobs.messages)
    way.announce(manifest_key("m", version))
    assert len(way.jobs.messages) == sent
    back = way.back
    back.announce(manifest_key("m", version))
    assert not back.jobs.messages and not back.arrived.messages


def test_a_version_without_its_receipt_is_proven_when_its_event_comes(way: Way, folder: Path) -> None:
    version = way.publish(folder, alias="prod").version
    way.travel(version)
    way.there.delete(receipt_key("m", version))
    way.there.delete("aliases/m/prod.json")
    back = way.back
    back.announce(manifest_key("m", version))
    (message,) = back.arrived.messages
    assert plan.decode_receiving_job(message.body) == ProveJob("m", version)
    assert way.rebuild(message.body)
    assert receipt_key("m", version) in way.there.objects
    assert alias.current(way.there, "m", "prod") == alias.current(way.here, "m", "prod")


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


def test_a_file_that_changes_while_it_is_published_never_shows(way: Way, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"hashed")
    upload = way.here.upload

    def overtaken(key: str, path: Path, crc32c: int, progress: Callable[[int], None]) -> ObjectInfo:
        path.write_bytes(b"writer")
        return upload(key, path, crc32c, progress)

    way.here.upload = overtaken  # type: ignore[method-assign]
    with pytest.raises(VerificationError, match="other bytes than were hashed"):
        way.publish(tmp_path)
    assert not way.here.objects


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
    # It comes with the version that it waited for; its own event finds it there.
    for message in way.topic.messages:
        assert alias.current(way.there, "m", "prod") is None
        way.rebuild(message.body)
    assert alias.current(way.there, "m", "prod") == alias.current(way.here, "m", "prod")
    way.announce("aliases/m/prod.json")
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
