"""Errors of the cloud processes; the text of each reaches the user through Pulumi."""


class CloudError(Exception):
    """Base of everything that a cloud process refuses or cannot do."""


class CloudProcessError(CloudError):
    """The cloud process cannot start as it was called."""


class ActorError(CloudError):
    """A real thing could not be made, changed or taken away; the message says which, why and what to do."""


class ArchiveError(CloudError):
    """A code archive is missing, damaged, too large, or reaches outside its folder."""


class FunctionNotFoundError(CloudError):
    """No function of that name is deployed in this cloud."""


class BucketNotEmptyError(ActorError):
    """A bucket still holds objects and its forceDestroy is off."""


class FunctionInitError(CloudError):
    """A function's process ended or reported an error before it asked for its first event."""


class ThrottledError(CloudError):
    """All of a function's concurrent invocations are in use."""


class UnsupportedError(CloudError):
    """A setting that the local cloud does not carry out; it says which and what to use instead."""
