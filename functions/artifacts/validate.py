"""Whether an alias may point to a version: looked at once, written down with the reasons, asked for by whoever moves an alias.

A version that fails is kept as it is, marked, and never promoted. What is read is bounded: headers, small JSON files, the
beginnings of other files; that the bytes are those of the manifest is the receipt's business (verify.py).
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from functions.artifacts import manifest as manifests
from functions.artifacts.chain import check_link
from functions.artifacts.documents import JSON, Check, Verdict, encode, find
from functions.artifacts.errors import (
    ChainError,
    ManifestError,
    SafetensorsError,
    SignatureError,
    VerificationError,
)
from functions.artifacts.golden import Golden
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.paths import file_key, manifest_key, verdict_key
from functions.artifacts.pickles import pickled
from functions.artifacts.safetensors import SUFFIX, tensors
from functions.artifacts.sign import Trust
from functions.settings import MEBIBYTE, Site
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectStore

# Large tokenizers have some 20 MB of JSON.
MOST_JSON_BYTES = 64 * MEBIBYTE
INDEX_SUFFIX = ".safetensors.index.json"
_READERS = 4


def validate(
    store: ObjectStore,
    model: str,
    version: str,
    *,
    site: Site,
    trust: Trust,
    clock_ms: Callable[[], int],
    golden: Golden | None = None,
    again: bool = False,
) -> Verdict:
    """Return the verdict on a version of this site, reached now if there is none or if asked to look `again`.

    A verdict stands until then, but for one whose golden inference was never answered. Raises NotFoundError for a version that is
    not here.
    """
    key = verdict_key(model, version)
    known = find(store, key, Verdict)
    if known and not again and not (golden and known[0].passed and known[0].unasked):
        return known[0]
    data, _ = store.get(manifest_key(model, version), manifests.MOST_MANIFEST_BYTES)
    checks = list(_checks(store, data, model, version, trust, golden))
    verdict = Verdict(
        model=model,
        version=version,
        site=site,
        passed=all(check.passed is not False for check in checks),
        checks=checks,
        judged_ms=clock_ms(),
    )
    store.put(key, encode(verdict), content_type=JSON)
    return verdict


def _checks(
    store: ObjectStore, data: bytes, model: str, version: str, trust: Trust, golden: Golden | None
) -> Iterator[Check]:
    """Yield the outcome of every check; the later ones are left out where an earlier one leaves them nothing to look at."""
    try:
        manifest = manifests.trusted(data, model, version, trust)
    except (ManifestError, SignatureError) as error:
        yield _failed("signature", error)
        return
    yield Check(name="signature", passed=True)
    yield _outcome("chain", lambda: check_link(store, manifest, trust))
    complete = _outcome("files", lambda: _demand_files(store, manifest))
    yield complete
    if not complete.passed:
        return
    with ThreadPoolExecutor(_READERS) as pool:
        for name, look in (("safetensors", _demand_tensors), ("json", _demand_json), ("pickle", _demand_no_pickle)):
            problems = [
                problem
                for problem in pool.map(lambda file, of=look: of(store, manifest, file), manifest.files)
                if problem
            ]
            yield Check(name=name, passed=not problems, detail="; ".join(problems)[:2_000])
    if golden is not None:
        result = golden(model, version)
        yield Check(name="golden", passed=result.passed, detail=result.detail[:2_000])


def _outcome(name: str, look: Callable[[], None]) -> Check:
    try:
        look()
    except (ChainError, ManifestError, SignatureError, VerificationError) as error:
        return _failed(name, error)
    return Check(name=name, passed=True)


def _failed(name: str, error: Exception) -> Check:
    return Check(name=name, passed=False, detail=str(error)[:2_000])


def _demand_files(store: ObjectStore, manifest: Manifest) -> None:
    def look(file: FileEntry) -> str:
        try:
            info = store.head(file_key(manifest.model, manifest.version, file.path))
        except NotFoundError:
            return f"{file.path!r} is missing"
        # R2 attests no CRC32C, but another sum; sizes are what every store says.
        right = info.size == file.size and info.crc32c in (None, file.crc32c)
        return (
            ""
            if right
            else f"{file.path!r} has {info.size} bytes, CRC32C {info.crc32c}; {file.size}, {file.crc32c} are declared"
        )

    with ThreadPoolExecutor(_READERS) as pool:
        problems = [problem for problem in pool.map(look, manifest.files) if problem]
    if problems:
        raise VerificationError(f"{manifest.model} {manifest.version}: {'; '.join(problems[:5])}")


def _reader(store: ObjectStore, manifest: Manifest, file: FileEntry) -> Callable[[int, int], bytes]:
    key = file_key(manifest.model, manifest.version, file.path)
    return lambda offset, length: store.get_range(key, offset, length)


def _demand_tensors(store: ObjectStore, manifest: Manifest, file: FileEntry) -> str:
    if not file.path.endswith(SUFFIX):
        return f"{file.path!r} has tensors and is no safetensors file" if file.tensors else ""
    try:
        found = tensors(_reader(store, manifest, file), file.size, file.path)
    except SafetensorsError as error:
        return str(error)
    declared = [(each.name, each.dtype, tuple(each.shape), each.start, each.end) for each in file.tensors]
    if declared != [(each.name, each.dtype, each.shape, each.start, each.end) for each in found]:
        return f"{file.path!r} has other tensors than the manifest declares"
    return ""


def _demand_json(store: ObjectStore, manifest: Manifest, file: FileEntry) -> str:
    if not file.path.endswith(".json"):
        return ""
    if file.size > MOST_JSON_BYTES:
        return f"{file.path!r} has {file.size} bytes of JSON, at most {MOST_JSON_BYTES} are read"
    try:
        value = json.loads(_reader(store, manifest, file)(0, file.size))
    except (ValueError, RecursionError) as error:
        return f"{file.path!r} is no JSON: {error}"
    return _index_problem(manifest, file, value) if file.path.endswith(INDEX_SUFFIX) else ""


def _index_problem(manifest: Manifest, index: FileEntry, value: object) -> str:
    """Return what is wrong with the map from tensors to shards, "" if nothing is."""
    weights = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(weights, dict):
        return f"{index.path!r} has no weight_map"
    folder = index.path.rpartition("/")[0]
    shards = {file.path: {tensor.name for tensor in file.tensors} for file in manifest.files}
    for tensor, shard in weights.items():
        if tensor not in shards.get(f"{folder}/{shard}" if folder else str(shard), ()):
            return f"{index.path!r} says that tensor {str(tensor)[:80]!r} is in {str(shard)[:80]!r}, which is not so"
    return ""


def _demand_no_pickle(store: ObjectStore, manifest: Manifest, file: FileEntry) -> str:
    if file.path.endswith(SUFFIX):
        return ""
    reason = pickled(_reader(store, manifest, file), file.size)
    return f"{file.path!r} is refused: {reason}. Save the weights as safetensors" if reason else ""
