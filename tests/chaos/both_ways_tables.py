"""Both feature tables in memory, with the rules, the streams and the weaknesses of the real ones, on a clock of their own."""

import base64
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud.bigtable_v2.types import data

from functions.features.items import content, from_bytes
from functions.stores.errors import StoreUnavailableError, ThrottledError
from functions.stores.protocols import Applied, Row, Unreadable
from local.clouds.gcp.change_streams import Change

BEGAN_MS = 1_795_500_000_000
_Mutation = data.Mutation.pb()


@dataclass
class Clock:
    """The run's time; a site's clock is off by a constant."""

    now_ms: int = BEGAN_MS

    def of(self, skew_ms: int) -> Any:
        return lambda: self.now_ms + skew_ms


class Store:
    """What both tables have in common: the rule of the larger version, throttling, and being away for a while."""

    def __init__(self, chance: random.Random, throttled: float) -> None:
        self._chance = chance
        self.throttled = throttled
        self.away = False

    def _admit(self) -> None:
        if self.away:
            raise StoreUnavailableError("restarting")
        if self.throttled and self._chance.random() < self.throttled:
            raise ThrottledError("throttled")

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        raise NotImplementedError

    def shares(self, most: int) -> list[str]:
        return ["all"]

    def scan_share(self, share: str) -> Iterator[Row | Unreadable]:
        self._admit()
        yield from self.scan()

    def discard(self, rows: Sequence[Row]) -> int:
        raise AssertionError("no row of this run ends so early")

    def swap(self, row: Row, seen: int | None) -> bool:
        raise NotImplementedError("no attribute of this run has a policy")

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        return [self._apply(row) for row in rows]

    def _apply(self, row: Row) -> Applied:
        try:
            self._admit()
        except (ThrottledError, StoreUnavailableError):
            return Applied.FAILED
        return self._bring(row)

    def _bring(self, row: Row) -> Applied:
        raise NotImplementedError


class DynamoTable(Store):
    """Items in wire form and their stream, as Lambda passes its records."""

    def __init__(self, chance: random.Random, throttled: float) -> None:
        super().__init__(chance, throttled)
        self.items: dict[str, dict[str, Any]] = {}
        self.stream: list[dict[str, Any]] = []
        self._sequence = 0

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        self._admit()
        return {key: self._row(key) for key in keys if key in self.items}

    def write(self, row: Row) -> int | None:
        self._admit()
        known = self._version(row.key)
        if known is not None and known >= row.version:
            return known
        item = {"entity": {"S": row.key}, "v": {"N": str(row.version)}, "e": {"B": row.envelope}}
        self._put(row.key, item)
        return None

    def _bring(self, row: Row) -> Applied:
        known = self._version(row.key)
        if known is not None and known >= row.version:
            return Applied.STALE
        self._put(row.key, {"entity": {"S": row.key}, "v": {"N": str(row.version)}, "e": {"B": row.envelope}})
        return Applied.APPLIED

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        return iter([self._row(key) for key in self.items])

    def adopt(self, key: str, seen: int | None, version: int) -> Row | None:
        self._admit()
        if key not in self.items or self._version(key) != seen:
            return None
        self._put(key, {**self.items[key], "v": {"N": str(version)}})
        return self._row(key)

    def bury(self, row: Row) -> bool:
        self._admit()
        if row.key in self.items:
            return False
        return self.write_freely(row)

    def write_freely(self, row: Row) -> bool:
        self._put(row.key, {"entity": {"S": row.key}, "v": {"N": str(row.version)}, "e": {"B": row.envelope}})
        return True

    def touch(self, key: str, number: int) -> None:
        """Change a row as a program does that knows no versions."""
        self._put(key, {**self.items.get(key, {"entity": {"S": key}}), "n": {"N": str(number)}})

    def remove(self, key: str) -> None:
        """Delete an item outright."""
        old = self.items.pop(key, None)
        if old is not None:
            self._record("REMOVE", key, old, None)

    def _put(self, key: str, item: dict[str, Any]) -> None:
        old = self.items.get(key)
        self.items[key] = item
        if old != item:
            self._record("MODIFY" if old else "INSERT", key, old, item)

    def _record(self, event: str, key: str, old: Any, new: Any) -> None:
        self._sequence += 1
        change = {"Keys": {"entity": {"S": key}}, "SequenceNumber": f"{self._sequence:021d}"}
        change |= {name: _as_lambda(image) for name, image in (("OldImage", old), ("NewImage", new)) if image}
        self.stream.append({"eventName": event, "dynamodb": change})

    def _version(self, key: str) -> int | None:
        version = self.items.get(key, {}).get("v")
        # An item without version is older than any, as the condition of a real put has it.
        return None if version is None else int(version["N"])

    def _row(self, key: str) -> Row:
        found = content(self.items[key], from_bytes)
        return Row(key, found.version or 0, found.envelope)


