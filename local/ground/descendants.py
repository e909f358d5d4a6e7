"""Processes that a process has started, and what those have started."""

import asyncio

import psutil

GONE_SECONDS = 5.0
POLL_SECONDS = 0.01


def descendants(pid: int) -> list[psutil.Process]:
    """Return all living descendants of a process; none when it is gone."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


async def wait_gone(processes: list[psutil.Process]) -> None:
    """Wait until the processes have ended; those that are still there after the limit are killed."""
    deadline = asyncio.get_running_loop().time() + GONE_SECONDS
    while left := [process for process in processes if _lives(process)]:
        if asyncio.get_running_loop().time() > deadline:
            for process in left:
                process.kill()
            deadline += GONE_SECONDS
        await asyncio.sleep(POLL_SECONDS)


def _lives(process: psutil.Process) -> bool:
    try:
        # A zombie runs nothing; who collects it is not ours to say.
        return bool(process.is_running()) and str(process.status()) != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
