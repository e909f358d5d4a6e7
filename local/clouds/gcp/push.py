"""The push driver: what Pub/Sub's push subscriptions and Eventarc's triggers do, over an emulator that never pushes.

For each subscription one loop pulls into the spool and one delivers out of it. Deliveries stop while Pub/Sub cannot be
reached: then the whole cloud is cut off, and attempts made meanwhile would count towards the dead letter topic although
the real cloud makes none. The decisions are in delivery and backlog; the wire forms, and why no `Authorization` header
is sent, in envelopes.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from local.clouds.errors import CloudError
from local.clouds.gcp.backlog import Backlog, Entry
from local.clouds.gcp.delivery import Decision, DeliveryPolicy, Message, Verdict, dead_letter, decide
from local.clouds.gcp.envelopes import Envelope
from local.clouds.gcp.errors import InvocationError, SubscriptionMissingError
from local.clouds.gcp.spool import Spool

logger = logging.getLogger(__name__)

# Pulls are so far apart: little while messages flow, more when a subscription is quiet. Each costs about a millisecond of
# processor time, whatever it brings, and the pause is the delay of a first event.
SHORTEST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.1
PAUSE_GROWTH = 1.2
# How fast an unreachable cloud is asked again.
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 1.0
PULL_MESSAGES = 500
# The spool takes so many messages of one subscription; the rest waits in Pub/Sub.
HELD_MESSAGES = 5_000
# A dead letter topic that refuses is tried again; the message stays in the spool meanwhile.
DEAD_LETTER_RETRY_SECONDS = 1.0
# A subscription whose function has no revision yet looks again after so long.
NO_CAPACITY_SECONDS = 0.2


class Queue(Protocol):
    """The calls of Pub/Sub that the driver makes."""

    async def pull(self, subscription: str, maximum: int) -> tuple[list[Message], list[str]]:
        """Return waiting messages and their acknowledgement ids at once."""
        ...

    async def acknowledge(self, subscription: str, ids: list[str]) -> None:
        """Acknowledge pulled messages."""
        ...

    async def publish(self, topic: str, messages: list[Message]) -> list[str]:
        """Publish messages."""
        ...


@dataclass(frozen=True)
class Target:
    """Where a subscription's messages go.

    `send` returns the HTTP status of the answer or raises InvocationError; `capacity` tells how many may run at once.
    """

    envelope: Callable[[Message, int], Envelope]
    send: Callable[[Envelope], Awaitable[int]]
    capacity: Callable[[], int]
    name: str


@dataclass(frozen=True)
class PushSubscription:
    """A subscription that the driver serves. `limit_seconds` bounds one delivery: the acknowledgement deadline."""

    name: str
    policy: DeliveryPolicy
    target: Target
    limit_seconds: float


@dataclass
class PushCounters:
    """What became of a subscription's messages since this process started."""

    pulled: int = 0
    delivered: int = 0
    failed_attempts: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    expired: int = 0


