"""What stops a change of roles, each with the thing, the cause and the next step."""


class GateRedError(Exception):
    """The target site may not become active: the message names the failed checks with their values and limits."""
