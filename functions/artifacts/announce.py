"""What a new manifest or alias on this site sets in motion."""

from dataclasses import dataclass

from functions.artifacts import plan
from functions.artifacts.alias import Moved, carry, current
from functions.artifacts.encode import Planned, exists, plan_version
from functions.artifacts.errors import VersionNotReadyError
from functions.artifacts.paths import parse_key, receipt_key
from functions.artifacts.plan import ProveJob, ThirdJob
from functions.artifacts.sign import Trust
from functions.settings import Site
from functions.stores.errors import NotFoundError
from functions.stores.protocols import Message, MessageQueue, ObjectStore
from functions.telemetry import LOGGER


@dataclass(frozen=True)
class Announcer:
    """Carries manifests and aliases of `here` over to `there`. Events are hints: what counts is what the stores hold now.

    `jobs` and `rebuilds` are this site's own queues: what it sends, and what it has received. `third`: there is a third copy.
    """

    site: Site
    here: ObjectStore
    there: ObjectStore
    jobs: MessageQueue
    rebuilds: MessageQueue
    chunk_bytes: int
    trust: Trust
    third: bool = False

    def run(self, key: str) -> None:
        """Handle one object that was created on this site; keys of other kinds are none of our business.

        Raises VersionNotReadyError for an alias whose version the other site has not proven yet.
        """
        named = parse_key(key)
        if named is None:
            return
        kind, model, name = named
        if kind == "aliases":
            moved = carry(self.here, self.there, model, name, self.site)
            if self.third and moved is Moved.APPLIED and (state := current(self.here, model, name)):
                # Its first group brings the model's aliases there as well.
                self.jobs.publish([Message(plan.encode(ThirdJob(model, state.version, 0)))])
            LOGGER.info("alias carried", extra={"model": model, "key": key, "outcome": moved.value})
            return
        try:
            outcome, count = self._version(model, name)
        except NotFoundError as error:
            # A notification can outrun the object on a store that is being restored; the queue's own limit ends the waiting.
            raise VersionNotReadyError(f"{model} {name}: {error}") from error
        LOGGER.info(
            "version planned into %d jobs", count, extra={"model": model, "version": name, "outcome": outcome.value}
        )

    def _version(self, model: str, version: str) -> tuple[Planned, int]:
        outcome, count = plan_version(
            self.here,
            self.there,
            self.jobs,
            model,
            version,
            site=self.site,
            chunk_bytes=self.chunk_bytes,
            trust=self.trust,
            third=self.third,
        )
        if outcome is Planned.ECHO and not exists(self.here, receipt_key(model, version)):
            # It came from the other site, and whoever showed it died before the receipt.
            self.rebuilds.publish([Message(plan.encode(ProveJob(model, version)))])
        return outcome, count
