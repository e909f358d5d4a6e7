"""Single requests made into batches: what arrives while a batch runs makes up the next one.

A push subscription delivers one message a request. Requests that run at once in one process share their calls to the stores
this way, with no timer: a lone request waits for nobody, and the busier the process, the larger the batches.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class _Ticket(Generic[Item, Answer]):
    item: Item
    answers: list[Answer] = field(default_factory=list)
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        return bool(self.answers) or self.error is not None


class Gathering(Generic[Item, Answer]):
    """Runs `work` on up to `most` items at a time; it returns one answer for each, in their order."""

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Answer]], most: int) -> None:
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
