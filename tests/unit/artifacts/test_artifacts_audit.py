"""The daily audit: what it finds, what it writes, what it retires and deletes, and that one finding never stops the rest."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from artifact_way import Way
from memory_objects import NOW_MS, Fault, MemoryObjects
from signing import authority, trust

from functions.artifacts import alias, attestation, proof
from functions.artifacts.audit import Audited, Auditor
from functions.artifacts.documents import Receipt, find
from functions.artifacts.paths import file_key, manifest_key, receipt_key, tombstone_key, verdict_key
from functions.artifacts.publish import publish
from functions.artifacts.retention import DAY_MS, NOTICE_MS
from functions.settings import Retention, Site


@pytest.fixture
def way() -> Way:
    return Way()


def folder(tmp_path: Path, number: int) -> Path:
    made = tmp_path / str(number)
    made.mkdir()
    (made / "config.json").write_text(json.dumps({"number": number}))
    (made / "weights.bin").write_bytes(bytes(range(256)) * (number + 1))
    return made


def audit(
    way: Way,
    site: Site = Site.AWS,
    rule: Retention | None = None,
    now_ms: int = NOW_MS,
    ending: Callable[[], bool] = lambda: False,
    third: MemoryObjects | None = None,
) -> Audited:
    here, there = (way.here, way.there) if site is way.site else (way.there, way.here)
    return Auditor(site, here, there, authority(site), rule, lambda: now_ms, third).run(ending)


def written(store: MemoryObjects, key: str) -> dict[str, object]:
    found = attestation.read(store.objects[key][0], attestation.AUDIT_TYPE, "it", 1 << 20)
    trust().check(found.sealed, Site(key.split("/")[1]), "it")
    return found.predicate


def day_key(store: MemoryObjects, site: str = "aws") -> str:
    return max(key for key in store.objects if key.startswith(f"audits/{site}/"))


def test_a_good_site_gets_a_signed_receipt_and_renewed_receipts(way: Way, tmp_path: Path) -> None:
    version = way.publish(folder(tmp_path, 1)).version
    way.travel(version)
    done = audit(way, now_ms=NOW_MS + 5)
    assert (done.versions, done.read, done.mismatches, done.complete) == (1, 1, 0, True)
    assert written(way.here, day_key(way.here))["mismatches"] == 0
    receipt = find(way.here, receipt_key("m", version), Receipt)
    assert receipt is not None and receipt[0].verified_ms == NOW_MS + 5
    assert audit(way, Site.GCP).mismatches == 0
    assert written(way.there, day_key(way.there, "gcp"))["site"] == "gcp"


def test_every_fault_is_found_and_named_and_the_rest_is_still_looked_at(way: Way, tmp_path: Path) -> None:
    versions = [way.publish(folder(tmp_path, number)).version for number in range(4)]
    for version in versions:
        way.travel(version)
    same_size = bytearray(way.here.objects[file_key("m", versions[0], "weights.bin")][0])
    same_size[7] ^= 1
    way.here.put(file_key("m", versions[0], "weights.bin"), bytes(same_size))
    way.here.delete(file_key("m", versions[1], "config.json"))
    way.there.put(file_key("m", versions[2], "weights.bin"), b"short")
    way.here.put(manifest_key("m", versions[3]), b"{}")
    done = audit(way)
    found = written(way.here, day_key(way.here))
    named = {(each["place"], each["version"], each["path"], each["layer"]) for each in found["named"]}  # type: ignore[attr-defined]
    assert {
        ("aws", versions[0], "weights.bin", "store checksum"),
        ("aws", versions[0], "weights.bin", "file SHA-256"),
        ("aws", versions[1], "config.json", "store checksum"),
        ("gcp", versions[2], "weights.bin", "store checksum"),
        ("aws", versions[3], "", "signature"),
    } <= named
    assert done.mismatches == found["mismatches"] and done.read == 3


def test_versions_take_turns_when_time_is_short(way: Way, tmp_path: Path) -> None:
    versions = [way.publish(folder(tmp_path, number)).version for number in range(3)]
    looks = 0
    read: list[str] = []
    for turn in range(3):
        looks = 0

        def ending() -> bool:
            nonlocal looks
            looks += 1
            return looks > 4  # three for the metadata, one for the first version

        done = audit(way, now_ms=NOW_MS + turn + 1, ending=ending)
        assert (done.read, done.complete) == (1, False)
        read += [each.rpartition("/")[2] for each in written(way.here, day_key(way.here))["read_back"]]  # type: ignore[attr-defined]
    assert sorted(read) == sorted(versions)


def test_the_other_site_away_is_no_finding_and_retires_nothing(way: Way, tmp_path: Path) -> None:
    version = way.publish(folder(tmp_path, 1)).version
    way.travel(version)
    way.publish(folder(tmp_path, 2))
    # Every call fails from here on.
    way.there.fault = Fault(0)
    way.there.fault.before_effect = _down  # type: ignore[method-assign]
    done = audit(way, rule=Retention(1, 1), now_ms=NOW_MS + 100 * DAY_MS)
    assert (done.mismatches, done.retired) == (0, 0)


def _down() -> None:
    from functions.stores.errors import StoreUnavailableError

    raise StoreUnavailableError("planted")


def test_old_versions_are_retired_told_and_deleted_a_week_later_everywhere(way: Way, tmp_path: Path) -> None:
    third = MemoryObjects()
    versions = [way.publish(folder(tmp_path, number), alias="prod").version for number in range(3)]
    for version in versions:
        way.travel(version)
        third.put(file_key("m", version, "config.json"), b"copy")
    rule, later = Retention(1, 30), NOW_MS + 31 * DAY_MS
    assert audit(way, rule=rule, now_ms=NOW_MS + DAY_MS).retired == 0
    done = audit(way, rule=rule, now_ms=later, third=third)
    assert (done.retired, done.deleted) == (2, 0)
    assert all(tombstone_key("m", version) in way.there.objects for version in versions[:2])
    assert audit(way, rule=rule, now_ms=later + 1).retired == 0
    week = later + NOTICE_MS + 2
    assert audit(way, rule=rule, now_ms=week, third=third).deleted == 2
    assert audit(way, Site.GCP, rule=rule, now_ms=week).deleted == 2
    for version in versions[:2]:
        for store in (way.here, way.there):
            assert [key for key in store.objects if version in key and "chain" not in key] == [
                tombstone_key("m", version)
            ]
        assert not [key for key in third.objects if version in key]
    assert way.whole(versions[2])
    assert file_key("m", versions[2], "config.json") in third.objects
    assert proof.history("aws", way.here, "m", trust()) == []
    assert audit(way, rule=rule, now_ms=week + 1).mismatches == 0
    assert audit(way, Site.GCP, now_ms=week + 1).mismatches == 0


def test_an_alias_moved_back_within_the_notice_keeps_the_version(way: Way, tmp_path: Path) -> None:
    old = way.publish(folder(tmp_path, 1)).version
    new = way.publish(folder(tmp_path, 2), parent=old).version
    for version in (old, new):
        way.travel(version)
    # The newest of all stays by the rule.
    lone = publish(
        folder(tmp_path, 3), "m", way.here, site=Site.AWS, authority=authority(Site.AWS), clock_ms=lambda: NOW_MS + 1
    ).version
    way.travel(lone)
    later = NOW_MS + 100 * DAY_MS
    assert audit(way, rule=Retention(1, 1), now_ms=later).retired == 2
    # Put back by hand where the rules forbid it: what is pointed to is never deleted, nor what it was trained from.
    way.here.delete(tombstone_key("m", new))
    alias.move(way.here, "m", "prod", new, epoch=0, site=Site.AWS, clock_ms=lambda: later)
    assert audit(way, rule=None, now_ms=later + NOTICE_MS + 1).deleted == 0
    assert manifest_key("m", old) in way.here.objects and verdict_key("m", old) in way.here.objects
