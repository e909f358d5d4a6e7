"""Faults of feature rows, told apart by what a caller may do about them."""

from functions.errors import PermanentError, TransientError


class EnvelopeError(PermanentError):
    """The bytes are no envelope of this format, or a value is none that an envelope can hold."""


class PoisonRecordError(PermanentError):
    """A change record that can never be applied; it is parked with the reason and the others go on."""


class VersionTieError(PermanentError):
    """Two rows of one key carry the same version but different bytes: a writer bypassed the stamp."""


class ContendedRowError(TransientError):
    """Other writers won every round on one row; the caller may try again."""


class DigestError(PermanentError):
    """A document of a reconciliation does not hold what it should."""


class PolicyError(PermanentError):
    """A merge policy does not exist, or can't merge the value that an attribute holds."""


class SessionKeysError(PermanentError):
    """The keys that sign sessions can't be used; the message never shows them."""


class SessionTooLargeError(PermanentError):
    """A session holds more than a cookie can carry."""


class SessionRefusedError(PermanentError):
    """A session token is no good. `reason` is safe to show and to count; the token itself is in no message."""

    def __init__(self, reason: str, key: str = "") -> None:
        super().__init__(f"session token refused: {reason}; sign in again")
        self.reason = reason
        self.key = key
