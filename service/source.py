"""Reads a model's plain files from this site's bucket, in parallel ranges, and proves them against the manifest."""

from concurrent.futures import ThreadPoolExecutor

from blake3 import blake3

from functions.artifacts import alias as aliases
from functions.artifacts.manifest import MOST_MANIFEST_BYTES, FileEntry, Manifest, decode
from functions.artifacts.paths import file_key, manifest_key
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectStore
from service.errors import ModelInvalidError, ModelNotPublishedError

RANGE_BYTES = 8 << 20
# Streams at once; object stores serve one stream far below the line rate.
PARALLEL = 8
# What one host may hold of a model while it loads; a manifest that says more is refused before a byte is asked for.
MODEL_BYTES_LIMIT = 8 << 30


class BucketSource:
    """Versions of one model as one alias names them in one site's bucket."""

    def __init__(self, store: ObjectStore, model: str, alias: str) -> None:
        self._store = store
        self._model = model
        self._alias = alias

    def current(self) -> str:
        """Return the version that the alias names. Raises ModelNotPublishedError when it names none."""
        found = aliases.current(self._store, self._model, self._alias)
        if found is None:
            raise ModelNotPublishedError(
                f"alias {self._alias} of model {self._model} does not exist on this site yet:"
                " publish a version, or wait for its copy to arrive"
            )
        return found.version

    def fetch(self, version: str) -> dict[str, bytes]:
        """Return a version's files by path.

        Raises ModelInvalidError when bytes differ from the manifest, store errors as they come.
        """
        manifest = self._manifest(version)
        if manifest.bytes_raw > MODEL_BYTES_LIMIT:
            raise ModelInvalidError(
                f"version {version} has {manifest.bytes_raw} bytes, a host takes {MODEL_BYTES_LIMIT}"
            )
        with ThreadPoolExecutor(PARALLEL) as pool:
            return {file.path: self._file(pool, version, file) for file in manifest.files}

    def _manifest(self, version: str) -> Manifest:
        try:
            body, _ = self._store.get(manifest_key(self._model, version), MOST_MANIFEST_BYTES)
        except NotFoundError as error:
            raise ModelNotPublishedError(f"alias {self._alias} names {version}, whose manifest is not here") from error
        return decode(body, self._model, version)

    def _file(self, pool: ThreadPoolExecutor, version: str, file: FileEntry) -> bytes:
        key = file_key(self._model, version, file.path)
        offsets = range(0, file.size, RANGE_BYTES)
        ranges = pool.map(lambda begin: self._store.get_range(key, begin, min(RANGE_BYTES, file.size - begin)), offsets)
        content = b"".join(ranges)
        found = blake3(content).hexdigest()
        if found != file.blake3:
            raise ModelInvalidError(
                f"{key} has BLAKE3 {found}, its manifest says {file.blake3}: verify the site's copy"
            )
        return content
