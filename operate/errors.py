"""What the command line reports without a traceback.

Every room keeps the errors that its callers can act on in a module named `errors`; that is how they are told from defects, since
the lower rooms may not import anything of this one.
"""

ROOMS = frozenset({"control", "functions", "infra", "local", "operate", "service"})


class LifeboatError(Exception):
    """A command cannot do what was asked; the message names the thing, the cause and the next step."""


class EngineFailedError(LifeboatError):
    """Pulumi ended with an error; the message quotes what it said."""


def is_expected(error: BaseException) -> bool:
    """Tell whether an error is one that a user can act on, and not a defect of ours."""
    for kind in type(error).__mro__:
        room, _, rest = kind.__module__.partition(".")
        if room in ROOMS and "errors" in rest.split("."):
            return True
    return False
