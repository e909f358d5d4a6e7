"""Proof of every copy of every model version: layers from signature to tensors, and repair from a side that is good.

Metadata of all versions is compared at every place; versions are read back whole or by a sample. Repair takes bytes only from a
copy that has just been read and found to be what its origin signed, and looks at what it wrote once more.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from functions.artifacts import proof, signature
from functions.artifacts.digest import digest, object_blocks
from functions.artifacts.documents import JSON
from functions.artifacts.encode import put_if_absent
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.paths import file_key, manifest_key, tombstones_prefix
from functions.artifacts.proof import Layer, Mismatch, Shown
from functions.artifacts.sign import Trust
from functions.settings import Site
from functions.stores.errors import NotFoundError, StoreError
from functions.stores.protocols import ObjectStore
from operate.output import Progress
from operate.verify.parity import NAMED, SideParity, StoreParity

# How long a version may be on its way before a place that lacks it counts as a mismatch: the sweeper's own patience.
ON_ITS_WAY_MS = 20 * 60_000


@dataclass(frozen=True)
class ModelsVerified:
    """What was found. `read_back` counts versions whose bytes were read at every place, `on_its_way` those too young to judge.

    `sides` holds by place how many versions it shows and a digest over their manifests, `retired` how many tombstones are there.
    `unreached` names places that did not answer, with the reason: what is there was not looked at.
    """

    sides: Mapping[str, tuple[int, str]]
    retired: Mapping[str, int]
    versions: int
    read_back: int
    bytes_read: int
    on_its_way: int
    mismatches: tuple[Mismatch, ...]
    repaired: tuple[str, ...]
    unreached: Mapping[str, str]
    seconds: float

    @property
    def equal(self) -> bool:
        """Return whether everything could be looked at and nothing differs, after repair."""
        return not self.mismatches and not self.unreached


@dataclass
class _Look:
    """One version at every place that shows it or should."""

    model: str
    version: str
    at: dict[str, Shown] = field(default_factory=dict)
    problems: list[Mismatch] = field(default_factory=list)

    @property
    def good(self) -> Shown | None:
        return next(iter(self.at.values()), None)


def verify_models(
    places: Mapping[str, ObjectStore],
    trust: Trust,
    *,
    clock_ms: Callable[[], int],
    tell: Progress = lambda message: None,
    sample: int | None = None,
    repair: bool = False,
) -> ModelsVerified:
    """Verify every version at all places; `sample` versions are read back, all of them if it is None.

    With `repair`, what differs is replaced from a copy that is good.
    """
    began = time.monotonic()
    reached, unreached = _reach(places)
    found = proof.of_all(reached)
    gone = {place: _retired(store, found) for place, store in reached.items()}
    total = sum(map(len, found.values()))
    looks: list[_Look] = []
    on_its_way = 0
    problems: list[Mismatch] = []
    for model, versions in found.items():
        tell(f"metadata of {total} versions is compared; {model}")
        settled = True
        for version in sorted(versions):
            look, young = _look(reached, model, version, trust, clock_ms(), gone)
            looks.append(look)
            on_its_way += young
            settled = settled and not young
        for place, store in reached.items():
            # What the other cloud has not had time to bring makes no gap; the third copy keeps no history.
            if place in set(Site) and settled:
                problems += proof.history(place, store, model, trust)
    chosen = looks if sample is None else _sampled(looks, sample, clock_ms())
    bytes_read = 0
    for number, look in enumerate(chosen, 1):
        tell(f"{len(chosen)} versions are read back; {number}: {look.model} {look.version[:12]}")
        for place, shown in look.at.items():
            bytes_read += shown.manifest.bytes_raw
            # A file that the store itself reports as another one need not be read to be known.
            known = {each.path for each in look.problems if each.place == place}
            read = proof.read_back(place, reached[place], shown.manifest)
            look.problems += [each for each in read if each.path not in known] + _signature_file(
                place, reached[place], shown.manifest
            )
    repaired: list[str] = []
    if repair:
        tell("what differs is taken from a good copy")
        for look in looks:
            repaired += _repair(reached, look, trust)
    problems += [each for look in looks for each in look.problems]
    return ModelsVerified(
        sides={place: _side(place, looks) for place in reached},
        retired={place: len(ended) for place, ended in gone.items()},
        versions=total,
        read_back=len(chosen),
        bytes_read=bytes_read,
        on_its_way=on_its_way,
        mismatches=tuple(dict.fromkeys(problems)),
        repaired=tuple(repaired),
        unreached=unreached,
        seconds=round(time.monotonic() - began, 2),
    )


def parity(found: ModelsVerified) -> StoreParity:
    """Return what was found in the form of every store: a side's digest is over the manifests that it shows."""
    lines = [f"{place} does not answer: {reason}" for place, reason in found.unreached.items()]
    lines += [
        f"{each.place} {each.model} {each.version[:12]} {each.path or 'version'}: {each.layer.value}: {each.detail}"
        for each in found.mismatches
    ]
    return StoreParity(
        "models",
        found.equal,
        {place: SideParity(count, found.retired[place], digest) for place, (count, digest) in found.sides.items()},
        differing=len(lines),
        unsettled=lines[:NAMED],
        seconds=found.seconds,
        repaired=found.repaired[:NAMED],
    )


