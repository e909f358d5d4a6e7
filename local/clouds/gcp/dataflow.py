"""Dataflow jobs of the local cloud: the one template that the program deploys, run as Google runs it.

A job reads the table's change stream by partition, publishes what the template makes of it, and only then keeps the
continuation token in the cloud's folder. So a kill between the two makes duplicates and never a loss. While the cloud is
cut off a job waits, and goes on from its token when the cloud is back.
"""

import asyncio
import hashlib
import json
import logging
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from local.clouds.errors import ActorError, CloudError, UnsupportedError
from local.clouds.gcp import delivery
from local.clouds.gcp.change_streams import ChangeStream, Partition, Position
from local.clouds.gcp.dataflow_template import DeadLetter, Faults, Message, Parameters, messages
from local.clouds.gcp.errors import ChangeStreamEndedError
from local.clouds.gcp.pubsub import PubSub
from local.clouds.gcp.resources import properties, required
from local.clouds.gcp.storage import Storage
from local.state import Resource

logger = logging.getLogger(__name__)

JOB_TYPE = "gcp:dataflow/flexTemplateJob:FlexTemplateJob"
TEMPLATE = "Bigtable_Change_Streams_to_PubSub"
# One bundle is published in one call; Pub/Sub takes 1,000 messages (https://cloud.google.com/pubsub/quotas).
BUNDLE_CHANGES = 500
# A publish call costs more than its messages: what follows a change this soon goes with it, as publishers of Google's client
# library batch by themselves (https://cloud.google.com/pubsub/docs/batch-messaging).
BUNDLE_SECONDS = 0.01
# What a reading may be ahead of the publishing.
HELD_POSITIONS = 5_000
# How much a killed job publishes twice at most.
SAVE_SECONDS = 0.2
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 1.0


@dataclass
class JobCounters:
    """What a job has done since this process started."""

    changes: int = 0
    published: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    reconnects: int = 0
    gaps: int = 0


@dataclass
class Progress:
    """A job's continuation tokens by partition, in a file that outlives the process."""

    path: Path
    ground: str
    since_us: int
    tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, ground: str) -> "Progress":
        """Read the file, or begin now; what another ground left is dropped, as its changes are gone too."""
        try:
            kept = json.loads(path.read_text())
        except (OSError, ValueError):
            kept = {}
        if kept.get("ground") == ground:
            return cls(path, ground, int(kept["since_us"]), dict(kept["tokens"]))
        progress = cls(path, ground, time.time_ns() // 1_000)
        progress.save()
        return progress

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps({"ground": self.ground, "since_us": self.since_us, "tokens": self.tokens}))
        draft.replace(self.path)


