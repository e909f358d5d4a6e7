"""Faults of user data, told apart by what a caller may do about them."""

from functions.errors import NotReadyError, PermanentError


class SchemaError(PermanentError):
    """The declared tables hold what can't be kept alike on both sides; every problem is named."""


class ValueRefusedError(PermanentError):
    """A value that the other side's type can't hold exactly; the row is parked with the reason."""


class PoisonChangeError(PermanentError):
    """A change record that can never be applied; it is parked with the reason and the others go on."""


class WaitingError(NotReadyError):
    """The row's parent is not there yet, or its children are not gone yet: the change comes again."""