def _as_lambda(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"B": base64.b64encode(typed["B"]).decode()} if "B" in typed else dict(typed)
        for name, typed in item.items()
    }


class BigTable(Store):
    """Cells by timestamp, their collector, and the change stream."""

    def __init__(self, chance: random.Random, throttled: float, clock: Clock) -> None:
        super().__init__(chance, throttled)
        self.cells: dict[str, dict[int, bytes]] = {}
        self.stream: list[Change] = []
        self._clock = clock

    def read(self, keys: Sequence[str]) -> dict[str, Row]:
        self._admit()
        return {key: self._row(key) for key in keys if key in self.cells}

    def write(self, row: Row) -> int | None:
        self._admit()
        newest = max(self.cells.get(row.key, {}), default=0)
        if newest >= row.version:
            return newest
        self._set(row)
        return None

    def _bring(self, row: Row) -> Applied:
        self._set(row)
        return Applied.APPLIED

    def scan(self, start: str = "", end: str | None = None) -> Iterator[Row]:
        return iter([self._row(key) for key in self.cells])

    def adopt(self, key: str, seen: int | None, version: int) -> Row | None:
        self._admit()
        if key not in self.cells or max(self.cells[key]) != seen:
            return None
        self._set(Row(key, version, self.cells[key][seen]))
        return self._row(key)

    def bury(self, row: Row) -> bool:
        self._admit()
        if row.key in self.cells:
            return False
        self._set(row)
        return True

    def remove(self, key: str) -> None:
        """Delete a row outright."""
        if self.cells.pop(key, None) is not None:
            mutation = _Mutation()
            mutation.delete_from_family.family_name = "row"
            self._record(key, [mutation])

    def collect(self, key: str) -> None:
        """Take all but the newest cell, as the rule of one version does."""
        *old, newest = sorted(self.cells.get(key, {0: b""}))
        if not old:
            return
        self.cells[key] = {newest: self.cells[key][newest]}
        mutation = _Mutation()
        mutation.delete_from_column.family_name = "row"
        mutation.delete_from_column.column_qualifier = b"e"
        self._record(key, [mutation], collected=True)

    def _set(self, row: Row) -> None:
        self.cells.setdefault(row.key, {})[row.version] = row.envelope
        mutation = _Mutation()
        cell = mutation.set_cell
        cell.family_name, cell.column_qualifier, cell.value = "row", b"e", row.envelope
        cell.timestamp_micros = row.version * 1_000
        self._record(row.key, [mutation])

    def _record(self, key: str, mutations: list[Any], collected: bool = False) -> None:
        seconds, milliseconds = divmod(self._clock.now_ms, 1_000)
        nanoseconds = milliseconds * 1_000_000 + self._chance.randrange(1_000_000)
        self.stream.append(Change(key.encode(), collected, "c", seconds, nanoseconds, 0, tuple(mutations)))

    def _row(self, key: str) -> Row:
        version = max(self.cells[key])
        return Row(key, version, self.cells[key][version])
