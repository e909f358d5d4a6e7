"""Features both ways in one process, on a clock of its own: the real planners and appliers, stores and transports in memory.

What lies between the stores fails by a seed: messages are doubled, reordered, delayed and delivered again, batches break off in
the middle, stores throttle, records are damaged. Time is a number, so a run of a million operations takes minutes.
"""

import base64
import heapq
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.cloud.bigtable_v2.types import data

from functions.errors import TransientError
from functions.events import PubSubMessage
from functions.features.apply import FeatureApplier
from functions.features.client import FeatureStore
from functions.features.items import content, from_bytes
from functions.features.plan import Outcome
from functions.features.reverse import RereadApplier
from functions.settings import Site
from functions.stores.errors import ThrottledError
from functions.stores.protocols import Applied, Row
from local.clouds.gcp.change_streams import Change
from local.clouds.gcp.dataflow_template import Faults, Message, Parameters, messages

BEGAN_MS = 1_795_500_000_000
PARAMETERS = Parameters.of(
    {
        "pubSubTopic": "changes",
        "bigtableChangeStreamAppProfile": "replication",
        "bigtableReadInstanceId": "instance",
        "bigtableReadTableId": "features",
        "stripValues": "true",
    },
    "project",
)
_Mutation = data.Mutation.pb()


@dataclass(frozen=True)
class Roughness:
    """How badly things go, as shares of one."""

    deletes: float = 0.2
    duplicated: float = 0.25
    redelivered: float = 0.05
    throttled: float = 0.01
    broken_off: float = 0.02
    poison: float = 0.001
    unaware: float = 0.01
    outright: float = 0.005
    delay_ms: int = 400
    skew_ms: int = 30_000
    step_ms: int = 3


@dataclass
class Clock:
    """The run's time; a site's clock is off by a constant."""

    now_ms: int = BEGAN_MS

    def of(self, skew_ms: int) -> Any:
        return lambda: self.now_ms + skew_ms


class Store:
    """What both tables have in common: the rule of the larger version, and throttling."""

    def __init__(self, chance: random.Random, throttled: float) -> None:
        self._chance = chance
        self.throttled = throttled

    def _admit(self) -> None:
        if self.throttled and self._chance.random() < self.throttled:
            raise ThrottledError("throttled")

    def apply(self, rows: Sequence[Row]) -> list[Applied]:
        return [self._apply(row) for row in rows]

    def _apply(self, row: Row) -> Applied:
        try:
            self._admit()
        except ThrottledError:
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


@dataclass
class Lot:
    """Where poison ends; parking the same again changes nothing."""

    parked: dict[str, str] = field(default_factory=dict)

    def park(self, identity: str, reason: str, content: Mapping[str, Any]) -> None:
        self.parked[identity] = reason


@dataclass
class Counts:
    """What a run came to."""

    seed: int
    operations: int = 0
    refused: int = 0
    deliveries: int = 0
    broken_off: int = 0
    poison: int = 0
    parked: int = 0
    settled_ms: int = 0
    rows: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    def line(self) -> str:
        outcomes = ", ".join(f"{name.value} {count}" for name, count in sorted(self.outcomes.items()))
        return (
            f"seed {self.seed}: {self.operations} operations on {self.rows} rows, {self.refused} refused;"
            f" {self.deliveries} deliveries ({outcomes}), {self.broken_off} broken off, {self.parked} parked of"
            f" {self.poison} poisoned; nothing under way {self.settled_ms} ms after the last write"
        )


