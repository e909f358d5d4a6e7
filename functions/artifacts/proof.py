"""Whether a version is what its manifest says, at any place that holds it, in layers from cheap to thorough. Nothing is changed.

Layers: the signature of its origin; its place in the model's history; what each store itself reports of every file, which costs
no more than a metadata call; and, with the bytes read back, SHA-256 of every file and BLAKE3 of every tensor. A mismatch is a
finding, not an error: one bad file must not hide the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from functions.artifacts import chain
from functions.artifacts import manifest as manifests
from functions.artifacts import tombstone as tombstones
from functions.artifacts.attestation import TOMBSTONE_TYPE
from functions.artifacts.digest import digest, object_blocks
from functions.artifacts.errors import ManifestError, SignatureError
from functions.artifacts.manifest import MOST_MANIFEST_BYTES, FileEntry, Manifest
from functions.artifacts.paths import (
    chain_prefix,
    file_key,
    manifest_key,
    manifests_prefix,
    parse_name,
    tombstones_prefix,
)
from functions.artifacts.sign import Trust
from functions.settings import Site
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectInfo, ObjectStore

# Metadata calls under way at once, and files read back at once.
_ASKING = 16
_READING = 2


class Layer(StrEnum):
    """What was looked at."""

    SIGNATURE = "signature"
    CHAIN = "chain"
    STORE = "store checksum"
    FILE = "file SHA-256"
    TENSOR = "tensor BLAKE3"


@dataclass(frozen=True)
class Mismatch:
    """One thing that is not as it was signed. `path` is empty where it is about the version or the model as a whole."""

    place: str
    model: str
    version: str
    path: str
    layer: Layer
    detail: str


@dataclass(frozen=True)
class Shown:
    """A version's manifest at one place, with its bytes: the same ones everywhere."""

    manifest: Manifest
    data: bytes


def shown(place: str, store: ObjectStore, model: str, version: str, trust: Trust) -> Shown | Mismatch:
    """Return the manifest at a place, signed by its origin, or what is wrong with it. Raises NotFoundError if there is none."""
    data, _ = store.get(manifest_key(model, version), MOST_MANIFEST_BYTES)
    try:
        return Shown(manifests.trusted(data, model, version, trust), data)
    except (ManifestError, SignatureError) as error:
        return Mismatch(place, model, version, "", Layer.SIGNATURE, str(error))


def digest_of(found: Shown) -> str:
    """Return the SHA-256 of a manifest's bytes, by which other statements name it."""
    return manifests.sha256(found.data)


def reported(place: str, store: ObjectStore, manifest: Manifest) -> list[Mismatch]:
    """Return the files of which the store itself reports something else than the manifest says, by metadata alone."""

    with ThreadPoolExecutor(_ASKING) as pool:
        looked = pool.map(lambda file: reported_file(place, store, manifest, file), manifest.files)
        return [found for found in looked if found]


def reported_file(place: str, store: ObjectStore, manifest: Manifest, file: FileEntry) -> Mismatch | None:
    """Return what the store reports otherwise of one file, None if nothing."""
    try:
        problem = _reported_problem(store.head(file_key(manifest.model, manifest.version, file.path)), file)
    except NotFoundError:
        problem = "it is missing"
    return Mismatch(place, manifest.model, manifest.version, file.path, Layer.STORE, problem) if problem else None


def read_back(place: str, store: ObjectStore, manifest: Manifest) -> list[Mismatch]:
    """Return what differs when every file is read: at most one mismatch of the file and one for each of its tensors."""
    with ThreadPoolExecutor(_READING) as pool:
        return [
            each
            for found in pool.map(lambda file: read_file_back(place, store, manifest, file), manifest.files)
            for each in found
        ]


