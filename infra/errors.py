"""What the program refuses, each with the thing, the cause and the next step.

What its user can mend is a run error, which is shown as it is: a trace would only bury the message.
"""

from pulumi import RunError


class ConfigError(RunError):
    """The stack's config holds values the program can't build from; the message lists every one of them."""


class SiteLostError(Exception):
    """A resource would have to be created or changed in a cloud that is down."""


class VerificationError(Exception):
    """Traffic was moved, but the public name is not served by the site it was moved to."""


class ArchiveError(RunError):
    """A function archive or the library layer cannot be built as it must be."""
