"""Features both ways in one process, on a clock of its own: the real planners and appliers, stores and transports in memory.

What lies between the stores fails by a seed: messages are doubled, reordered, delayed and delivered again, batches break off in
the middle, stores throttle and restart, records are damaged. What is lost for good, a trimmed stream and dropped messages, the
reconciler makes up for, once the paths' own watermarks have asked for it. Time is a number, so a run of a million operations
takes minutes.
"""

import heapq
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from functions.errors import TransientError
from functions.events import PubSubMessage
from functions.features.apply import FeatureApplier
from functions.features.client import FeatureStore
from functions.features.plan import Outcome
from functions.features.reconcile.reconciler import Report
from functions.features.reconcile.rule import REQUEST, RETRY_MS, Watermark, read_ms
from functions.features.reconcile.steps import KEEPS_MS, PLAIN_WRITERS
from functions.features.reconcile.survey import BucketShelf
from functions.features.reconcile.turn import Turn
from functions.features.reread.apply import RereadApplier
from functions.settings import Site
from functions.stores.protocols import Row
from local.clouds.gcp.dataflow_template import Faults, Message, Parameters, messages
from tests.chaos.both_ways_tables import BigTable, Clock, DynamoTable
from tests.unit.features.memory_tables import MemoryBucket

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
    restarts: float = 0.0005
    away_ms: int = 300
    outright: float = 0.005
    delay_ms: int = 400
    skew_ms: int = 30_000
    step_ms: int = 3


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
    restarts: int = 0
    lost: int = 0
    poison: int = 0
    parked: int = 0
    settled_ms: int = 0
    rows: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    def line(self) -> str:
        outcomes = ", ".join(f"{name.value} {count}" for name, count in sorted(self.outcomes.items()))
        return (
            f"seed {self.seed}: {self.operations} operations on {self.rows} rows, {self.refused} refused;"
            f" {self.deliveries} deliveries ({outcomes}), {self.broken_off} broken off, {self.restarts} restarts,"
            f" {self.parked} parked of"
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
        self._back_at: dict[Site, int] = {}
        self._lossy = 0.0
        self.shelves = {site: BucketShelf(MemoryBucket()) for site in Site}  # type: ignore[arg-type]  # as far as needed
        self._marks = {
            site: Watermark(self.shelves[site], "features", KEEPS_MS[site], self._clock.of(0)) for site in Site
        }

    def run(self, operations: int) -> Counts:
        """Write, deliver, settle; the tables are then for the caller to compare."""
        for number in range(operations):
            self._clock.now_ms += self._chance.randrange(self._rough.step_ms)
            self._restart()
            self._operate(number)
            if number % 7 == 0:
                self._deliver()
        self.counts.settled_ms = self.settle()
        self.counts.parked = len(self.lot.parked)
        self.counts.poison = len(self._poisoned)
        self.counts.rows = len(self.aws.items)
        return self.counts

    def settle(self) -> int:
        """Deliver what is under way, with the faults of the transports and without new writes; return how long that took."""
        ended = self._clock.now_ms
        while self._busy():
            self._clock.now_ms += 20
            self._restart()
            self._deliver()
            assert self._clock.now_ms < ended + 3_600_000, "something goes round for ever"
        return self._clock.now_ms - ended

    def lose(self, operations: int, dropped: float = 0.05) -> None:
        """Write while messages are dropped for good, and at the end trim the stream: all of it is away for longer than kept."""
        self.reconcile()
        self._lossy = dropped
        for number in range(operations):
            self._clock.now_ms += self._chance.randrange(self._rough.step_ms)
            self._operate(number)
            if number % 7 == 0:
                self._deliver()
        self.settle()
        for number in range(operations // 10):
            self._operate(number)
        self.counts.lost += len(self.aws.stream) + len(self.gcp.stream)
        self.aws.stream.clear()
        self.gcp.stream.clear()
        self._lossy = 0.0
        self._clock.now_ms += max(KEEPS_MS.values()) + 60_000
        self._stores[Site.AWS].set("after the gap", {"by": "aws"})
        self._stores[Site.GCP].set("after the gap", {"by": "gcp"})
        self.settle()

    def asked_for(self) -> set[Site]:
        """Return the sites whose paths have put a gap on record."""
        return {site for site, shelf in self.shelves.items() if read_ms(shelf, REQUEST) is not None}

    def reconcile(self) -> Report:
        """Let both sites' clocks call until a comparison ends equal, and return what it found; writes have ended."""
        for _ in range(200):
            self._clock.now_ms += RETRY_MS
            for site in Site:
                try:
                    _, report = self._turn(site).run(lambda: False)
                except TransientError:
                    # The next call goes on.
                    continue
                # What was mended travels like any write, and changes nothing where it arrives.
                self.settle()
                if report is not None and report.equal:
                    return report
        raise AssertionError("no comparison ended equal")

    def _turn(self, site: Site) -> Turn:
        tables = {Site.AWS: self.aws, Site.GCP: self.gcp}
        return Turn(site, tables, self.shelves, self.lot, self._clocks[site], PLAIN_WRITERS)

    def _restart(self) -> None:
        for site, at in list(self._back_at.items()):
            if at <= self._clock.now_ms:
                self._table(site).away = False
                del self._back_at[site]
        if self._chance.random() < self._rough.restarts:
            site = self._chance.choice(list(Site))
            self._table(site).away = True
            self._back_at[site] = self._clock.now_ms + self._chance.randrange(self._rough.away_ms)
            self.counts.restarts += 1

    def _table(self, site: Site) -> DynamoTable | BigTable:
        return self.aws if site is Site.AWS else self.gcp

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
            if self._table(site).away:
                self.counts.refused += 1
            elif dice < self._rough.outright:
                self._table(site).remove(key)
            elif dice < self._rough.outright + self._rough.unaware:
                self.aws.touch(key, number) if not self.aws.away else None
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
                if self._lossy and self._chance.random() < self._lossy:
                    self.counts.lost += 1
                    continue
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
                self._marks[Site.GCP].check()
                done = self._back.run(batch)
                self.counts.outcomes.update(done.result.outcomes)
                failed = set(done.failed)
                if not failed:
                    self._marks[Site.GCP].advance()
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
            self._marks[Site.AWS].check()
            result = self._forth.run(json.loads(json.dumps(sent)))
            self.counts.outcomes.update(result.outcomes)
            if result.failed is None:
                done = len(batch)
                self._marks[Site.AWS].advance()
            else:
                done = sum(int(one["dynamodb"]["SequenceNumber"]) < int(result.failed) for one in batch)
            if self._chance.random() >= self._rough.redelivered:
                del stream[:done]
