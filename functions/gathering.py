"""Single requests made into batches: what arrives while a batch runs makes up the next one.

A push subscription delivers one message a request. Requests that run at once in one process share their calls to the stores
this way, and the busier the process, the larger the batches. One batch runs at a time, so what came later is never done before
what came earlier.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from functions.errors import TransientError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Work = Callable[[Sequence[Item]], Sequence[Answer]]


@dataclass(eq=False)
class _Ticket(Generic[Item, Answer]):
    item: Item
    answers: list[Answer] = field(default_factory=list)
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        return bool(self.answers) or self.error is not None


class Gathering(Generic[Item, Answer]):
    """Runs `work` on up to `most` items at a time; it returns one answer for each, in their order.

    There is no timer: a lone request waits for nobody.
    """

    def __init__(self, work: Work[Item, Answer], most: int) -> None:
        self._work = work
        self._most = most
        self._working = threading.Lock()
        self._waiting: deque[_Ticket[Item, Answer]] = deque()

    def submit(self, item: Item) -> Answer:
        """Return the item's answer once a batch that holds it has run; raises what the batch raised."""
        ticket: _Ticket[Item, Answer] = _Ticket(item)
        self._waiting.append(ticket)
        with self._working:
            # Whoever gets here first runs everybody's; the others find theirs settled.
            while not ticket.settled:
                self._run()
        if ticket.error is not None:
            raise ticket.error
        return ticket.answers[0]

    def _run(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        try:
            for ticket, answer in zip(batch, self._work([ticket.item for ticket in batch]), strict=True):
                ticket.answers.append(answer)
        except Exception as error:  # noqa: BLE001 - it is raised again in each request's own thread
            for ticket in batch:
                ticket.error = error


class AsyncGathering(Generic[Item, Answer]):
    """The same for the requests of one event loop: none of them holds a thread, and `work` runs in one beside the loop.

    A batch waits `window_seconds` for company, unless it is full: requests come in bursts, and the first of a burst would be one
    by itself. A fault that `work` did not foresee is narrowed down: the batch runs again in halves, until the item stands alone
    that raises. So `work` must bear repeats, as everything must that a queue delivers at least once.
    """

    def __init__(self, work: Work[Item, Answer], most: int, window_seconds: float = 0.0) -> None:
        self._work = work
        self._most = most
        self._window_seconds = window_seconds
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """Return the item's answer once a batch that holds it has run; raises what its batch, or it alone, raised."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, answer))
        if self._running is None:
            # A task, and not this request's own work: a client that hangs up must not take the others' batch along.
            self._running = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        while self._waiting:
            if self._window_seconds and len(self._waiting) < self._most:
                await asyncio.sleep(self._window_seconds)
            await self._settle([self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))])
        self._running = None

    async def _settle(self, batch: list["_Waiting[Item, Answer]"]) -> None:
        try:
            answers = await asyncio.to_thread(self._work, [each.item for each in batch])
            settled = list(zip(batch, answers, strict=True))
        except Exception as error:  # noqa: BLE001 - it is raised again in the requests themselves
            if len(batch) > 1 and not isinstance(error, TransientError):
                # In their order: a later item is never done before an earlier one.
                middle = len(batch) // 2
                await self._settle(batch[:middle])
                await self._settle(batch[middle:])
                return
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, answer in settled:
            if not each.answer.done():
                each.answer.set_result(answer)


@dataclass(eq=False)
class _Waiting(Generic[Item, Answer]):
    item: Item
    answer: asyncio.Future[Answer]
