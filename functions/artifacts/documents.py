"""Small JSON documents in a bucket besides the manifest: alias, receipt, transfer record."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functions.artifacts.errors import ManifestError
from functions.artifacts.manifest import Digest
from functions.settings import Site
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectInfo, ObjectStore

MOST_DOCUMENT_BYTES = 64 * 1024
JSON = "application/json"

_Count = Annotated[int, Field(ge=0)]
_Site = Annotated[Site, Field(strict=False)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1] = 1
    model: str
    version: Digest


D = TypeVar("D", bound=_Document)


class Alias(_Document):
    """A movable name for a version. Of two states the one with the larger (epoch, stamp) is the newer."""

    alias: str
    epoch: _Count
    stamp: _Count
    origin: _Site

    @property
    def order(self) -> tuple[int, int]:
        """What decides between two states of one alias."""
        return self.epoch, self.stamp


class Transfer(_Document):
    """What bringing a version over came to; `bytes_wire` are the packs as they crossed between the clouds."""

    bytes_raw: _Count
    bytes_wire: _Count
    packs: _Count
    finished_ms: _Count


class Receipt(_Document):
    """A site's word that it read back every file of a version and found the manifest's digests and the store's own CRC32C.

    `bytes_wire` is 0 for a version that was published on this site.
    """

    site: _Site
    files: _Count
    bytes_raw: _Count
    bytes_wire: _Count
    verified_ms: _Count
    seconds: Annotated[float, Field(ge=0)]


class Check(BaseModel):
    """One thing looked at; `passed` is None if it could not be looked at and is no reason to refuse."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(max_length=32)]
    passed: bool | None
    detail: Annotated[str, Field(max_length=2_000)] = ""


class Verdict(_Document):
    """Whether an alias of this site may point to a version, and what was looked at."""

    site: _Site
    passed: bool
    checks: Annotated[list[Check], Field(max_length=20)]
    judged_ms: _Count

    @property
    def reason(self) -> str:
        """Why it failed, empty if it did not."""
        return "; ".join(f"{check.name}: {check.detail}" for check in self.checks if check.passed is False)

    @property
    def unasked(self) -> bool:
        """Whether something could not be looked at."""
        return any(check.passed is None for check in self.checks)


def encode(document: _Document) -> bytes:
    """Return the document's bytes."""
    return document.model_dump_json().encode()


def find(store: ObjectStore, key: str, kind: type[D]) -> tuple[D, ObjectInfo] | None:
    """Return the document at `key` and the object's state, None if there is none; ManifestError if it is no such document."""
    try:
        data, info = store.get(key, MOST_DOCUMENT_BYTES)
    except NotFoundError:
        return None
    try:
        return kind.model_validate_json(data), info
    except ValidationError as error:
        raise ManifestError(f"{key} is no {kind.__name__.lower()}: {error}. Write it again") from error
