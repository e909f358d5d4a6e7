"""What a store may answer instead of doing: told apart by type, so callers never read a provider's error code."""

from functions.errors import PermanentError, TransientError


class StoreError(Exception):
    """Any refusal or failure of a store."""


class NotFoundError(StoreError, PermanentError):
    """The object, bucket or table is not there. Whether that is final is for the caller to say."""


class PreconditionFailedError(StoreError, PermanentError):
    """The condition of a write did not hold: somebody else wrote, or an earlier try of this very write did land."""


class ObjectTooLargeError(StoreError, PermanentError):
    """The object is larger than the caller allowed it to be; nothing was read into memory."""


class StoreRefusedError(StoreError, PermanentError):
    """The store understood the request and will never take it: bad argument, bytes that do not match their checksum."""


class AccessDeniedError(StoreError, TransientError):
    """Credentials or rights are missing. People repair that, so the event is kept and tried again."""


class ConflictError(StoreError, TransientError):
    """A concurrent write got in the way and nothing was decided (HTTP 409): read again, then try again."""


class ThrottledError(StoreError, TransientError):
    """The store asks for fewer requests (HTTP 429, 503 SlowDown): try again later, it is no refusal."""


class StoreUnavailableError(StoreError, TransientError):
    """The store did not answer, or answered that it can't: nothing is known about the request."""
