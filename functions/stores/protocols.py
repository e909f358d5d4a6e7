"""The verbs that handlers may use on a store, each with its contract. One contract test runs against every implementation.

Every verb has a time limit of its own and may raise AccessDeniedError, ThrottledError or StoreUnavailableError; only what goes
beyond that is listed below. Nothing here retries for long: the event's queue is the retry.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ObjectInfo:
    """What a store itself says about an object.

    `crc32c` and `crc64nvme` are the whole object's values as the store attests them, None where it has none. `token` stands for
    exactly this state of the object and is what `put(..., replace=token)` compares: an ETag on S3, a generation on GCS.
    `modified_ms` is the store's own time of the write, given by `list` and `head`.
    """

    key: str
    size: int
    token: str
    crc32c: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    modified_ms: int | None = None
    crc64nvme: int | None = None


class ObjectStore(Protocol):
    """One bucket."""

    def head(self, key: str) -> ObjectInfo:
        """Return what the store knows about `key`; NotFoundError where there is none."""

    def get(self, key: str, limit: int) -> tuple[bytes, ObjectInfo]:
        """Return the whole object and its state, read together.

        Raises NotFoundError, and ObjectTooLargeError before reading a body of more than `limit` bytes.
        """

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; zero bytes are answered without a call.

        Raises NotFoundError, StoreRefusedError for a range that is not wholly inside the object, StoreUnavailableError for a
        body that ends early.
        """

    def put(
        self,
        key: str,
        data: bytes,
        *,
        absent: bool = False,
        replace: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Write the object at once, CRC32C declared so that the store refuses damaged bytes.

        `absent`: only if there is none. `replace`: only if its token is this one (an object that is gone has lost the race
        too). Raises PreconditionFailedError, which may also mean that an earlier try whose answer was lost did land: who
        cares compares content. Raises ConflictError where the store decided nothing.
        """

    def upload(self, key: str, path: Path, crc32c: int, progress: Callable[[int], None]) -> ObjectInfo:
        """Write a file of any size, parts in parallel, only if there is none; the store attests `crc32c` over the whole.

        `progress` is told bytes as they land, from several threads. Raises PreconditionFailedError where the key is taken.
        A crash leaves no visible object; parts left behind fall to the bucket's lifecycle rules.
        """

    def assemble(self, key: str, parts: Sequence[str], crc32c: int) -> ObjectInfo:
        """Join the objects `parts`, in this order, into `key` without moving bytes through the caller.

        An existing object is overwritten: names are content-addressed, so the bytes are the same. The answer carries what the
        store attests; comparing it with `crc32c` is up to the caller. Raises NotFoundError if a part is missing.
        """

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below `prefix` in order of their keys; `metadata` and `crc32c` may be left out."""

    def delete(self, key: str) -> None:
        """Delete the object; one that is not there is no error."""


@dataclass(frozen=True)
class Row:
    """One feature row: what replicates is exactly these three. `envelope` is opaque to the stores."""

    key: str
    version: int
    envelope: bytes


class Applied(StrEnum):
    """What became of one row of a replicated batch; FAILED may pass on a retry, REFUSED never will."""

    APPLIED = "applied"
    STALE = "stale"
    FAILED = "failed"
    REFUSED = "refused"


class RowStore(Protocol):
    """One table of feature rows. The larger version wins, whole row, whichever way and however often rows arrive."""

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        """Return the rows that exist, tombstones and expired ones included; own writes are seen."""

    def write(self, row: Row) -> int | None:
        """Write at home if no version at or above the row's own is stored.

        Returns None when written, else the version that is there: the caller stamps again. Raises StoreRefusedError for a row
        that the store will never take.
        """

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        """Bring in replicated rows, at most one a key; the outcome of each stands at its index.

        A store whose own rule is "newest version wins" may answer APPLIED for a row that it then ignores. Idempotent.
        """

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        """Yield the rows with start <= key < end, in no certain order, tombstones included; rows may move meanwhile."""


class AdoptingRowStore(RowStore, Protocol):
    """A table that programs unaware of versions write to as well."""

    def adopt(self, key: str, seen: int | None, version: int) -> Row | None:
        """Give the row `version` if its version still is `seen` (None: it has none).

        Returns the row as it then stands, whoever wrote its data, or None if it moved on or is gone: then there is nothing
        left to adopt. A repeat is answered with None.
        """

    def bury(self, row: Row) -> bool:
        """Write the tombstone of a row that was deleted outright, only if nothing stands in its place.

        Returns False if something does: a newer row, or the tombstone of an earlier try.
        """


@dataclass(frozen=True)
class Unreadable:
    """A row that a scan met and that is none of ours: its key, as far as it could be told, and what is wrong."""

    key: str
    reason: str


class FeatureTable(AdoptingRowStore, Protocol):
    """A site's table with everything that reconciling and merging need beside the apply path's verbs."""

    def shares(self, most: int) -> list[str]:
        """Return names of up to `most` shares that together are the table, whatever is written meanwhile."""

    def scan_share(self, share: str) -> Iterator[Row | Unreadable]:
        """Yield the rows of a share once each, in no certain order, tombstones and expired rows included.

        Envelopes are passed on as they are, good or not, unless the row can't be told without. A row that moves meanwhile is
        seen as it was before or after. Raises StoreRefusedError for a name that `shares` did not give.
        """

    def swap(self, row: Row, seen: int | None) -> bool:
        """Write the row only over exactly version `seen` (None: over nothing); returns whether it was written.

        False means that another writer came first: read again and decide again.
        """

    def discard(self, rows: Sequence[Row]) -> int:
        """Take ended rows away, each unless a newer version has come meanwhile; returns how many calls for it went through.

        A store that removes them by itself does nothing and returns 0.
        """


@dataclass(frozen=True)
class Message:
    """A message on a queue or topic; `attributes` are short texts."""

    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class MessageQueue(Protocol):
    """A queue or topic to send to."""

    def publish(self, messages: Sequence[Message]) -> None:
        """Send all, in as few calls as the provider's limits allow; returns when the provider has acknowledged each.

        A failure part of the way may have sent some: receivers bear duplicates.
        """
