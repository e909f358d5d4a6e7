"""Keeps the model that the alias names in memory: watches the alias, loads and proves a new version, then swaps it in.

The version being served stays until the new one has answered its golden request, so a bad version costs nothing but a log line.
A version that is refused is looked at again after a while: its files never change, but a tampered copy of them may be repaired.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Protocol

from functions.errors import FunctionError
from service import model
from service.errors import ModelInvalidError, ModelNotPublishedError, ModelUntrustedError

LOGGER = logging.getLogger(__name__)

# An alias moves rarely; a watch this often costs one small read a second a host.
WATCH_SECONDS = 1.0
# A refused version is read whole to be looked at again: rarely enough not to be a load, soon enough after a repair.
REFUSED_SECONDS = 300.0


class ModelSource(Protocol):
    """Where versions come from: this site's bucket."""

    def current(self) -> str:
        """Return the version that the alias names; ModelNotPublishedError when it names none."""

    def fetch(self, version: str) -> dict[str, bytes]:
        """Return a version's files, proven against its manifest."""


@dataclass(frozen=True)
class Served:
    """A model in memory, its version, and how long it took from the first byte asked for to the golden answer."""

    version: str
    recommender: model.Recommender
    load_seconds: float


class ModelKeeper:
    """Serves the aliased model; `served` is None until the first one is proven."""

    def __init__(self, source: ModelSource, clock: Callable[[], float] = monotonic) -> None:
        self.source = source
        self._clock = clock
        self._stop = threading.Event()
        self._refused: tuple[str, float] | None = None
        self.served: Served | None = None
        self.reason = "the model is being loaded"
        # Why the version that the alias names is not the one served; empty while nothing is refused.
        self.refused = ""

    def start(self) -> None:
        """Watch the alias from a thread of its own."""
        threading.Thread(target=self._watch, name="model-keeper", daemon=True).start()

    def stop(self) -> None:
        """Ask the watch to end; it does at its next turn."""
        self._stop.set()

    def turn(self) -> None:
        """Look once, and load a version that is not served yet; what stands in the way is kept in `reason`."""
        try:
            wanted = self.source.current()
            if self.served is not None and self.served.version == wanted:
                self.reason, self.refused = "", ""
                return
            if self._refused and wanted == self._refused[0] and self._clock() < self._refused[1]:
                return
            began = perf_counter()
            recommender = model.parse(self.source.fetch(wanted))
            self.served = Served(wanted, recommender, perf_counter() - began)
            self.reason, self.refused = "", ""
            LOGGER.info("serving %s, loaded in %.2f s", wanted, self.served.load_seconds)
        except (ModelInvalidError, ModelUntrustedError) as error:
            self._refused = wanted, self._clock() + REFUSED_SECONDS
            self.reason = self.refused = str(error)
            LOGGER.error("version %s refused, %s: %s", wanted, self._stays(), error)
        except (ModelNotPublishedError, FunctionError) as error:
            self.reason = str(error)
            LOGGER.warning("model not looked up: %s", error)

    def _stays(self) -> str:
        return f"{self.served.version} is served on" if self.served else "nothing is served"

    def _watch(self) -> None:
        self.turn()
        while not self._stop.wait(WATCH_SECONDS):
            self.turn()