class Pusher:
    """One subscription at work."""

    def __init__(
        self,
        subscription: PushSubscription,
        queue: Queue,
        spool: Spool,
        remake: Callable[[], Awaitable[None]],
        counters: PushCounters,
    ) -> None:
        self.subscription = subscription
        self.counters = counters
        self._queue = queue
        self._spool = spool
        self._remake = remake
        self._backlog = Backlog(subscription.policy.ordered)
        self._reachable = asyncio.Event()
        self._wake = asyncio.Event()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """How many messages are held and not settled."""
        return len(self._backlog)

    def start(self) -> None:
        """Take up what the spool holds, then pull and deliver."""
        for entry in self._spool.load(self.subscription.name):
            self._backlog.add(entry)
        self._loops = [asyncio.create_task(self._pull_loop()), asyncio.create_task(self._deliver_loop())]

    async def stop(self) -> None:
        """Stop at once; what was under way is delivered again by the next start."""
        tasks = [*self._loops, *self._in_flight]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pull_loop(self) -> None:
        pause, retry = SHORTEST_PAUSE_SECONDS, FIRST_RETRY_SECONDS
        while True:
            try:
                pulled = await self._pull()
            except SubscriptionMissingError as error:
                await self._lost(error, retry)
                retry = min(retry * 2, LAST_RETRY_SECONDS)
                await self._make_again()
                continue
            except CloudError as error:
                await self._lost(error, retry)
                retry = min(retry * 2, LAST_RETRY_SECONDS)
                continue
            self._reachable.set()
            retry = FIRST_RETRY_SECONDS
            if pulled:
                pause = SHORTEST_PAUSE_SECONDS
            if pulled < PULL_MESSAGES:
                await asyncio.sleep(pause)
            if not pulled:
                pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)

    async def _pull(self) -> int:
        room = min(PULL_MESSAGES, HELD_MESSAGES - len(self._backlog))
        if room <= 0:
            return 0
        name = self.subscription.name
        messages, ids = await self._queue.pull(name, room)
        if not messages:
            return 0
        # Order matters: stored first, so that a kill between the two makes a duplicate and never a loss.
        added = self._spool.add(name, messages)
        for entry in added:
            self._backlog.add(entry)
        self.counters.pulled += len(added)
        self._wake.set()
        await self._queue.acknowledge(name, ids)
        return len(messages)

    async def _lost(self, error: CloudError, retry_seconds: float) -> None:
        if self._reachable.is_set():
            logger.warning("push to %s waits: %s", self.subscription.target.name, error)
        self._reachable.clear()
        await asyncio.sleep(retry_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing

    async def _make_again(self) -> None:
        try:
            await self._remake()
        except CloudError as error:
            logger.warning("subscription %s cannot be made again yet: %s", self.subscription.name, error)

    async def _deliver_loop(self) -> None:
        while True:
            await self._reachable.wait()
            self._wake.clear()
            now = time.time()
            room = self.subscription.target.capacity() - len(self._in_flight)
            while room > 0 and (entry := self._backlog.take(now)) is not None:
                task = asyncio.create_task(self._deliver(entry))
                self._in_flight.add(task)
                task.add_done_callback(self._landed)
                room -= 1
            await self._wait_for_work(now, room)

    async def _wait_for_work(self, now: float, room: int) -> None:
        due = self._backlog.next_due()
        limit = None if due is None else max(0.0, due - now)
        if room <= 0:
            # A place becomes free with a landing, which wakes; only a function that is not there yet must be asked.
            limit = None if self._in_flight else NO_CAPACITY_SECONDS
        try:
            async with asyncio.timeout(limit):
                await self._wake.wait()
        except TimeoutError:
            return

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            logger.error("delivery to %s broke", self.subscription.target.name, exc_info=task.exception())

    async def _deliver(self, entry: Entry) -> None:
        policy = self.subscription.policy
        if policy.exhausted(entry.attempts):
            await self._set_aside(entry, entry.attempts)
            return
        attempts = entry.attempts + 1
        succeeded = await self._attempt(entry.message, attempts)
        now = time.time()
        decision = decide(
            policy,
            attempts=attempts,
            succeeded=succeeded,
            age_seconds=now - entry.message.publish_time_ns / 1e9,
            jitter=random.random(),  # noqa: S311 - spreads retries, guards nothing
        )
        if not succeeded:
            self.counters.failed_attempts += 1
        await self._apply(decision, entry, attempts, now)

    async def _attempt(self, message: Message, attempt: int) -> bool:
        target = self.subscription.target
        try:
            async with asyncio.timeout(self.subscription.limit_seconds):
                status = await target.send(target.envelope(message, attempt))
        except TimeoutError:
            status = 504
            reason = f"no answer within the acknowledgement deadline of {self.subscription.limit_seconds:g} s"
        except CloudError as error:
            status = error.status if isinstance(error, InvocationError) else 503
            reason = str(error)
        else:
            reason = f"HTTP {status}"
        # https://cloud.google.com/pubsub/docs/push: these codes acknowledge, every other one does not.
        if status in (102, 200, 201, 202, 204):
            return True
        logger.info("%s refused message %s, attempt %d: %s", target.name, message.id, attempt, reason)
        return False

    async def _apply(self, decision: Decision, entry: Entry, attempts: int, now: float) -> None:
        if decision.verdict is Verdict.RETRY:
            self._postpone(entry, attempts, now + decision.delay_seconds)
            return
        if decision.verdict is Verdict.DEAD_LETTER:
            await self._set_aside(entry, attempts)
            return
        if decision.verdict is Verdict.DONE:
            self.counters.delivered += 1
        elif decision.verdict is Verdict.DROP:
            self.counters.dropped += 1
        else:
            self.counters.expired += 1
            logger.error("message %s of %s outlived its retention", entry.message.id, self.subscription.name)
        self._settle(entry)

    async def _set_aside(self, entry: Entry, attempts: int) -> None:
        topic = self.subscription.policy.dead_letter_topic
        assert topic is not None
        try:
            await self._queue.publish(topic, [dead_letter(entry.message, self.subscription.name, attempts)])
        except CloudError as error:
            logger.warning("message %s cannot be set aside yet: %s", entry.message.id, error)
            self._postpone(entry, attempts, time.time() + DEAD_LETTER_RETRY_SECONDS)
            return
        self.counters.dead_lettered += 1
        self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        self._spool.settle(entry)
        self._backlog.settle(entry)

    def _postpone(self, entry: Entry, attempts: int, due: float) -> None:
        self._spool.postpone(entry, attempts, due)
        self._backlog.postpone(entry, attempts, due)


@dataclass
class PushDriver:
    """All push subscriptions of this cloud."""

    queue: Queue
    spool: Spool
    _pushers: dict[str, Pusher] = field(default_factory=dict)
    _counters: dict[str, PushCounters] = field(default_factory=dict)

    async def serve(self, subscription: PushSubscription, remake: Callable[[], Awaitable[None]]) -> None:
        """Serve a subscription from now on, in place of what it was before. `remake` makes it in Pub/Sub again."""
        await self._halt(subscription.name)
        counters = self._counters.setdefault(subscription.name, PushCounters())
        pusher = Pusher(subscription, self.queue, self.spool, remake, counters)
        self._pushers[subscription.name] = pusher
        pusher.start()

    async def end(self, name: str) -> None:
        """Stop serving a subscription and drop its messages, as its deletion does."""
        await self._halt(name)
        self._counters.pop(name, None)
        self.spool.forget(name)

    async def stop(self) -> None:
        """Stop all; what is under way stays in the spool."""
        for name in list(self._pushers):
            await self._halt(name)

    def statistics(self) -> Mapping[str, Any]:
        """Return what became of every subscription's messages."""
        return {
            name: {**vars(pusher.counters), "waiting": pusher.waiting, "target": pusher.subscription.target.name}
            for name, pusher in self._pushers.items()
        }

    async def _halt(self, name: str) -> None:
        pusher = self._pushers.pop(name, None)
        if pusher is not None:
            await pusher.stop()
