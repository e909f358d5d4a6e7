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
