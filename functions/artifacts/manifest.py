"""The manifest of a version: what its files and tensors are, where it comes from, where it was published.

A version is visible on a site exactly when its manifest is: it is written last and only if absent, and its bytes are the same on
both sites. It is a signed in-toto statement: subjects are the files with their SHA-256, the predicate says the rest. Each names
the one before it of its model and site, with its digest, so the history is a chain in which a missing or exchanged version shows.
Whatever comes from a store is bounded and checked before anything is done with it; only `trusted` checks who signed it.
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from functions.artifacts import attestation
from functions.artifacts.attestation import Sha256, explain
from functions.artifacts.errors import ManifestError
from functions.artifacts.lineage import check_lineage
from functions.artifacts.paths import check_name, check_path, check_version
from functions.artifacts.root import root
from functions.artifacts.sign import Signer, Trust
from functions.settings import MEBIBYTE, Site

# A model of 140 GB has about a thousand tensors and 300 KB of manifest.
MOST_MANIFEST_BYTES = 16 * MEBIBYTE
MOST_FILES = 10_000
# GCS takes objects of 5 TiB, the smallest bound of the stores (https://cloud.google.com/storage/quotas).
MOST_FILE_BYTES = 5 << 40

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Sixteen digits and no number: beyond 2^53 numbers in JSON are not the same to every reader (RFC 8259, section 6).
Crc64Nvme = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Crc32c = Annotated[int, Field(ge=0, lt=1 << 32)]
Text = Annotated[str, Field(max_length=1_024)]
Bytes = Annotated[int, Field(ge=0, le=MOST_FILE_BYTES)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TensorEntry(_Frozen):
    """One tensor of the safetensors file that lists it; the range counts from the beginning of the file."""

    name: Text
    dtype: Annotated[str, Field(max_length=32)]
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=32)]
    start: Bytes
    end: Bytes
    blake3: Digest


class FileEntry(_Frozen):
    """One file; `tensors` in the order of their bytes, empty for anything but safetensors."""

    path: str
    size: Bytes
    sha256: Digest
    blake3: Digest
    crc32c: Crc32c
    crc64nvme: Crc64Nvme
    tensors: Annotated[list[TensorEntry], Field(max_length=100_000)] = []

    @model_validator(mode="after")
    def _check(self) -> "FileEntry":
        check_path(self.path)
        position = 0
        for tensor in self.tensors:
            if not position <= tensor.start <= tensor.end <= self.size:
                raise ValueError(f"tensor {tensor.name[:80]!r} of {self.path!r} overlaps another or leaves the file")
            position = tensor.end
        return self


class Link(_Frozen):
    """The statement before this one in the chain: a version's manifest or its tombstone, with the SHA-256 of its bytes."""

    kind: Literal["version", "tombstone"]
    version: Digest
    sha256: Sha256


class ModelSignature(_Frozen):
    """What `model.sig` (signature.py) needs beyond the files: an ECDSA signature, base64 of DER, and the PEM's digest."""

    signature: Annotated[str, Field(max_length=128)]
    key: Sha256


class Manifest(_Frozen):
    """One version of one model. `origin` is the site that published it: no site sends back what it was sent.

    `sequence` counts that site's statements about the model from 1.
    """

    format: Literal[1] = 1
    model: str
    version: Digest
    parent: Digest | None = None
    origin: Annotated[Site, Field(strict=False)]
    epoch: Annotated[int, Field(ge=0)] = 0
    created_ms: Annotated[int, Field(ge=0)]
    sequence: Annotated[int, Field(ge=1)] = 1
    previous: Link | None = None
    lineage: Annotated[dict[Text, Any], Field(max_length=100)] = {}
    model_signature: ModelSignature | None = None
    files: Annotated[list[FileEntry], Field(min_length=1, max_length=MOST_FILES)]

    @model_validator(mode="after")
    def _check(self) -> "Manifest":
        check_name(self.model, "model")
        check_lineage(self.lineage)
        if (self.previous is None) is not (self.sequence == 1):
            raise ValueError(f"statement {self.sequence} of its chain names {self.previous} as the one before it")
        paths = [file.path for file in self.files]
        if paths != sorted(paths, key=str.encode):
            raise ValueError("files are not in the order of their paths")
        if (found := root(self.files)) != self.version:
            raise ValueError(f"version {self.version} does not cover these files, their root is {found}")
        return self

    @property
    def bytes_raw(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)


def encode(manifest: Manifest, signer: Signer) -> bytes:
    """Return the manifest's bytes, signed."""
    predicate = manifest.model_dump(mode="json")
    subjects = [(file["path"], file.pop("sha256")) for file in predicate["files"]]
    return attestation.attest(subjects, attestation.VERSION_TYPE, predicate, signer)


def decode(data: bytes, model: str, version: str) -> Manifest:
    """Return the manifest that stands under this model's and version's key, whoever signed it; ManifestError if it is none."""
    return _read(data, model, version)[0]


def trusted(data: bytes, model: str, version: str, trust: Trust) -> Manifest:
    """Return the manifest that stands under this model's and version's key, signed by the site that it names as its origin.

    Raises ManifestError if it is none or another's, SignatureError if that site's keys did not sign it.
    """
    manifest, attested = _read(data, model, version)
    trust.check(attested.sealed, manifest.origin, _what(model, version))
    return manifest


def sha256(data: bytes) -> str:
    """Return the digest by which the chain and other statements name a statement's bytes."""
    return hashlib.sha256(data).hexdigest()


def _what(model: str, version: str) -> str:
    return f"manifest of {model} {version}"


def _read(data: bytes, model: str, version: str) -> tuple[Manifest, attestation.Attested]:
    what = _what(model, version)
    attested = attestation.read(data, attestation.VERSION_TYPE, what, MOST_MANIFEST_BYTES)
    files = attested.predicate.get("files")
    try:
        if not isinstance(files, list) or [name for name, _ in attested.subjects] != [each["path"] for each in files]:
            raise ManifestError("its subjects are not its files")
        merged = [{**each, "sha256": digest} for each, (_, digest) in zip(files, attested.subjects, strict=True)]
        manifest = Manifest.model_validate({**attested.predicate, "files": merged})
    except ValidationError as error:
        raise ManifestError(f"{what} is refused: {explain(error)}. Publish the version again") from error
    except (ManifestError, TypeError, KeyError) as error:
        raise ManifestError(f"{what} is refused: {error}. Publish the version again") from error
    if (manifest.model, manifest.version) != (model, check_version(version)):
        raise ManifestError(f"{what} describes {manifest.model} {manifest.version}")
    return manifest, attested
