"""The closed sets that every part of the local ground shares: which clouds there are and how one can fail."""

from enum import StrEnum

# A KMS key that is made on the emulator with this tag has the tag's value as its id (local/ground/moto.py).
KEY_ID_TAG = "lifeboat-key-id"


class Cloud(StrEnum):
    """A provider whose control plane, data and processes the ground holds apart from the others'."""

    AWS = "aws"
    GCP = "gcp"
    CLOUDFLARE = "cloudflare"


class FaultMode(StrEnum):
    """What a cloud's network and processes do; its data outlives every mode."""

    NONE = "none"
    KILL = "kill"
    HANG = "hang"
    BLACK_HOLE = "black-hole"
    SLOW = "slow"


class GroundKind(StrEnum):
    """Where the provider plugins put a stack: on a running local ground, or only on record."""

    LOCAL = "local"
    RECORD = "record"
