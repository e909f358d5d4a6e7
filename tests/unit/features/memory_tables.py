"""Feature tables and buckets in memory, with the verbs and the rules of the real ones, for tests of whole tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from functions.features.reconcile.digest import leaf_of
from functions.stores.errors import NotFoundError, PreconditionFailedError
from functions.stores.protocols import Applied, ObjectInfo, Row, Unreadable


class MemoryTable:
    """A table where the larger version wins; it counts what is read of it."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self.rows = {row.key: row for row in rows}
        self.unreadable: list[Unreadable] = []
        self.bytes_read = 0
        self.scanned_shares = 0

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        found = {key: self.rows[key] for key in keys if key in self.rows}
        self.bytes_read += sum(len(row.envelope) for row in found.values())
        return found

    def write(self, row: Row) -> int | None:
        known = self.rows.get(row.key)
        if known is not None and known.version >= row.version:
            return known.version
        self.rows[row.key] = row
        return None

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        return [Applied.APPLIED if self.write(row) is None else Applied.STALE for row in rows]

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        for row in list(self.rows.values()):
            if start <= row.key and (end is None or row.key < end):
                yield row

    def adopt(self, key: str, seen: int | None, version: int) -> Row | None:
        known = self.rows.get(key)
        if known is None or known.version != (seen or 0):
            return None
        self.rows[key] = Row(key, version, known.envelope)
        return self.rows[key]

    def bury(self, row: Row) -> bool:
        return self.swap(row, None)

    def swap(self, row: Row, seen: int | None) -> bool:
        known = self.rows.get(row.key)
        if (None if known is None else known.version) != seen:
            return False
        self.rows[row.key] = row
        return True

    def discard(self, rows: Sequence[Row]) -> int:
        for row in rows:
            if self.rows.get(row.key) == row:
                del self.rows[row.key]
        return len(rows)

    def shares(self, most: int) -> list[str]:
        return [f"{share}/{most}" for share in range(most)]

    def scan_share(self, share: str) -> Iterator[Row | Unreadable]:
        number, most = (int(part) for part in share.split("/"))
        self.scanned_shares += 1
        if not number:
            yield from self.unreadable
        for row in list(self.rows.values()):
            if leaf_of(b"share" + row.key.encode()) % most == number:
                self.bytes_read += len(row.envelope)
                yield row


class MemoryBucket:
    """An artifact bucket, as far as documents need one."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, key: str, limit: int) -> tuple[bytes, ObjectInfo]:
        if key not in self.objects:
            raise NotFoundError(key)
        return self.objects[key], ObjectInfo(key, len(self.objects[key]), "")

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self.objects[key][offset : offset + length]

    def put(self, key: str, data: bytes, *, absent: bool = False, **_: Any) -> ObjectInfo:
        if absent and key in self.objects:
            raise PreconditionFailedError(key)
        self.objects[key] = data
        return ObjectInfo(key, len(data), "")


class MemoryParking:
    """Keeps what is parked."""

    def __init__(self) -> None:
        self.parked: dict[str, str] = {}

    def park(self, identity: str, reason: str, content: Mapping[str, Any]) -> None:
        self.parked[identity] = reason
