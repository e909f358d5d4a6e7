"""Tombstones: signed statements that a version is on its way out. They stay when all else of the version is gone."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from functions.artifacts import attestation
from functions.artifacts.errors import ManifestError
from functions.artifacts.manifest import Digest, Link, Text, sha256
from functions.artifacts.paths import check_name, check_version, manifest_key, tombstone_key
from functions.artifacts.sign import Signer, Trust
from functions.settings import Site
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectStore

MOST_TOMBSTONE_BYTES = 64 * 1024


class Tombstone(BaseModel):
    """The end of a version. `manifest` and `manifest_sequence` hold its place in the chain when its manifest is gone.

    `origin` is the site that published the version: it alone retires it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    model: str
    version: Digest
    origin: Annotated[Site, Field(strict=False)]
    epoch: Annotated[int, Field(ge=0)] = 0
    created_ms: Annotated[int, Field(ge=0)]
    reason: Text
    manifest: Digest
    manifest_sequence: Annotated[int, Field(ge=1)]
    sequence: Annotated[int, Field(ge=2)]
    previous: Link

    @model_validator(mode="after")
    def _check(self) -> "Tombstone":
        check_name(self.model, "model")
        return self


def encode(tombstone: Tombstone, signer: Signer) -> bytes:
    """Return the tombstone's bytes, signed; its subject is the manifest that it ends."""
    subject = (manifest_key(tombstone.model, tombstone.version), tombstone.manifest)
    return attestation.attest([subject], attestation.TOMBSTONE_TYPE, tombstone.model_dump(mode="json"), signer)


def trusted(data: bytes, model: str, version: str, trust: Trust) -> Tombstone:
    """Return the tombstone of this version, signed by the site that published it.

    Raises ManifestError if it is none or another's, SignatureError if that site's keys did not sign it.
    """
    what = f"tombstone of {model} {version}"
    attested = attestation.read(data, attestation.TOMBSTONE_TYPE, what, MOST_TOMBSTONE_BYTES)
    try:
        found = Tombstone.model_validate(attested.predicate)
    except (ValidationError, ManifestError) as error:
        problem = attestation.explain(error) if isinstance(error, ValidationError) else str(error)
        raise ManifestError(f"{what} is refused: {problem}") from error
    if (found.model, found.version) != (model, check_version(version)):
        raise ManifestError(f"{what} is that of {found.model} {found.version}")
    trust.check(attested.sealed, found.origin, what)
    return found


def find(store: ObjectStore, model: str, version: str, trust: Trust) -> Tombstone | None:
    """Return a version's tombstone, None if it has none; errors of `trusted`."""
    try:
        data, _ = store.get(tombstone_key(model, version), MOST_TOMBSTONE_BYTES)
    except NotFoundError:
        return None
    return trusted(data, model, version, trust)


def link(data: bytes, version: str) -> Link:
    """Return how the next statement of the chain names this tombstone."""
    return Link(kind="tombstone", version=version, sha256=sha256(data))
