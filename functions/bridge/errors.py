"""Faults of messages on the bridge."""

from functions.errors import PermanentError


class UncarriableMessageError(PermanentError):
    """The other side's queue can never take this message: too large, or an attribute that it does not allow."""
