"""Reads a model's plain files from this site's bucket, in parallel ranges, and proves them against the signed manifest.

Who signed is checked before a file is asked for, with the public keys that the host was given at its start: no key service is
asked, so a host starts while either cloud is away. Each file's SHA-256 runs along while its later ranges are still on the way.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor

from functions.artifacts import alias as aliases
from functions.artifacts.errors import ManifestError, SignatureError
from functions.artifacts.manifest import MOST_MANIFEST_BYTES, FileEntry, Manifest, trusted
from functions.artifacts.paths import file_key, manifest_key
from functions.artifacts.sign import Trust
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectStore
from service.errors import ModelInvalidError, ModelNotPublishedError, ModelUntrustedError

RANGE_BYTES = 8 << 20
# Streams at once; object stores serve one stream far below the line rate.
PARALLEL = 8
# What one host may hold of a model while it loads; a manifest that says more is refused before a byte is asked for.
MODEL_BYTES_LIMIT = 8 << 30


class BucketSource:
    """Versions of one model as one alias names them in one site's bucket; `trust` says who may have signed them."""

    def __init__(self, store: ObjectStore, model: str, alias: str, trust: Trust) -> None:
        self._store = store
        self._model = model
        self._alias = alias
        self._trust = trust

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

        Raises ModelUntrustedError for a manifest that its site did not sign and for bytes that differ from it,
        ModelInvalidError for a model too large for a host, store errors as they come.
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
        try:
            return trusted(body, self._model, version, self._trust)
        except (ManifestError, SignatureError) as error:
            raise ModelUntrustedError(
                f"model {self._model} version {version}: check of the manifest's signature failed: {error}"
            ) from error

    def _file(self, pool: ThreadPoolExecutor, version: str, file: FileEntry) -> bytes:
        key = file_key(self._model, version, file.path)
        offsets = range(0, file.size, RANGE_BYTES)
        ranges = pool.map(lambda begin: self._store.get_range(key, begin, min(RANGE_BYTES, file.size - begin)), offsets)
        digest, parts = hashlib.sha256(), []
        for part in ranges:
            digest.update(part)
            parts.append(part)
        if (found := digest.hexdigest()) != file.sha256:
            raise ModelUntrustedError(
                f"model {self._model} version {version} file {file.path!r}: check of SHA-256 failed, it is {found} here and "
                f"{file.sha256} in the signed manifest. Run ./lifeboat verify models --repair"
            )
        return b"".join(parts)
