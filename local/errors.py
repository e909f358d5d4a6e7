"""Errors of the local ground. Every message names the thing, the cause and the next step."""

from pathlib import Path


class LocalError(Exception):
    """Something in the local ground failed in a way that its user can act on."""


class ProcessError(LocalError):
    """A supervised process did not do what was asked of it."""


class ProcessNameTakenError(ProcessError):
    """A live process of that name exists already under the same supervisor."""

    def __init__(self, name: str, pid: int | None) -> None:
        super().__init__(f"process {name} runs already as pid {pid}: stop it first or choose another name")


class UnknownProcessError(ProcessError):
    """No process of that name was started by this supervisor."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no process called {name}: this supervisor knows {', '.join(known) or 'none'}")


class ProgramMissingError(ProcessError):
    """The program to run was not found or may not be executed."""

    def __init__(self, name: str, program: str) -> None:
        super().__init__(
            f"process {name} cannot start: {program} is not an executable file; install it or correct PATH"
        )


class ProcessExitedError(ProcessError):
    """The process ended before it was ready."""

    def __init__(self, name: str, exit_code: int, log: Path, tail: str) -> None:
        self.exit_code = exit_code
        self.tail = tail
        super().__init__(
            f"process {name} ended with exit code {exit_code} before it was ready; its last lines, from {log}:\n"
            f"{tail or '(it wrote nothing)'}"
        )


class ProcessNotReadyError(ProcessError):
    """The process lives but its probe found it not ready within the limit."""

    def __init__(self, name: str, probe: str, limit_seconds: float, log: Path, tail: str) -> None:
        self.tail = tail
        super().__init__(
            f"process {name} was not ready within {limit_seconds:g} s ({probe}) and was stopped; its last lines,"
            f" from {log}:\n{tail or '(it wrote nothing)'}"
        )


class NoFreePortError(LocalError):
    """Every port that was tried is in use."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(f"no free loopback port between {first} and {last}: stop what listens there and try again")


class GroundError(LocalError):
    """The local ground as a whole cannot do what was asked."""


class GroundNotRunningError(GroundError):
    """No ground runs in the folder."""

    def __init__(self, folder: Path, cause: str) -> None:
        super().__init__(f"no local ground runs in {folder}: {cause}. Start it with ./lifeboat local up")


class GroundStartError(GroundError):
    """The ground ended or got stuck before it was ready."""


class GroundBusyError(GroundError):
    """Another process holds the ground of this folder, so nobody else can own it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"a local ground runs already in {folder} and belongs to another process: stop it with"
            " ./lifeboat local down, or use another folder"
        )


class GroundRequestError(GroundError):
    """The ground refused or failed a request."""


class FaultProxyError(GroundError):
    """The fault proxy could not bring its routes into the wanted state."""
