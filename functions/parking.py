"""Where events go that no retry can help: kept with their reason, never in the way of others.

SQS messages go to their own queue's dead letter queue and Pub/Sub messages to the dead topic, where both clouds' alarms watch. A
change record of a stream has no such place that keeps its content, so it becomes an object in the site's own bucket.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from functions.stores.errors import PreconditionFailedError
from functions.stores.protocols import Message, MessageQueue, ObjectStore

PREFIX = "parked"
# Attributes of Pub/Sub hold 1,024 bytes (https://cloud.google.com/pubsub/quotas); a reason in ASCII stays below.
MOST_REASON_CHARACTERS = 1_000


@dataclass(frozen=True)
class ObjectParkingLot:
    """Parked records as objects `parked/<kind>/<identity>-<digest>.json` in one bucket."""

    store: ObjectStore
    kind: str

    def park(self, identity: str, reason: str, content: Mapping[str, Any]) -> None:
        """Keep the record; the same one parked again is the same object."""
        data = json.dumps({"reason": reason, "record": content}, sort_keys=True, default=str).encode()
        key = f"{PREFIX}/{self.kind}/{identity}-{hashlib.sha256(data).hexdigest()[:16]}.json"
        try:
            self.store.put(key, data, absent=True, content_type="application/json")
        except PreconditionFailedError:
            return


def park_message(dead: MessageQueue, body: str, attributes: Mapping[str, str], reason: str) -> None:
    """Send a message to where dead letters go, with the reason beside its own attributes."""
    dead.publish([Message(body or "{}", {**attributes, "reason": reason_text(reason)})])


def reason_text(reason: str) -> str:
    """Return the reason as every queue's attributes can carry it."""
    plain = "".join(char if " " <= char <= "~" else "?" for char in reason)
    return plain[:MOST_REASON_CHARACTERS] or "unknown"
