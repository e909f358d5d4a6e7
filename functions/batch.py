"""A batch of SQS messages: each handled by itself, failures returned, faults that no retry mends parked with their reason."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from functions.errors import NotReadyError, PermanentError, TransientError
from functions.telemetry import LOGGER

# Not ready is the ordinary case of an alias that arrives before its version. Small versions follow within seconds, so the first
# tries come every second; then the waits grow to five minutes, so that fifty deliveries outlast the transfer of a large model.
_QUICK_TRIES = 10
_GROWTH = 1.5
_LONGEST_SECONDS = 300


class SourceQueue(Protocol):
    """The queue that a message came from."""

    def again_after(self, record: Mapping[str, Any], seconds: int) -> None:
        """Make the message visible again after so many seconds instead of after the queue's own time-out."""

    def park(self, record: Mapping[str, Any], reason: str) -> None:
        """Put the message on the queue's dead letter queue with the reason; the caller then lets it go."""


def run(event: Mapping[str, Any], handle: Callable[[str], None], queue: SourceQueue) -> dict[str, Any]:
    """Handle every message of the batch and return those that are to come again, as Lambda expects it.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    failed = [record for record in event.get("Records", ()) if not _handled(record, handle, queue)]
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in failed]}


def _handled(record: Mapping[str, Any], handle: Callable[[str], None], queue: SourceQueue) -> bool:
    tries = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
    try:
        try:
            handle(record["body"])
            return True
        except NotReadyError as error:
            LOGGER.info("not ready: %s", error)
            queue.again_after(record, _wait_seconds(tries - _QUICK_TRIES))
        except TransientError as error:
            LOGGER.warning("failed for now: %s", error)
            queue.again_after(record, _wait_seconds(tries))
        except PermanentError as error:
            LOGGER.error("message parked", extra={"key": record["messageId"], "reason": str(error)})
            queue.park(record, str(error))
            return True
    except Exception:  # noqa: BLE001 - one message's unforeseen fault must not fail its neighbours; its queue counts the tries
        LOGGER.exception("message failed", extra={"key": record.get("messageId")})
    return False


def _wait_seconds(step: int) -> int:
    """Return one second up to step 0, then more and more, up to the longest wait."""
    # The power is bounded before it is taken: a queue may deliver a message a thousand times.
    return int(min(_LONGEST_SECONDS, _GROWTH ** min(max(0, step), 20)))
