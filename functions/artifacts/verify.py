"""Prove a version that is on this site: read every file back, compare, and leave a receipt that an alias waits for."""

from collections.abc import Callable

from functions.artifacts import manifest as manifests
from functions.artifacts import signature
from functions.artifacts.documents import JSON, Receipt, Transfer, encode, find
from functions.artifacts.errors import VerificationError
from functions.artifacts.paths import file_key, manifest_key, receipt_key, transfer_key
from functions.artifacts.rebuild import check_file
from functions.artifacts.sign import Trust
from functions.settings import Site
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectStore


def verify(
    store: ObjectStore,
    model: str,
    version: str,
    *,
    site: Site,
    trust: Trust,
    clock_ms: Callable[[], int],
    again: bool = False,
) -> Receipt:
    """Return the receipt of a version, made now if there is none or if asked to look `again`.

    Raises SignatureError for a manifest that its origin did not sign, VerificationError for the first file that is missing or
    differs, NotFoundError for a version that is not here.
    """
    key = receipt_key(model, version)
    if not again and (known := find(store, key, Receipt)):
        return known[0]
    started_ms = clock_ms()
    data, _ = store.get(manifest_key(model, version), manifests.MOST_MANIFEST_BYTES)
    manifest = manifests.trusted(data, model, version, trust)
    for file in manifest.files:
        try:
            info = store.head(file_key(model, version, file.path))
        except NotFoundError as error:
            raise VerificationError(f"{model} {version} file {file.path!r} is missing on site {site}") from error
        check_file(store, manifest, file, info)
    signature.write(store, manifest)
    transfer = find(store, transfer_key(model, version), Transfer)
    finished_ms = clock_ms()
    receipt = Receipt(
        model=model,
        version=version,
        site=site,
        files=len(manifest.files),
        bytes_raw=manifest.bytes_raw,
        bytes_wire=transfer[0].bytes_wire if transfer else 0,
        verified_ms=finished_ms,
        seconds=max(0, finished_ms - started_ms) / 1000,
    )
    store.put(key, encode(receipt), content_type=JSON)
    return receipt
