"""The manifest of a version: what its files and tensors are, where it comes from, where it was published.

A version is visible on a site exactly when its manifest is: it is written last and only if absent, and its bytes are the same on
both sites. Whatever comes from a store is bounded and checked before anything is done with it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from functions.artifacts.errors import ManifestError
from functions.artifacts.paths import check_name, check_path, check_version
from functions.artifacts.root import root
from functions.settings import MEBIBYTE, Site

# A model of 140 GB has about a thousand tensors and 300 KB of manifest.
MOST_MANIFEST_BYTES = 16 * MEBIBYTE
MOST_FILES = 10_000
# GCS takes objects of 5 TiB, the smallest bound of the stores (https://cloud.google.com/storage/quotas).
MOST_FILE_BYTES = 5 << 40

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
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


class Manifest(_Frozen):
    """One version of one model. `origin` is the site that published it: no site sends back what it was sent."""

    format: Literal[1] = 1
    model: str
    version: Digest
    parent: Digest | None = None
    origin: Annotated[Site, Field(strict=False)]
    epoch: Annotated[int, Field(ge=0)] = 0
    created_ms: Annotated[int, Field(ge=0)]
    lineage: Annotated[dict[Text, Any], Field(max_length=100)] = {}
    files: Annotated[list[FileEntry], Field(min_length=1, max_length=MOST_FILES)]

    @model_validator(mode="after")
    def _check(self) -> "Manifest":
        check_name(self.model, "model")
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


def encode(manifest: Manifest) -> bytes:
    """Return the manifest's bytes: equal manifests, equal bytes."""
    return manifest.model_dump_json(indent=None).encode()


def decode(data: bytes, model: str, version: str) -> Manifest:
    """Return the manifest that stands under this model's and version's key; ManifestError if it is none or another's."""
    what = f"manifest of {model} {version}"
    if len(data) > MOST_MANIFEST_BYTES:
        raise ManifestError(f"{what} has {len(data)} bytes, at most {MOST_MANIFEST_BYTES} are allowed")
    try:
        manifest = Manifest.model_validate_json(data)
    except (ValidationError, ManifestError) as error:
        raise ManifestError(f"{what} is refused: {error}. Publish the version again") from error
    if (manifest.model, manifest.version) != (model, check_version(version)):
        raise ManifestError(f"{what} describes {manifest.model} {manifest.version}")
    return manifest