def read_file_back(place: str, store: ObjectStore, manifest: Manifest, file: FileEntry) -> list[Mismatch]:
    """Return what differs when one file is read; a file of another size is only said to be one."""

    def mismatch(layer: Layer, detail: str) -> Mismatch:
        return Mismatch(place, manifest.model, manifest.version, file.path, layer, detail)

    key = file_key(manifest.model, manifest.version, file.path)
    try:
        info = store.head(key)
    except NotFoundError:
        return [mismatch(Layer.FILE, "it is missing")]
    if info.size != file.size:
        return [mismatch(Layer.FILE, f"it has {info.size} bytes, the manifest says {file.size}")]
    found = digest(object_blocks(store, key, info.size), file.tensors)
    problems = []
    if (found.sha256, found.blake3) != (file.sha256, file.blake3):
        problems.append(mismatch(Layer.FILE, f"SHA-256 is {found.sha256}, the manifest says {file.sha256}"))
    for tensor, value in zip(file.tensors, found.tensors, strict=True):
        if tensor.blake3 != value:
            problems.append(
                mismatch(Layer.TENSOR, f"tensor {tensor.name[:80]!r} has BLAKE3 {value}, not {tensor.blake3}")
            )
    return problems


def history(place: str, store: ObjectStore, model: str, trust: Trust) -> list[Mismatch]:
    """Return what is wrong with a model's history at a place: statements missing, exchanged, put in, or nobody's."""
    entries: list[chain.Entry] = []
    gone: list[chain.Entry] = []
    versions: set[str] = set()
    retired: set[str] = set()
    problems: list[Mismatch] = []

    def problem(version: str, detail: str) -> None:
        problems.append(Mismatch(place, model, version, "", Layer.CHAIN, detail))

    for info in store.list(manifests_prefix(model)):
        if (named := parse_name(info.key)) and named[0] == model:
            versions.add(named[1])
            found = shown(place, store, model, named[1], trust)
            # A manifest that nobody signed is the signature's finding and has no place in the history.
            if isinstance(found, Shown):
                entries.append(chain.entry_of(found.manifest, found.data))
    for info in store.list(tombstones_prefix(model)):
        if (named := parse_name(info.key)) is None:
            continue
        retired.add(named[1])
        try:
            data, _ = store.get(info.key, tombstones.MOST_TOMBSTONE_BYTES)
            tombstone = tombstones.trusted(data, model, named[1], trust)
        except (ManifestError, SignatureError) as error:
            problem(named[1], str(error))
            continue
        entries.append(chain.entry_of(tombstone, data))
        if named[1] not in versions:
            gone.append(chain.entry_of_gone(tombstone))
    for line in chain.problems(entries, gone):
        problem("", line)
    for version in _hidden(store, model, versions | retired):
        problem(version, "it stands in the history and its manifest is gone without a tombstone")
    return problems


def of_all(places: Mapping[str, ObjectStore]) -> dict[str, dict[str, frozenset[str]]]:
    """Return the places that show each version, by model and version."""
    found: dict[str, dict[str, set[str]]] = {}
    for place, store in places.items():
        for info in store.list(manifests_prefix()):
            if named := parse_name(info.key):
                found.setdefault(named[0], {}).setdefault(named[1], set()).add(place)
    return {model: {v: frozenset(at) for v, at in versions.items()} for model, versions in sorted(found.items())}


def sample(
    versions: Iterable[tuple[str, str]], looked_at_ms: Mapping[tuple[str, str], int], most: int
) -> Sequence[tuple[str, str]]:
    """Return the versions to read back now: those that were not looked at for longest, so that every one has its turn. Pure."""
    return sorted(versions, key=lambda version: (looked_at_ms.get(version, 0), version))[:most]


def _hidden(store: ObjectStore, model: str, known: set[str]) -> list[str]:
    """Return versions of this place's own chain that it neither shows nor has ended, by the statements kept in the chain."""
    hidden: dict[str, None] = {}
    for site in Site:
        for info in store.list(chain_prefix(model, site)):
            told = chain.told(store.get(info.key, MOST_MANIFEST_BYTES)[0], info.key)
            if told[0] != TOMBSTONE_TYPE and told[1] not in known:
                hidden[told[1]] = None
    return list(hidden)


def _reported_problem(info: ObjectInfo, file: FileEntry) -> str:
    if info.size != file.size:
        return f"the store reports {info.size} bytes, the manifest says {file.size}"
    if info.crc32c is not None and info.crc32c != file.crc32c:
        return f"the store reports CRC32C {info.crc32c}, the manifest says {file.crc32c}"
    if info.crc64nvme is not None and info.crc64nvme != int(file.crc64nvme, 16):
        return f"the store reports CRC64NVME {info.crc64nvme:016x}, the manifest says {file.crc64nvme}"
    if info.crc32c is None and info.crc64nvme is None:
        return "the store reports no checksum over the whole file"
    return ""
