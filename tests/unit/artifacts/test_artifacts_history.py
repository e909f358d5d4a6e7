"""The history of a model: turns, crashes between them, what a chain shows, keys that change, tombstones and what may go."""

import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from artifact_way import Way, clock_ms
from hypothesis import given
from hypothesis import strategies as st
from memory_objects import NOW_MS, Fault, MemoryObjects
from signing import MemorySigner, authority, signers, trust

from functions.artifacts import alias, chain, proof, retention, sign
from functions.artifacts import manifest as manifests
from functions.artifacts import tombstone as tombstones
from functions.artifacts.errors import ChainError, ManifestError, RetiredError, SignatureError
from functions.artifacts.paths import chain_key, chain_prefix, manifest_key, tombstone_key
from functions.artifacts.publish import Published, publish
from functions.artifacts.retention import DAY_MS, NOTICE_MS, Known
from functions.artifacts.sign import Authority, Trust
from functions.settings import Retention, Site
from functions.stores.errors import StoreUnavailableError

DAY = DAY_MS


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """Yield folders, each with another content."""

    def made() -> Iterator[Path]:
        for number in range(100):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps({"number": number}))
            yield folder

    return made()


def manifest_of(way: Way, version: str) -> manifests.Manifest:
    return manifests.trusted(way.here.objects[manifest_key("m", version)][0], "m", version, trust())


def test_versions_of_a_site_are_one_chain(way: Way, folders: Iterator[Path]) -> None:
    versions = [way.publish(next(folders)).version for _ in range(3)]
    found = [manifest_of(way, version) for version in versions]
    assert [each.sequence for each in found] == [1, 2, 3]
    assert found[0].previous is None
    for before, after in pairwise(found):
        assert after.previous is not None
        data = way.here.objects[manifest_key("m", before.version)][0]
        assert (after.previous.version, after.previous.sha256) == (before.version, manifests.sha256(data))
    assert proof.history("aws", way.here, "m", trust()) == []


def test_the_other_site_has_a_chain_of_its_own(way: Way, folders: Iterator[Path]) -> None:
    first = way.publish(next(folders)).version
    back = way.back.publish(next(folders)).version
    assert manifest_of(way, first).sequence == manifest_of(way.back, back).sequence == 1
    assert [key.split("/")[2] for key in way.there.objects if key.startswith("chain/")] == ["gcp"]


