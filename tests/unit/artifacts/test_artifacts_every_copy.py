"""Proof of every copy: each layer finds its own kind of fault, and repair takes the good side and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from artifact_way import Way
from memory_objects import NOW_MS, MemoryObjects
from safetensors.numpy import save_file
from signing import MemorySigner, trust
from test_artifacts_third import MemoryThird

from functions.artifacts import manifest as manifests
from functions.artifacts.encode import exists
from functions.artifacts.manifest import decode
from functions.artifacts.paths import file_key, manifest_key
from functions.artifacts.plan import ThirdJob
from functions.artifacts.proof import Layer
from functions.artifacts.third import ThirdCopier
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import ObjectInfo
from operate.verify.models import ON_ITS_WAY_MS, ModelsVerified, verify_models

LATER_MS = NOW_MS + ON_ITS_WAY_MS + 1


class Sides:
    """A version at both sites and on the third copy."""

    def __init__(self, folder: Path) -> None:
        self.way, self.third = Way(), MemoryThird()
        save_file({"a": np.arange(64, dtype=np.float32), "b": np.zeros(8, np.int8)}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        self.version = self.way.publish(folder, alias="prod").version
        self.way.travel(self.version)
        ThirdCopier(self.way.here, self.third, 1 << 20, trust()).run(ThirdJob("m", self.version, 0))
        self.stores = {"aws": self.way.here, "gcp": self.way.there, "r2": self.third}

    def key(self, path: str = "model.safetensors") -> str:
        return file_key("m", self.version, path)

    def flip(self, place: str, path: str = "model.safetensors") -> None:
        """Flip a bit of the last byte; the store then reports what it holds, as a real one does."""
        data = bytearray(self.stores[place].objects[self.key(path)][0])
        data[-1] ^= 1
        self.stores[place].put(self.key(path), bytes(data))

    def run(self, **more: object) -> ModelsVerified:
        given: dict[str, object] = {"clock_ms": lambda: LATER_MS}
        return verify_models(self.stores, trust(), **(given | more))  # type: ignore[arg-type]

    def found(self, **more: object) -> set[tuple[str, str, Layer]]:
        return {(each.place, each.path, each.layer) for each in self.run(**more).mismatches}


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[Sides]:
    return iter([Sides(tmp_path)])


@pytest.fixture
def three(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


def test_three_good_copies_are_equal(three: Sides) -> None:
    found = three.run()
    assert found.equal and (found.versions, found.read_back) == (1, 1)
    size = sum(
        file.size
        for file in decode(three.way.here.objects[manifest_key("m", three.version)][0], "m", three.version).files
    )
    assert found.bytes_read == 3 * size


def test_a_flipped_bit_is_found_by_the_store_the_file_and_the_tensor(three: Sides) -> None:
    three.flip("gcp")
    assert three.found() == {("gcp", "model.safetensors", Layer.STORE)}
    # The store lies, as one whose disk went bad under a checksum that it took at the write: only reading shows it.
    data, info = three.way.there.objects[three.key()]
    honest = three.way.here.objects[three.key()][1]
    three.way.there.objects[three.key()] = (data, ObjectInfo(info.key, info.size, info.token, honest.crc32c))
    assert three.found(sample=0) == set()
    assert three.found() == {
        ("gcp", "model.safetensors", Layer.FILE),
        ("gcp", "model.safetensors", Layer.TENSOR),
    }


@pytest.mark.parametrize("place", ["aws", "gcp", "r2"])
@pytest.mark.parametrize("path", ["model.safetensors", "config.json", "model.sig"])
@pytest.mark.parametrize("gone", [False, True])
def test_repair_takes_the_good_side(three: Sides, place: str, path: str, gone: bool) -> None:
    good = {key: data for key, (data, _) in three.stores[place].objects.items()}
    if gone:
        three.stores[place].delete(three.key(path))
    else:
        three.flip(place, path)
    assert not three.run().equal
    repaired = three.run(repair=True)
    assert repaired.equal and len(repaired.repaired) == 1 and f"at {place}" in repaired.repaired[0]
    assert {key: data for key, (data, _) in three.stores[place].objects.items()} == good
    assert three.run().equal


def test_a_forged_manifest_is_replaced_by_the_signed_one(three: Sides) -> None:
    key = manifest_key("m", three.version)
    real = three.way.here.objects[key][0]
    three.way.there.put(key, manifests.encode(decode(real, "m", three.version), MemorySigner()))
    assert ("gcp", "", Layer.SIGNATURE) in three.found()
    assert three.run(repair=True).equal
    assert three.way.there.objects[key][0] == real


def test_a_version_that_a_place_lost_comes_back_whole(three: Sides) -> None:
    for key in [key for key in three.way.there.objects if three.version in key]:
        three.way.there.delete(key)
    assert ("gcp", "", Layer.STORE) in three.found()
    young = three.run(clock_ms=lambda: NOW_MS + 1)
    assert young.equal and young.on_its_way == 1
    assert three.run(repair=True).equal
    assert three.way.whole(three.version)


def test_where_no_copy_is_good_nothing_is_touched(three: Sides) -> None:
    for place in three.stores:
        three.flip(place)
    before = {place: dict(store.objects) for place, store in three.stores.items()}
    found = three.run(repair=True)
    assert not found.equal and not found.repaired
    assert {place: dict(store.objects) for place, store in three.stores.items()} == before


def test_a_place_that_is_away_is_said_and_the_others_are_looked_at(three: Sides) -> None:
    class Away(MemoryObjects):
        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            raise StoreUnavailableError("no answer")

    three.stores["aws"] = Away()
    found = three.run()
    assert not found.equal and list(found.unreached) == ["aws"]
    assert found.mismatches == () and found.read_back == 1
    assert not exists(three.third, "nothing")


def test_a_sample_reads_those_with_a_problem_first(three: Sides, tmp_path: Path) -> None:
    for number in range(4):
        folder = tmp_path / f"v{number}"
        folder.mkdir()
        (folder / "config.json").write_text(str(number))
        version = three.way.publish(folder).version
        three.way.travel(version)
        ThirdCopier(three.way.here, three.third, 1 << 20, trust()).run(ThirdJob("m", version, 0))
    three.flip("r2")
    found = three.run(sample=1)
    assert (found.versions, found.read_back) == (5, 1)
    assert {each.place for each in found.mismatches} == {"r2"}
    assert three.run(sample=1, repair=True).equal
    assert three.way.site is Site.AWS
