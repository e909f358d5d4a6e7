"""What a new manifest or alias on this site sets in motion."""

from dataclasses import dataclass

from functions.artifacts.alias import carry
from functions.artifacts.encode import plan_version
from functions.artifacts.errors import VersionNotReadyError
from functions.artifacts.paths import parse_key
from functions.settings import Site
from functions.stores.errors import NotFoundError
from functions.stores.protocols import MessageQueue, ObjectStore
from functions.telemetry import LOGGER


@dataclass(frozen=True)
class Announcer:
    """Carries manifests and aliases of `here` over to `there`. Events are hints: what counts is what the stores hold now."""

    site: Site
    here: ObjectStore
    there: ObjectStore
    jobs: MessageQueue
    chunk_bytes: int

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
            LOGGER.info("alias carried", extra={"model": model, "key": key, "outcome": moved.value})
            return
        try:
            outcome, count = plan_version(
                self.here, self.there, self.jobs, model, name, site=self.site, chunk_bytes=self.chunk_bytes
            )
        except NotFoundError as error:
            # A notification can outrun the object on a store that is being restored; the queue's own limit ends the waiting.
            raise VersionNotReadyError(f"{model} {name}: {error}") from error
        LOGGER.info(
            "version planned into %d jobs", count, extra={"model": model, "version": name, "outcome": outcome.value}
        )
