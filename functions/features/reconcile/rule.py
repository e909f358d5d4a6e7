"""When a reconciliation begins by itself: never done before, a stream that outran its retention, or its period is over.

A consumer that was away for longer than its stream keeps records finds the stream trimmed and reads on as if nothing were
missing; so does one whose other side was away for so long that records were given up. So every batch that is applied in full
leaves a watermark, and the first batch after too long a silence asks for a reconciliation before it goes on.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from functions.errors import TransientError
from functions.features.reconcile.survey import BucketShelf
from functions.telemetry import LOGGER

# DynamoDB Streams keep 24 hours, and the program's event source mapping gives a record up after 22; an hour of that counts as
# lost, for neither is to the minute. https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
DYNAMODB_KEEPS_MS = 21 * 3_600_000
# Bigtable keeps changes for seven days, but a message of one is dead after its hundred attempts, 60 s apart at most: an hour and
# a half. https://cloud.google.com/pubsub/docs/handling-failures
BIGTABLE_KEEPS_MS = 80 * 60_000
# A full comparison reads both tables once; daily it also proves that the event paths lose nothing.
PERIOD_MS = 24 * 3_600_000
# After a run that did not end equal the next begins no sooner than this.
RETRY_MS = 15 * 60_000

# Holds when a gap was found last, and when the last run that ended equal had begun.
REQUEST = "request.json"
FINISHED = "finished.json"

_SAVE_EVERY_MS = 60_000


class Cause(StrEnum):
    """Why a reconciliation begins."""

    BOOTSTRAP = "bootstrap"
    GAP = "gap"
    PERIOD = "period"


def due(
    now_ms: int,
    *,
    tried_ms: int | None,
    finished_ms: int | None,
    requested_ms: int | None,
    period_ms: int = PERIOD_MS,
) -> Cause | None:
    """Return why a reconciliation has to begin now, None if it need not.

    `tried_ms`: when the last one began, `finished_ms`: when the last that ended with equal digests had begun, `requested_ms`:
    when a gap was found last.
    """
    if requested_ms is not None and requested_ms >= (tried_ms or 0):
        return Cause.GAP
    if tried_ms is not None and now_ms - tried_ms < min(RETRY_MS, period_ms):
        # Rows that are parked stay unequal until people act: trying without a pause would only read both tables over and over.
        return None
    if finished_ms is None:
        return Cause.BOOTSTRAP
    if requested_ms is not None and requested_ms >= finished_ms:
        return Cause.GAP
    return Cause.PERIOD if now_ms - finished_ms >= period_ms else None


def outran(watermark_ms: int | None, now_ms: int, keeps_ms: int) -> bool:
    """Return whether records may have been trimmed unread: the last batch is older than what the stream keeps."""
    return watermark_ms is not None and now_ms - watermark_ms > keeps_ms


@dataclass
class Watermark:
    """The hook of an apply path: `check` before each batch, `advance` after one that was applied in full.

    One object a path in the site's own bucket. Healthy paths are never silent for long, since every host writes a heartbeat row
    a second. One watermark stands for all shards of a stream: a single shard that stands still shows in its iterator age, where
    an alarm watches.
    """

    shelf: BucketShelf
    path: str
    keeps_ms: int
    clock_ms: Callable[[], int]
    _looked_ms: int | None = field(default=None)
    _saved_ms: int | None = field(default=None)

    def check(self) -> bool:
        """Return True when the path was away for too long; a gap is then on record, and a reconciliation due.

        Raises the store's errors: a batch must not go on as long as a gap can't be put on record.
        """
        now_ms = self.clock_ms()
        if _lately(self._looked_ms, now_ms):
            return False
        gap = outran(read_ms(self.shelf, self._name), now_ms, self.keeps_ms)
        if gap:
            self.shelf.put(REQUEST, ms_document(now_ms))
        self._looked_ms = now_ms
        return gap

    def advance(self) -> None:
        """Note that a batch was applied in full. One that can't be noted costs a comparison too many at most."""
        now_ms = self.clock_ms()
        if _lately(self._saved_ms, now_ms):
            return
        try:
            self.shelf.put(self._name, ms_document(now_ms))
        except TransientError as error:
            LOGGER.warning("the watermark of path %s was not kept: %s", self.path, error)
            return
        self._saved_ms = now_ms

    @property
    def _name(self) -> str:
        return f"watermark/{self.path}.json"


def _lately(then_ms: int | None, now_ms: int) -> bool:
    return then_ms is not None and now_ms - then_ms < _SAVE_EVERY_MS


def read_ms(shelf: BucketShelf, name: str) -> int | None:
    """Return the time that a document holds, None where there is none; a damaged one says 0, too long ago for every rule."""
    data = shelf.get(name)
    if data is None:
        return None
    try:
        value = json.loads(data)["ms"]
    except (ValueError, KeyError, TypeError):
        return 0
    return value if isinstance(value, int) else 0


def ms_document(value: int) -> bytes:
    """Return the document that `read_ms` reads."""
    return json.dumps({"ms": value}).encode()