def _side(place: str, looks: Iterable[_Look]) -> tuple[int, str]:
    digests = sorted(f"{look.model} {proof.digest_of(shown)}" for look in looks if (shown := look.at.get(place)))
    return len(digests), blake3("\n".join(digests).encode()).hexdigest()


def _reach(places: Mapping[str, ObjectStore]) -> tuple[dict[str, ObjectStore], dict[str, str]]:
    reached: dict[str, ObjectStore] = {}
    unreached: dict[str, str] = {}
    for place, store in places.items():
        try:
            next(iter(store.list("manifests/")), None)
            reached[place] = store
        except StoreError as error:
            unreached[place] = str(error)
    return reached, unreached


def _retired(store: ObjectStore, models: Iterable[str]) -> set[tuple[str, str]]:
    return {
        (model, info.key.rpartition("/")[2].removesuffix(".json"))
        for model in models
        for info in store.list(tombstones_prefix(model))
    }


def _look(
    places: Mapping[str, ObjectStore],
    model: str,
    version: str,
    trust: Trust,
    now_ms: int,
    gone: Mapping[str, set[tuple[str, str]]],
) -> tuple[_Look, bool]:
    """Return a version with everything that metadata tells, and whether some place may still be waiting for it."""
    look = _Look(model, version)
    missing = []
    for place, store in places.items():
        try:
            shown = proof.shown(place, store, model, version, trust)
        except NotFoundError:
            missing.append(place)
            continue
        if isinstance(shown, Mismatch):
            look.problems.append(shown)
            continue
        look.at[place] = shown
        look.problems += proof.reported(place, store, shown.manifest)
    good = look.good
    if good is not None:
        look.problems += [
            Mismatch(place, model, version, "", Layer.SIGNATURE, "its manifest is another one than at the other places")
            for place, shown in look.at.items()
            if shown.data != good.data
        ]
    # A version that is on its way out is deleted at one place before the other.
    missing = [place for place in missing if not any((model, version) in each for each in gone.values())]
    young = good is not None and now_ms - good.manifest.created_ms < ON_ITS_WAY_MS
    if not young:
        look.problems += [
            Mismatch(place, model, version, "", Layer.STORE, "the version is missing") for place in missing
        ]
    return look, bool(missing) and young


def _sampled(looks: list[_Look], most: int, now_ms: int) -> list[_Look]:
    """Return versions to read: those with a problem first, then a choice that moves on with every hour."""
    hour = now_ms // 3_600_000

    def order(look: _Look) -> tuple[bool, bytes]:
        return not look.problems, blake3(f"{hour} {look.model} {look.version}".encode()).digest()

    return sorted(looks, key=order)[:most]


