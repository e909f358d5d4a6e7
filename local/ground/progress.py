"""What a starting daemon tells its starter: one JSON object a line on standard output, until it is ready or has failed."""

import json
import logging
import os

logger = logging.getLogger(__name__)

STANDARD_OUTPUT = 1
STANDARD_ERROR = 2


class Progress:
    """The daemon's end of the pipe. Telling a starter that has gone away is no error: a detached ground needs none."""

    def say(self, text: str) -> None:
        """Tell what happens now."""
        logger.info("%s", text)
        self._write({"progress": text})

    def ready(self) -> None:
        """Tell that all is ready, and close the pipe."""
        self._finish({"ready": "yes"})

    def busy(self) -> None:
        """Tell that another daemon has the folder, and close the pipe."""
        self._finish({"busy": "yes"})

    def failed(self, error: str) -> None:
        """Tell why there is no ground, and close the pipe."""
        logger.error("%s", error)
        self._finish({"error": error})

    def _finish(self, message: dict[str, str]) -> None:
        self._write(message)
        # Later output of this process or its children must go to the log, not to a pipe that nobody reads.
        os.dup2(STANDARD_ERROR, STANDARD_OUTPUT)

    def _write(self, message: dict[str, str]) -> None:
        try:
            os.write(STANDARD_OUTPUT, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            logger.info("the starter is gone")
