"""What the program refuses, each with the thing, the cause and the next step."""


class ConfigError(Exception):
    """The stack's config holds values the program can't build from; the message lists every one of them."""


class SiteLostError(Exception):
    """A resource would have to be created or changed in a cloud that is down."""


class VerificationError(Exception):
    """Traffic was moved, but the public name is not served by the site it was moved to."""


class ArchiveError(Exception):
    """A function archive or the library layer cannot be built as it must be."""
