"""Golden inference on request: whether this host could serve a version, asked before an alias may point to it.

A version is loaded from this site's bucket as it would be to serve it, and answers its golden request; what is being served is
not touched. Versions never change, so a verdict is kept. One version is proven at a time: two at once would be memory for three.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from service import model
from service.errors import BusyError, ModelInvalidError
from service.keeper import ModelSource

# How long a request waits for the one before it; whoever asks waits two minutes in all.
WAIT_SECONDS = 60.0
# Verdicts kept; a model has far fewer versions on trial at once.
MOST_KEPT = 256


class GoldenRequest(BaseModel):
    """Body of POST /golden, as the functions send it (functions/artifacts/golden.py)."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(min_length=1, max_length=100)
    version: str = Field(pattern=r"^[0-9a-f]{64}$")
    site: str = Field(max_length=16)


@dataclass(frozen=True)
class Verdict:
    """Whether the version answered its golden request as it should; `detail` says why not."""

    passed: bool
    detail: str


class Prover:
    """Proves versions of the host's own model."""

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        self._busy = threading.Lock()
        self._kept: OrderedDict[str, Verdict] = OrderedDict()

    def prove(self, version: str) -> Verdict:
        """Return the verdict on a version.

        Raises BusyError while another one takes too long, ModelNotPublishedError for a version that is not here,
        ModelUntrustedError for bytes that its site did not sign, store errors as they come: none of these is a verdict.
        """
        if not self._busy.acquire(timeout=WAIT_SECONDS):
            raise BusyError("another version is being proven on this host; ask again in a minute")
        try:
            if version not in self._kept:
                self._kept[version] = self._look(version)
                while len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            return self._kept[version]
        finally:
            self._busy.release()

    def _look(self, version: str) -> Verdict:
        try:
            model.parse(self._source.fetch(version))
        except ModelInvalidError as error:
            return Verdict(False, str(error))
        return Verdict(True, "answers its golden request")
