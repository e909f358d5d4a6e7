"""Which message of a subscription is delivered next: by due time, and one at a time for each ordering key.

A message with an ordering key holds every later one of its key back until it is settled, also while it waits for its
next attempt (https://cloud.google.com/pubsub/docs/ordering). Pure bookkeeping in memory; time is an argument.
"""

import heapq
from collections import deque
from dataclasses import dataclass, replace

from local.clouds.gcp.delivery import Message


@dataclass(frozen=True)
class Entry:
    """A message on its way; `ordinal` is its place in the order of arrival, `due` a time in seconds since the epoch."""

    ordinal: int
    message: Message
    attempts: int = 0
    due: float = 0.0


class Backlog:
    """Messages of one subscription that are not settled yet."""

    def __init__(self, ordered: bool) -> None:
        self._ordered = ordered
        self._ready: list[tuple[float, int]] = []
        self._entries: dict[int, Entry] = {}
        self._keys: dict[str, deque[int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Take a message in. Entries of one ordering key must arrive in their order."""
        self._entries[entry.ordinal] = entry
        key = self._key(entry)
        if key:
            queue = self._keys.setdefault(key, deque())
            queue.append(entry.ordinal)
            if len(queue) > 1:
                return
        heapq.heappush(self._ready, (entry.due, entry.ordinal))

    def take(self, now: float) -> Entry | None:
        """Return a message that is due and whose key is free, or None; it stays held until settled or postponed."""
        if not self._ready or self._ready[0][0] > now:
            return None
        return self._entries[heapq.heappop(self._ready)[1]]

    def settle(self, entry: Entry) -> None:
        """Let go of a taken message and free its ordering key."""
        del self._entries[entry.ordinal]
        key = self._key(entry)
        if not key:
            return
        queue = self._keys[key]
        queue.popleft()
        if queue:
            following = self._entries[queue[0]]
            heapq.heappush(self._ready, (following.due, following.ordinal))
        else:
            del self._keys[key]

    def postpone(self, entry: Entry, attempts: int, due: float) -> None:
        """Put a taken message back for a later attempt; its ordering key stays blocked."""
        self._entries[entry.ordinal] = replace(entry, attempts=attempts, due=due)
        heapq.heappush(self._ready, (due, entry.ordinal))

    def next_due(self) -> float | None:
        """Return when the next message may be taken, or None when none may."""
        return self._ready[0][0] if self._ready else None

    def _key(self, entry: Entry) -> str:
        return entry.message.ordering_key if self._ordered else ""