def _signature_file(place: str, store: ObjectStore, manifest: Manifest) -> list[Mismatch]:
    """Return whether `model.sig` is the one that the manifest carries."""
    wanted = signature.bundle(manifest)
    if wanted is None:
        return []
    try:
        data, _ = store.get(file_key(manifest.model, manifest.version, signature.NAME), len(wanted) * 2)
        detail = "" if data == wanted else "it is not the one that the manifest carries"
    except NotFoundError:
        detail = "it is missing"
    except StoreError as error:
        detail = str(error)
    return [Mismatch(place, manifest.model, manifest.version, signature.NAME, Layer.FILE, detail)] if detail else []


def _repair(places: Mapping[str, ObjectStore], look: _Look, trust: Trust) -> Iterator[str]:
    """Replace what differs; yields what was done. What can't be mended stays among the version's problems."""
    good = look.good
    wrong = sorted({each.place for each in look.problems})
    if good is None:
        return
    manifest = good.manifest
    for place in wrong:
        store = places[place]
        try:
            for file in manifest.files:
                if not _is_good(place, store, manifest, file) and (source := _source(places, place, manifest, file)):
                    _copy(source[1], store, manifest, file)
                    yield f"{manifest.model} {manifest.version} file {file.path!r} at {place}, from {source[0]}"
            key = file_key(manifest.model, manifest.version, signature.NAME)
            if _signature_file(place, store, manifest):
                store.delete(key)
                signature.write(store, manifest)
                yield f"{manifest.model} {manifest.version} file {signature.NAME!r} at {place}, from the manifest"
            if look.at.get(place, None) != good and not proof.reported(place, store, manifest):
                store.delete(manifest_key(manifest.model, manifest.version))
                put_if_absent(store, manifest_key(manifest.model, manifest.version), good.data, JSON)
                yield f"{manifest.model} {manifest.version} manifest at {place}"
        except StoreError as error:
            look.problems.append(
                Mismatch(place, manifest.model, manifest.version, "", Layer.STORE, f"not repaired: {error}")
            )
            continue
        if _whole(place, store, good, trust):
            look.problems = [each for each in look.problems if each.place != place]


def _whole(place: str, store: ObjectStore, good: Shown, trust: Trust) -> bool:
    manifest = good.manifest
    try:
        shown = proof.shown(place, store, manifest.model, manifest.version, trust)
    except NotFoundError:
        return False
    return shown == good and not (
        proof.reported(place, store, manifest)
        or proof.read_back(place, store, manifest)
        or _signature_file(place, store, manifest)
    )


def _is_good(place: str, store: ObjectStore, manifest: Manifest, file: FileEntry) -> bool:
    return not (proof.reported_file(place, store, manifest, file) or proof.read_file_back(place, store, manifest, file))


def _source(
    places: Mapping[str, ObjectStore], wrong: str, manifest: Manifest, file: FileEntry
) -> tuple[str, ObjectStore] | None:
    for place, store in places.items():
        if place != wrong and _is_good(place, store, manifest, file):
            return place, store
    return None


def _copy(source: ObjectStore, target: ObjectStore, manifest: Manifest, file: FileEntry) -> None:
    """Bring a file over by way of this machine's disk: it is proven on its way, and memory holds some blocks of it."""
    key = file_key(manifest.model, manifest.version, file.path)
    with tempfile.TemporaryDirectory(prefix="lifeboat-repair-") as folder:
        path = Path(folder) / "file"
        with path.open("wb") as local:

            def kept() -> Iterator[bytes]:
                for block in object_blocks(source, key, file.size):
                    local.write(block)
                    yield block

            found = digest(kept())
        if (found.sha256, found.blake3) != (file.sha256, file.blake3):
            return
        target.delete(key)
        target.upload(key, path, file.crc32c, lambda count: None)
