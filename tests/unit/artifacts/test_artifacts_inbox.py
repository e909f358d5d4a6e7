"""The inbox: files of a tool that can only copy become a version, once, whatever dies in between."""

import json
from pathlib import Path

import numpy as np
import pytest
from artifact_way import Way, clock_ms
from memory_objects import Fault, MemoryObjects
from safetensors.numpy import save
from signing import authority, trust

from functions.artifacts import alias, proof
from functions.artifacts import manifest as manifests
from functions.artifacts.errors import ManifestError, SafetensorsError, UnfitError, UnsafePathError, VerificationError
from functions.artifacts.inbox import Inbox
from functions.artifacts.paths import file_key, manifest_key
from functions.artifacts.record import Recorded, Recorder
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import ObjectInfo

WEIGHTS = save({"w": np.arange(64, dtype=np.float32)})
DONE = "inbox/m/_DONE"


def drop(store: MemoryObjects, order: object = None, **files: bytes) -> None:
    for name, data in ({"model.safetensors": WEIGHTS, "sub/config.json": b"{}"} | files).items():
        store.put(f"inbox/m/{name}", data)
    store.put(DONE, b"" if order is None else json.dumps(order).encode())


def run(store: MemoryObjects, key: str = DONE) -> Recorded | None:
    return Inbox(store, Recorder(store, Site.AWS, authority(Site.AWS), clock_ms)).run(key)


def left(store: MemoryObjects) -> list[str]:
    return sorted(key for key in store.objects if key.startswith("inbox/"))


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


def test_files_left_there_become_the_version_that_a_publish_would_make(store: MemoryObjects, tmp_path: Path) -> None:
    drop(store)
    recorded = run(store)
    assert recorded is not None and recorded.created and recorded.verdict.passed
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "sub" / "config.json").write_text("{}")
    assert Way().publish(tmp_path).version == recorded.manifest.version
    assert store.objects[file_key("m", recorded.manifest.version, "sub/config.json")][0] == b"{}"
    assert left(store) == []
    # An event that comes again finds nothing to do.
    assert run(store) is None


def test_the_order_names_parent_alias_and_lineage(store: MemoryObjects) -> None:
    drop(store, {"alias": "prod"})
    first = run(store)
    assert first is not None
    drop(store, {"parent": "prod", "alias": "prod", "lineage": {"code": {"revision": "abc"}}}, other=b"1")
    second = run(store)
    assert second is not None and second.manifest.parent == first.manifest.version
    assert second.manifest.lineage == {"code": {"revision": "abc"}}
    moved = alias.current(store, "m", "prod")
    assert moved is not None and moved.version == second.manifest.version


@pytest.mark.parametrize(
    "key", ["inbox/m/model.safetensors", "inbox/m/sub/_DONE", "inbox/_DONE", "models/m/_DONE", "x"]
)
def test_only_the_marker_of_a_model_counts(store: MemoryObjects, key: str) -> None:
    drop(store)
    assert run(store, key) is None
    assert not any(name.startswith("manifests/") for name in store.objects)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"parent": "0" * 64}, "is not on site aws"),
        ({"parent": "prod"}, "neither a version"),
        ({"alias": "../x"}, "alias '../x'"),
        ({"unknown": 1}, "neither empty nor an order"),
        ({"lineage": {"training_data": 1}}, "lineage is refused"),
        ([], "neither empty nor an order"),
    ],
)
def test_an_order_that_cannot_be_carried_out_changes_nothing(store: MemoryObjects, order: object, message: str) -> None:
    drop(store, order)
    before = dict(store.objects)
    with pytest.raises(ManifestError, match=message):
        run(store)
    assert store.objects == before


def test_bad_files_are_refused_and_stay(store: MemoryObjects) -> None:
    drop(store, **{"model.safetensors": WEIGHTS[:-1]})
    with pytest.raises(SafetensorsError, match=r"model\.safetensors"):
        run(store)
    drop(store, **{"a/../b": b""})
    with pytest.raises(UnsafePathError):
        run(store)
    assert len(left(store)) == 4
    store.objects.clear()
    store.put(DONE, b"")
    with pytest.raises(ManifestError, match="and nothing else"):
        run(store)
    with pytest.raises(ManifestError, match="model"):
        run(store, "inbox/a b/_DONE")


def test_a_file_that_changes_while_it_is_read_makes_no_version(store: MemoryObjects) -> None:
    drop(store)
    assemble = store.assemble

    def other(key: str, parts: list[str], crc32c: int) -> ObjectInfo:
        store.put(parts[0], b"other")
        return assemble(key, parts, crc32c)

    store.assemble = other  # type: ignore[method-assign,assignment]
    with pytest.raises(VerificationError, match="changed while it was read"):
        run(store)
    assert not any(key.startswith(("models/", "manifests/")) for key in store.objects)


def test_an_unfit_version_is_kept_its_inbox_emptied_and_the_alias_stays(store: MemoryObjects) -> None:
    drop(store, {"alias": "prod"}, **{"tokenizer.json": b"{"})
    with pytest.raises(UnfitError, match=r"tokenizer\.json"):
        run(store)
    assert left(store) == []
    assert alias.current(store, "m", "prod") is None
    assert any(key.startswith("manifests/") for key in store.objects)


def test_whatever_dies_a_repeat_makes_one_version_and_leaves_an_empty_inbox() -> None:
    for after in (False, True):
        for at in range(200):
            store = MemoryObjects()
            drop(store, {"alias": "prod"})
            store.fault = Fault(at, after)
            try:
                run(store)
                break
            except StoreUnavailableError:
                pass
            store.fault = Fault()
            run(store)
            shown = [key for key in store.objects if key.startswith("manifests/")]
            moved = alias.current(store, "m", "prod")
            assert len(shown) == 1 and moved is not None, f"call {at}, after its effect: {after}"
            manifest = manifests.trusted(store.objects[shown[0]][0], "m", moved.version, trust())
            assert [file.path for file in manifest.files] == ["model.safetensors", "sub/config.json"]
            assert left(store) == [], f"call {at}, after its effect: {after}"
            assert proof.history("aws", store, "m", trust()) == []
        else:
            raise AssertionError("an inbox takes more calls than were tried")


def test_a_note_that_names_files_elsewhere_deletes_nothing(store: MemoryObjects) -> None:
    drop(store)
    recorded = run(store)
    assert recorded is not None
    shown = manifest_key("m", recorded.manifest.version)
    drop(store)
    store.put("inbox/m/_TAKEN", json.dumps([shown]).encode())
    with pytest.raises(ManifestError, match="names files outside"):
        run(store)
    assert shown in store.objects
