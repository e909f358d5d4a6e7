"""What a handler may do about a fault: try again, wait, or park. Every error of this room is one of these kinds."""


class FunctionError(Exception):
    """A fault that a handler foresaw; the message names the thing, the cause and the next step."""


class TransientError(FunctionError):
    """The same call may succeed later: the event goes back to its queue."""


class NotReadyError(TransientError):
    """Something that must come first is not there yet: the event goes back and is tried again soon."""


class PermanentError(FunctionError):
    """No retry can help: the event is parked with the reason, and the queue goes on."""


class SettingsError(PermanentError):
    """The environment lacks settings or holds values out of range; all of them are named at once."""