class Job:
    """One running job. Belongs to the main thread's event loop."""

    def __init__(
        self,
        name: str,
        parameters: Parameters,
        stream: ChangeStream,
        pubsub: PubSub,
        storage: Storage,
        folder: Path,
        ground: str,
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.counters = JobCounters()
        self.faults = Faults()
        self._stream = stream
        self._pubsub = pubsub
        self._storage = storage
        self._progress = Progress.open(folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json", ground)
        self._recent: deque[delivery.Message] = deque()
        self._unsaved = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, or go on from the kept tokens."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop at once; what was under way is read again by the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._progress.save()

    def forget(self) -> None:
        """Drop the kept tokens of a cancelled job."""
        self._progress.path.unlink(missing_ok=True)

    def statistics(self) -> Mapping[str, Any]:
        """Return counters and faults."""
        return {**vars(self.counters), "faults": asdict(self.faults), "topic": self.parameters.topic}

    async def _run(self) -> None:
        partitions = await self._patiently(self._stream.partitions)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep())
            for partition in partitions:
                group.create_task(self._follow(partition))

    async def _keep(self) -> None:
        """Write the tokens down now and then: a file a message would cost more than the message."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            if self._unsaved:
                self._unsaved = False
                self._progress.save()

    async def _follow(self, partition: Partition) -> None:
        """Read and publish one partition for ever."""
        key = f"{partition.start.hex()}-{partition.end.hex()}"
        retry = FIRST_RETRY_SECONDS
        while True:
            positions: asyncio.Queue[Position] = asyncio.Queue(HELD_POSITIONS)
            began = time.monotonic()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(partition, key, positions))
                    group.create_task(self._publish(key, positions))
            except* ChangeStreamEndedError as errors:
                # Real jobs fail here and are started anew; the gap is for a comparison of both tables to find.
                logger.error("job %s: %s", self.name, errors.exceptions[0])
                self.counters.gaps += 1
                self._progress.tokens.pop(key, None)
                self._progress.since_us = time.time_ns() // 1_000
            except* CloudError as errors:
                logger.warning("job %s waits: %s", self.name, errors.exceptions[0])
            self.counters.reconnects += 1
            if time.monotonic() - began > LAST_RETRY_SECONDS:
                retry = FIRST_RETRY_SECONDS
            await asyncio.sleep(retry * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
            retry = min(retry * 2, LAST_RETRY_SECONDS)

    async def _read(self, partition: Partition, key: str, positions: asyncio.Queue[Position]) -> None:
        token = self._progress.tokens.get(key)
        async for position in self._stream.read(partition, token, self._progress.since_us):
            await positions.put(position)

    async def _publish(self, key: str, positions: asyncio.Queue[Position]) -> None:
        while True:
            bundle = [await positions.get()]
            if bundle[0].change is not None:
                await asyncio.sleep(BUNDLE_SECONDS)
            while len(bundle) < BUNDLE_CHANGES and not positions.empty():
                bundle.append(positions.get_nowait())
            await self._send(bundle)
            self._progress.tokens[key] = bundle[-1].token
            self._unsaved = True

    async def _send(self, bundle: list[Position]) -> None:
        changes = [position.change for position in bundle if position.change is not None]
        made = [one for change in changes for one in messages(change, self.parameters, self.faults)]
        self.counters.changes += len(changes)
        for one in made:
            if isinstance(one, DeadLetter):
                await self._set_aside(one)
        outgoing = self._disturbed([_outgoing(one) for one in made if isinstance(one, Message)])
        if not outgoing:
            return
        if self.faults.delay_seconds:
            await asyncio.sleep(random.uniform(0.0, self.faults.delay_seconds))  # noqa: S311 - a fault, no secret
        await self._pubsub.publish(self.parameters.topic, outgoing)
        self.counters.published += len(outgoing)

    def _disturbed(self, outgoing: list[delivery.Message]) -> list[delivery.Message]:
        """Return the messages with those of earlier bundles that come twice, in the order in which they are sent."""
        faults = self.faults
        if faults.duplicated and outgoing:
            self._recent.extend(one for one in outgoing if random.random() < faults.duplicated)  # noqa: S311
            repeated = [self._recent.popleft() for _ in range(max(0, len(self._recent) - faults.late_messages))]
            # The last ones of a burst must come twice as well, though nothing pushes them out.
            repeated += [self._recent.popleft() for _ in range(min(len(self._recent), len(outgoing) // 4))]
            self.counters.duplicates += len(repeated)
            outgoing = [*outgoing, *repeated]
        if faults.shuffled:
            random.shuffle(outgoing)
        return outgoing

    async def _set_aside(self, letter: DeadLetter) -> None:
        self.counters.dead_letters += 1
        directory = self.parameters.dead_letters
        if not directory:
            logger.error("job %s drops a change, no dlqDirectory is set: %s", self.name, letter.reason)
            return
        bucket, _, folder = directory.removeprefix("gs://").partition("/")
        data = json.dumps({"message": letter.record, "error_message": letter.reason}).encode()
        name = f"{folder.rstrip('/')}/severe/{hashlib.sha256(data).hexdigest()[:32]}.json".lstrip("/")
        await self._storage.upload(bucket, name, data, "application/json")

    async def _patiently(self, ask: Any) -> Any:
        retry = FIRST_RETRY_SECONDS
        while True:
            try:
                return await ask()
            except CloudError as error:
                logger.warning("job %s waits: %s", self.name, error)
                await asyncio.sleep(retry)
                retry = min(retry * 2, LAST_RETRY_SECONDS)


def _outgoing(message: Message) -> delivery.Message:
    return delivery.Message(id="", data=message.data, attributes={}, publish_time_ns=0)


class JobActor:
    """gcp.dataflow.FlexTemplateJob, for the one template that is known here."""

    def __init__(self, address: str, pubsub: PubSub, storage: Storage, folder: Path, ground: str) -> None:
        self._address = address
        self._pubsub = pubsub
        self._storage = storage
        self._folder = folder
        self._ground = ground
        self._jobs: dict[str, Job] = {}
        self._faults = self._kept_faults()

    async def ensure(self, resource: Resource) -> None:
        """Run the job with its parameters. A job of the same name goes on from the tokens that it has kept."""
        given = properties(resource)
        name, path = str(required(resource, "name")), str(required(resource, "containerSpecGcsPath"))
        if not path.endswith(f"/flex/{TEMPLATE}"):
            raise UnsupportedError(f"job {name}: the local cloud runs the template {TEMPLATE} only, not {path}")
        project = str(given.get("project") or "")
        if not project:
            raise ActorError(f"job {name} has no project; set it, or the provider's")
        parameters = Parameters.of(given.get("parameters") or {}, project)
        running = self._jobs.get(name)
        if running is not None and running.parameters == parameters:
            return
        if running is not None:
            await running.stop()
        stream = ChangeStream(self._address, parameters.table_name, parameters.app_profile)
        job = Job(name, parameters, stream, self._pubsub, self._storage, self._folder, self._ground)
        job.faults = self._faults
        self._jobs[name] = job
        job.start()

    async def remove(self, resource: Resource) -> None:
        """Cancel the job; one that is not there is no error."""
        job = self._jobs.pop(str(required(resource, "name")), None)
        if job is not None:
            await job.stop()
            job.forget()

    async def stop(self) -> None:
        """Stop all jobs in order."""
        await asyncio.gather(*(job.stop() for job in self._jobs.values()))

    def disturb(self, written: Mapping[str, Any]) -> Faults:
        """Set the faults of all jobs, also for the next start of this process. Raises ActorError for an unknown one."""
        self._faults = Faults.of(written)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "faults.json").write_text(json.dumps({"ground": self._ground, "faults": asdict(self._faults)}))
        for job in self._jobs.values():
            job.faults = self._faults
        return self._faults

    def statistics(self) -> Mapping[str, Any]:
        """Return what every job has done since this process started."""
        return {name: job.statistics() for name, job in self._jobs.items()}

    def _kept_faults(self) -> Faults:
        try:
            kept = json.loads((self._folder / "faults.json").read_text())
        except (OSError, ValueError):
            return Faults()
        return Faults.of(kept["faults"]) if kept.get("ground") == self._ground else Faults()
