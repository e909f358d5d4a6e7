"""Several processes that write at once, begun together: a way's speed is that of all of them."""

import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from operate.bench.features_load import Load, records
from operate.bench.features_paths import Place, Way, writer
from operate.errors import LifeboatError

# Clients connect and code warms up on this many rows, under keys of their own.
_WARM_ROWS = 500
_READY_SECONDS = 120.0
_RUN_SECONDS = 600.0
_WARM_SEED = 0xFFFF


@dataclass(frozen=True)
class Speed:
    """Rows a second over all processes, and the CPU seconds that they took a row, in microseconds."""

    rows_s: float
    cpu_us_a_row: float


class Crew:
    """Processes that take orders one after another; each keeps its own clients."""

    def __init__(self, place: Place, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._members: list[tuple[Any, Connection]] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(place, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def measure(self, way: Way, load: Load, batch_size: int) -> Speed:
        """Write a load by one way, shared out evenly, and return how fast that went."""
        share = load.rows // len(self._members)
        for number, (_, pipe) in enumerate(self._members):
            pipe.send((way, replace(load, rows=share, seed=load.seed * 64 + number), batch_size))
        self._answers(_READY_SECONDS)
        for _, pipe in self._members:
            pipe.send("go")
        answers = self._answers(_RUN_SECONDS)
        seconds = max(ended for _, ended, _ in answers) - min(began for began, _, _ in answers)
        rows = share * len(self._members)
        return Speed(rows / seconds, sum(cpu for _, _, cpu in answers) / rows * 1e6)

    def close(self) -> None:
        """End the processes."""
        for process, pipe in self._members:
            pipe.close()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()

    def _answers(self, limit_seconds: float) -> Sequence[Any]:
        found = []
        for process, pipe in self._members:
            if not pipe.poll(limit_seconds):
                raise LifeboatError(f"a process of the bench gave no answer in {limit_seconds:.0f} s; run it again")
            try:
                found.append(pipe.recv())
            except EOFError:
                process.join(5)
                raise LifeboatError(f"a process of the bench ended with code {process.exitcode}") from None
        return found


@contextmanager
def crew(place: Place, processes: int) -> Iterator[Crew]:
    """Yield a crew, and end it with the block."""
    made = Crew(place, processes)
    try:
        yield made
    finally:
        made.close()


def _work(place: Place, pipe: Connection) -> None:
    os.environ["BIGTABLE_EMULATOR_HOST"] = place.address
    # Each of the official client's ways says where it connects to.
    warnings.filterwarnings("ignore", "Connecting to Bigtable emulator", RuntimeWarning)
    ways: dict[Way, Any] = {}
    while True:
        try:
            way, load, batch_size = pipe.recv()
        except EOFError:
            return
        if way not in ways:
            ways[way] = writer(way, place, _now_ms)
            ways[way](records(Load(_WARM_ROWS, _WARM_SEED), _now_ms()), batch_size)
        found = records(load, _now_ms())
        pipe.send("ready")
        pipe.recv()
        began, cpu = time.monotonic(), time.process_time()
        ways[way](found, batch_size)
        pipe.send((began, time.monotonic(), time.process_time() - cpu))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
