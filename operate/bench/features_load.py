"""What the feature bench writes: stream records of rows with twelve features, as Lambda passes them, by a seed."""

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from functions.features.envelope import Envelope, Value, encode
from functions.features.version import STEP_MS, stamp
from functions.settings import FEATURE_ENVELOPE, FEATURE_KEY, FEATURE_VERSION, Site

NUMBERS = 10
_FIRST_SEQUENCE = 10**20


@dataclass(frozen=True)
class Load:
    """Rows of ten numbers, a text and a flag. `extra_bytes` adds a binary attribute, `keys` repeats keys (0: none twice).

    `sealed`: rows as the client library writes them, with their canonical bytes inside; else plain attributes, which have to
    be brought into canonical form on the way.
    """

    rows: int
    seed: int
    sealed: bool = False
    extra_bytes: int = 0
    keys: int = 0


def features(chance: random.Random, extra_bytes: int) -> dict[str, Value]:
    """Return one row's attributes."""
    found: dict[str, Value] = {
        f"feature_{number}": Decimal(chance.randrange(10**9)) / 10**6 for number in range(NUMBERS)
    }
    found |= {"segment": f"segment-{chance.randrange(40)}", "active": chance.random() < 0.5}
    return found | ({"embedding": chance.randbytes(extra_bytes)} if extra_bytes else {})


def records(load: Load, now_ms: int) -> list[dict[str, Any]]:
    """Return the load as change records, in the order of their sequence numbers."""
    chance = random.Random(load.seed)  # noqa: S311 - a load, not a secret
    return [_record(load, chance, number, now_ms) for number in range(load.rows)]


def batches(found: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the records in batches, as an event source mapping cuts them."""
    for start in range(0, len(found), size):
        yield found[start : start + size]


def _record(load: Load, chance: random.Random, number: int, now_ms: int) -> dict[str, Any]:
    key = f"user#{chance.randrange(load.keys)}" if load.keys else f"user#{load.seed:04x}{number:08x}"
    attributes = features(chance, load.extra_bytes)
    # One step apart, as a row's writer would stamp them: two of one key never tie.
    version = stamp(now_ms - STEP_MS * (load.rows - number), 0, Site.AWS)
    image: dict[str, Any] = {FEATURE_KEY: {"S": key}, FEATURE_VERSION: {"N": str(version)}}
    if load.sealed:
        image[FEATURE_ENVELOPE] = {"B": base64.b64encode(encode(Envelope(attributes))).decode()}
    else:
        image |= {name: _wire(value) for name, value in attributes.items()}
    return {
        "eventID": f"{number:032x}",
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "Keys": {FEATURE_KEY: {"S": key}},
            "NewImage": image,
            "SequenceNumber": str(_FIRST_SEQUENCE + number),
            "SizeBytes": 400,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }


def _wire(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, bytes):
        return {"B": base64.b64encode(value).decode()}
    return {"S": value} if isinstance(value, str) else {"N": str(value)}
