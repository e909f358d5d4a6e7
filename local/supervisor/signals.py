"""Turn SIGINT and SIGTERM into an orderly end of the main task, also in the middle of a start."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@asynccontextmanager
async def stopped_by_signals() -> AsyncIterator[None]:
    """Cancel the body at the first SIGINT or SIGTERM, and leave as if it had returned; later ones change nothing.

    A process that supervises others enters this before its Supervisor: `async with stopped_by_signals(), Supervisor(...)`,
    so that everything started so far is stopped in order.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    asked = False

    def stop() -> None:
        nonlocal asked
        if not asked:
            asked = True
            task.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    except asyncio.CancelledError:
        # A cancellation by somebody else is theirs to see.
        if not asked or task.uncancel() > 0:
            raise
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