def test_publishers_at_once_take_turns(way: Way, folders: Iterator[Path]) -> None:
    chosen = [next(folders) for _ in range(8)]
    threads = [threading.Thread(target=way.publish, args=(folder,)) for folder in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [info.key for info in way.here.list(chain_prefix("m", Site.AWS))]
    assert keys == [chain_key("m", Site.AWS, number) for number in range(1, 9)]
    assert proof.history("aws", way.here, "m", trust()) == []


def test_a_publisher_that_dies_at_any_call_leaves_a_chain_that_the_next_one_mends(
    tmp_path: Path, folders: Iterator[Path]
) -> None:
    first, second, third = next(folders), next(folders), next(folders)
    for after in (False, True):
        for at in range(200):
            way = Way()
            way.publish(first)
            way.here.fault = Fault(at, after)
            try:
                died = way.publish(second).version
                break
            except StoreUnavailableError:
                pass
            way.here.fault = Fault()
            version = way.publish(third).version
            died = way.publish(second).version
            assert proof.history("aws", way.here, "m", trust()) == [], f"call {at}, after its effect: {after}"
            assert {version, died} <= {key.split("/")[2][:-5] for key in way.here.objects if "manifests/" in key}
        else:
            raise AssertionError("a publish makes more calls than were tried")
        assert died


def test_what_is_missing_or_exchanged_in_a_chain_shows(way: Way, folders: Iterator[Path]) -> None:
    versions = [way.publish(next(folders)).version for _ in range(3)]
    held = dict(way.here.objects)
    del way.here.objects[manifest_key("m", versions[1])]
    said = " ".join(each.detail for each in proof.history("aws", way.here, "m", trust()))
    assert "is missing" in said and "gone without a tombstone" in said
    way.here.objects = held
    # The same version said once more, signed by the same key: the bytes are others.
    again = manifests.encode(manifest_of(way, versions[1]), signers()[Site.AWS])
    way.here.put(manifest_key("m", versions[1]), again)
    said = " ".join(each.detail for each in proof.history("aws", way.here, "m", trust()))
    assert "does not follow" in said
    with pytest.raises(ChainError, match="exchanged"):
        chain.check_link(way.here, manifest_of(way, versions[2]), trust())


def test_two_statements_in_one_place_show(way: Way, folders: Iterator[Path]) -> None:
    one = way.publish(next(folders)).version
    other = Way()
    two = other.publish(next(folders)).version
    key = manifest_key("m", two)
    way.here.objects[key] = other.here.objects[key]
    assert any("stands 2 times" in each.detail for each in proof.history("aws", way.here, "m", trust()))
    assert one != two


def rotated() -> tuple[MemorySigner, Trust]:
    new = MemorySigner()
    pems = {site: [signer.public_key_pem] for site, signer in signers().items()}
    pems[Site.AWS].append(new.public_key_pem)
    return new, Trust.of(pems)


def test_a_new_key_signs_and_what_the_old_one_signed_stays_good(way: Way, folders: Iterator[Path]) -> None:
    old = way.publish(next(folders)).version
    signer, both = rotated()
    new = publish(
        next(folders), "m", way.here, site=Site.AWS, authority=Authority(signer, both), clock_ms=clock_ms
    ).version
    for version in (old, new):
        manifests.trusted(way.here.objects[manifest_key("m", version)][0], "m", version, both)
    assert proof.history("aws", way.here, "m", both) == []
    # Who was not told of the new key trusts it for nothing, and says what to do.
    with pytest.raises(SignatureError, match="deploy the stack"):
        manifests.trusted(way.here.objects[manifest_key("m", new)][0], "m", new, trust())


def test_a_key_of_the_other_site_does_not_sign_for_this_one(way: Way, folders: Iterator[Path]) -> None:
    version = way.publish(next(folders)).version
    forged = manifests.encode(manifest_of(way, version), signers()[Site.GCP])
    with pytest.raises(SignatureError, match="of gcp"):
        manifests.trusted(forged, "m", version, trust())


@pytest.mark.parametrize("text", ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a key"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(SignatureError):
        sign.public_key(text)


def retire(way: Way, version: str, at_ms: int = NOW_MS) -> tombstones.Tombstone:
    return retention.retire(
        way.here,
        "m",
        version,
        site=way.site,
        authority=authority(way.site),
        reason="old",
        clock_ms=lambda: at_ms,
    )


def test_a_tombstone_is_a_statement_of_the_chain_and_ends_a_version(way: Way, folders: Iterator[Path]) -> None:
    folder = next(folders)
    one, two = way.publish(folder).version, way.publish(next(folders)).version
    tombstone = retire(way, one)
    assert (tombstone.sequence, tombstone.previous.version, tombstone.manifest_sequence) == (3, two, 1)
    assert retire(way, one) == tombstone
    assert proof.history("aws", way.here, "m", trust()) == []
    with pytest.raises(RetiredError, match="tombstone"):
        alias.move(way.here, "m", "prod", one, epoch=0, site=Site.AWS, clock_ms=clock_ms)
    with pytest.raises(RetiredError, match="was retired"):
        way.publish(folder)
    retention.bury(way.here, "m", one)
    assert [key for key in way.here.objects if one in key] == [tombstone_key("m", one)]
    assert proof.history("aws", way.here, "m", trust()) == []
    chain.check_link(way.here, manifest_of(way, two), trust())
    assert way.publish(next(folders)).created


def test_only_the_site_that_published_a_version_retires_it(way: Way, folders: Iterator[Path]) -> None:
    version = way.publish(next(folders)).version
    way.travel(version)
    back = way.back
    back.publish(next(folders))
    with pytest.raises(ManifestError, match="published on aws"):
        retire(back, version)
    with pytest.raises(ManifestError, match="not on site"):
        retire(way, "0" * 64)


def test_a_tombstone_of_a_stranger_ends_nothing(way: Way, folders: Iterator[Path]) -> None:
    version = way.publish(next(folders)).version
    way.publish(next(folders))
    real = tombstones.encode(retire(way, version), MemorySigner())
    way.here.put(tombstone_key("m", version), real)
    with pytest.raises(SignatureError):
        tombstones.find(way.here, "m", version, trust())


def known(version: str, days: int, parent: str | None = None, origin: Site = Site.AWS) -> Known:
    return Known(version, origin, NOW_MS - days * DAY, parent)


def test_what_may_go_is_old_and_needed_by_nobody() -> None:
    versions = [known("a", 90), known("b", 80, "a"), known("c", 70), known("d", 60), known("e", 1)]
    everywhere = "abcde"

    def may(**changes: object) -> list[str]:
        given: dict[str, object] = {
            "site": Site.AWS,
            "pointed": ["b"],
            "proven_there": everywhere,
            "pending": [],
            "rule": Retention(1, 30),
            "now_ms": NOW_MS,
        }
        return retention.outdated(versions, **(given | changes))  # type: ignore[arg-type]

    # The alias holds b, b holds its parent a; e is the newest.
    assert may() == ["c", "d"]
    assert may(pointed=["d"]) == ["a", "b", "c"]
    assert may(proven_there="abc") == ["c"]
    assert may(pending=["c"]) == ["d"]
    assert may(rule=Retention(2, 30)) == ["c"]
    assert may(rule=Retention(1, 65)) == ["c"]
    assert may(site=Site.GCP) == []


names = [chr(ord("a") + number) for number in range(8)]
histories = st.lists(
    st.tuples(st.integers(0, 100), st.integers(-1, 7), st.sampled_from(list(Site))), min_size=8, max_size=8
)


@given(
    histories,
    st.sets(st.sampled_from(names)),
    st.sets(st.sampled_from(names)),
    st.sets(st.sampled_from(names)),
    st.integers(1, 8),
    st.integers(1, 100),
)
def test_nothing_that_is_needed_ever_goes(
    drawn: list[tuple[int, int, Site]], pointed: set[str], there: set[str], pending: set[str], keep: int, days: int
) -> None:
    versions = [
        known(name, age, names[parent] if 0 <= parent < number else None, origin)
        for number, (name, (age, parent, origin)) in enumerate(zip(names, drawn, strict=True))
    ]
    gone = set(
        retention.outdated(
            versions,
            site=Site.AWS,
            pointed=pointed,
            proven_there=there,
            pending=pending,
            rule=Retention(keep, days),
            now_ms=NOW_MS,
        )
    )
    by_name = {each.version: each for each in versions}
    assert gone <= there
    assert all(by_name[name].origin is Site.AWS and NOW_MS - by_name[name].created_ms >= days * DAY for name in gone)
    assert len(versions) - len(gone) >= keep
    assert not gone & {*pointed, *pending}
    for name in set(names) - gone:
        step = by_name[name].parent
        while step is not None:
            assert step not in gone, f"{name} stays and its ancestor {step} goes"
            step = by_name[step].parent


def test_a_retired_version_goes_after_its_notice_only() -> None:
    way, version = Way(), "a" * 64
    assert way.site is Site.AWS
    tombstone = tombstones.Tombstone(
        model="m",
        version=version,
        origin=Site.AWS,
        created_ms=NOW_MS,
        reason="old",
        manifest="0" * 64,
        manifest_sequence=1,
        sequence=2,
        previous=manifests.Link(kind="version", version=version, sha256="0" * 64),
    )
    assert not retention.may_go(tombstone, frozenset(), NOW_MS + NOTICE_MS)
    assert retention.may_go(tombstone, frozenset(), NOW_MS + NOTICE_MS + 1)
    assert not retention.may_go(tombstone, frozenset({version}), NOW_MS + NOTICE_MS + 1)


def test_a_chain_that_a_stranger_has_written_to_stops_a_publisher(way: Way, folders: Iterator[Path]) -> None:
    stranger = MemoryObjects()
    outsider = MemorySigner()
    forged: Published = publish(
        next(folders),
        "m",
        stranger,
        site=Site.AWS,
        authority=Authority(outsider, Trust.of({Site.AWS: [outsider.public_key_pem]})),
        clock_ms=clock_ms,
    )
    key = chain_key("m", Site.AWS, 1)
    way.here.objects[key] = stranger.objects[key]
    with pytest.raises(SignatureError):
        way.publish(next(folders))
    assert manifest_key("m", forged.version) not in way.here.objects
