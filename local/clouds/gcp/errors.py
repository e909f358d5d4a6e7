"""Errors of this cloud that a caller handles by type; everything else is the clouds' ActorError."""

from local.clouds.errors import ActorError, CloudError


class FunctionStartError(ActorError):
    """A function's container does not start: its code raises at import, or does not listen in time."""


class InvocationError(CloudError):
    """A request to a function got no answer from its code; `status` is what the platform answers instead."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PubSubUnreachableError(ActorError):
    """Pub/Sub does not answer; it is cut off, or it is down."""


class ChangeStreamLostError(ActorError):
    """A change stream's reading broke off; it may be tried again from its last token."""


class ChangeStreamEndedError(ChangeStreamLostError):
    """What follows a token of a change stream is no longer kept."""


class StorageUnreachableError(ActorError):
    """Cloud Storage does not answer; it is cut off, or it is down."""


class SubscriptionMissingError(ActorError):
    """The subscription is not there: it was deleted, or the emulator began anew."""