class Chaos:
    """One seeded run."""

    def __init__(self, seed: int, keys: int, rough: Roughness) -> None:
        self._chance = random.Random(seed)
        self._rough = rough
        self._keys = keys
        self._clock = Clock()
        self.counts = Counts(seed)
        self.aws = DynamoTable(self._chance, rough.throttled)
        self.gcp = BigTable(self._chance, rough.throttled, self._clock)
        skews = {site: self._chance.randint(-rough.skew_ms, rough.skew_ms) for site in Site}
        self._clocks = {site: self._clock.of(skews[site]) for site in Site}
        self._stores = {
            Site.AWS: FeatureStore(self.aws, Site.AWS, self._clocks[Site.AWS]),
            Site.GCP: FeatureStore(self.gcp, Site.GCP, self._clocks[Site.GCP]),
        }
        self.lot = Lot()
        self._forth = FeatureApplier(Site.AWS, self.aws, self.gcp, self.lot, self._clocks[Site.AWS])
        self._back = RereadApplier(FeatureApplier(Site.GCP, self.gcp, self.aws, self.lot, self._clocks[Site.GCP]))
        self._queue: list[tuple[int, int, PubSubMessage]] = []
        self._told = 0
        self._serial = 0
        # In order, so that a seed means the same in every process.
        self._dirty: dict[str, None] = {}
        self._poisoned: set[str] = set()

    def run(self, operations: int) -> Counts:
        """Write, deliver, settle; the tables are then for the caller to compare."""
        for number in range(operations):
            self._clock.now_ms += self._chance.randrange(self._rough.step_ms)
            self._operate(number)
            if number % 7 == 0:
                self._deliver()
        ended = self._clock.now_ms
        # What remains is delivered with the faults of the transports and without new writes.
        while self._busy():
            self._clock.now_ms += 20
            self._deliver()
            assert self._clock.now_ms < ended + 3_600_000, "something goes round for ever"
        self.counts.settled_ms = self._clock.now_ms - ended
        self.counts.parked = len(self.lot.parked)
        self.counts.poison = len(self._poisoned)
        self.counts.rows = len(self.aws.items)
        return self.counts

    def unforeseen(self) -> dict[str, str]:
        """Return what was parked, with its reason, beside the damaged records.

        Left out are versions with two contents: a row that a program deleted outright and an aware writer wrote again within
        the same step of 4 ms gets its old version, since nothing tells the writer of it. It is parked, said so, and overwritten.
        """
        return {
            identity: reason
            for identity, reason in self.lot.parked.items()
            if identity not in self._poisoned and "has two contents" not in reason
        }

    def missed(self) -> set[str]:
        """Return the damaged records that were not parked."""
        return self._poisoned - self.lot.parked.keys()

    def rows(self) -> tuple[dict[str, Row], dict[str, Row]]:
        """Return both tables, read past the throttling."""
        self.aws.throttled = self.gcp.throttled = 0
        return {row.key: row for row in self.aws.scan()}, {row.key: row for row in self.gcp.scan()}

    def _operate(self, number: int) -> None:
        key = f"key#{min(self._chance.randrange(self._keys), self._chance.randrange(self._keys)):06d}"
        site = self._chance.choice(list(Site))
        dice = self._chance.random()
        self.counts.operations += 1
        try:
            if dice < self._rough.outright:
                (self.aws if site is Site.AWS else self.gcp).remove(key)
            elif dice < self._rough.outright + self._rough.unaware:
                self.aws.touch(key, number)
            elif dice < self._rough.outright + self._rough.unaware + self._rough.deletes:
                self._stores[site].delete(key)
            else:
                self._stores[site].set(key, {"n": number, "by": site.value})
        except TransientError:
            self.counts.refused += 1
        self._dirty[key] = None

    def _busy(self) -> bool:
        return bool(self.aws.stream or self.gcp.stream or self._queue or self._dirty)

    def _deliver(self) -> None:
        self._collect()
        self._publish()
        self._deliver_stream()
        self._deliver_pushes()

    def _collect(self) -> None:
        for key in list(self._dirty):
            if self._chance.random() < 0.3:
                self.gcp.collect(key)
                self._dirty.pop(key)

    def _publish(self) -> None:
        """What the job and Pub/Sub do: a message a cell, some twice, none in order."""
        for change in self.gcp.stream:
            for one in messages(change, PARAMETERS, Faults()):
                assert isinstance(one, Message)
                body = one.data.decode()
                self._told += 1
                identity = str(self._told)
                if self._chance.random() < self._rough.poison:
                    self._poisoned.add(f"p{identity}")
                    self._push(PubSubMessage(f"p{identity}", '{"rowKey": 1}', {}))
                self._push(PubSubMessage(identity, body, {}))
                if self._chance.random() < self._rough.duplicated:
                    self._push(PubSubMessage(identity, body, {}))
        self.gcp.stream.clear()

    def _push(self, message: PubSubMessage) -> None:
        self._serial += 1
        due = self._clock.now_ms + self._chance.randrange(self._rough.delay_ms)
        heapq.heappush(self._queue, (due, self._serial, message))

    def _deliver_pushes(self) -> None:
        while self._queue and self._queue[0][0] <= self._clock.now_ms:
            batch = []
            while self._queue and self._queue[0][0] <= self._clock.now_ms and len(batch) < self._chance.randint(1, 12):
                batch.append(heapq.heappop(self._queue)[2])
            self.counts.deliveries += len(batch)
            if self._chance.random() < self._rough.broken_off:
                # Killed in the middle: some of it was applied, and nothing was acknowledged.
                self._back.run(batch[: len(batch) // 2])
                self.counts.broken_off += 1
                failed = {message.identity for message in batch}
            else:
                done = self._back.run(batch)
                self.counts.outcomes.update(done.result.outcomes)
                failed = set(done.failed)
            for message in batch:
                if message.identity in failed or self._chance.random() < self._rough.redelivered:
                    self._push(message)

    def _deliver_stream(self) -> None:
        """What Lambda does with a stream: batches in order, again from the first that failed."""
        stream = self.aws.stream
        while stream and self._chance.random() < 0.7:
            batch = stream[: self._chance.randint(1, 40)]
            sent = list(batch)
            if self._chance.random() < self._rough.poison * len(batch):
                sequence = f"{batch[0]['dynamodb']['SequenceNumber']}9"
                self._poisoned.add(sequence)
                sent.insert(0, {"eventName": "ODD", "dynamodb": {"SequenceNumber": sequence}})
            self.counts.deliveries += len(sent)
            if self._chance.random() < self._rough.broken_off:
                self._forth.run(json.loads(json.dumps(sent[: len(sent) // 2])))
                self.counts.broken_off += 1
                continue
            result = self._forth.run(json.loads(json.dumps(sent)))
            self.counts.outcomes.update(result.outcomes)
            if result.failed is None:
                done = len(batch)
            else:
                done = sum(int(one["dynamodb"]["SequenceNumber"]) < int(result.failed) for one in batch)
            if self._chance.random() >= self._rough.redelivered:
                del stream[:done]
