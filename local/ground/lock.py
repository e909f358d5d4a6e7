"""The lock that makes a folder one ground's: held by the daemon for its whole life, freed by the kernel at its death."""

import fcntl
import os
from pathlib import Path
from typing import Self

LOCK_NAME = "ground.lock"


class GroundLock:
    """An exclusive lock on a ground's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor: int | None = None

    def take(self) -> Self | None:
        """Take the lock for the life of this process; None when another process has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Free the lock; without effect when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def held(self) -> bool:
        """Say whether some process holds the lock, by taking it for a moment when none does."""
        taken = self.take()
        if taken is None:
            return True
        taken.release()
        return False
