"""Keeps the model that the alias names in memory: watches the alias, loads and proves a new version, then swaps it in.

The version being served stays until the new one has answered its golden request, so a bad version costs nothing but a log line.
"""

import logging
import threading
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from functions.errors import FunctionError
from service import model
from service.errors import ModelInvalidError, ModelNotPublishedError

LOGGER = logging.getLogger(__name__)

# An alias moves rarely; a watch this often costs one small read a second a host.
WATCH_SECONDS = 1.0


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

    def __init__(self, source: ModelSource) -> None:
        self.source = source
        self._stop = threading.Event()
        self._refused: str | None = None
        self.served: Served | None = None
        self.reason = "the model is being loaded"

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
                self.reason = ""
                return
            if wanted == self._refused:
                return
            began = perf_counter()
            recommender = model.parse(self.source.fetch(wanted))
            self.served = Served(wanted, recommender, perf_counter() - began)
            self.reason = ""
            LOGGER.info("serving %s, loaded in %.2f s", wanted, self.served.load_seconds)
        except ModelInvalidError as error:
            # Files of a version never change: looking again would give the same answer.
            self._refused = wanted
            self.reason = str(error)
            LOGGER.error("version %s refused: %s", wanted, error)
        except (ModelNotPublishedError, FunctionError) as error:
            self.reason = str(error)
            LOGGER.warning("model not looked up: %s", error)

    def _watch(self) -> None:
        self.turn()
        while not self._stop.wait(WATCH_SECONDS):
            self.turn()
