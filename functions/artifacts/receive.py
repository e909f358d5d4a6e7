"""What arrives on a site: packs to rebuild from, and versions that still lack their receipt."""

import time
from dataclasses import dataclass

from functions.artifacts.encode import exists
from functions.artifacts.paths import receipt_key
from functions.artifacts.plan import ProveJob, decode_receiving_job
from functions.artifacts.rebuild import Rebuilder, Rebuilt, carry_waiting
from functions.artifacts.verify import verify


@dataclass(frozen=True)
class Received:
    """What one message came to."""

    step: str
    complete: bool
    bytes_raw: int
    bytes_wire: int
    seconds: float


@dataclass(frozen=True)
class Receiver:
    """Handles the messages of a site's queue of rebuilds."""

    rebuilder: Rebuilder

    def run(self, body: str) -> Received:
        """Handle one message; errors are those of `Rebuilder.run` and `verify`."""
        job = decode_receiving_job(body)
        started = time.monotonic()
        if isinstance(job, ProveJob):
            step, done = "prove", self._prove(job)
        else:
            step, done = "rebuild", self.rebuilder.run(job)
            if done.complete and not exists(self.rebuilder.store, receipt_key(job.model, job.version)):
                # Whoever showed it died before the receipt; this message is the retry.
                self._prove(ProveJob(job.model, job.version))
        return Received(step, done.complete, done.bytes_raw, done.bytes_wire, time.monotonic() - started)

    def _prove(self, job: ProveJob) -> Rebuilt:
        parts = self.rebuilder
        receipt = verify(
            parts.store, job.model, job.version, site=parts.site, trust=parts.trust, clock_ms=parts.clock_ms
        )
        carry_waiting(parts.origin, parts.store, job.model, parts.site.peer)
        return Rebuilt(True, receipt.bytes_raw, 0)
