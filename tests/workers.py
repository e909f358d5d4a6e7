"""How tests are shared out when several processes run them: what shares a costly start stays together, the longest first."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Kinds whose tests share one deploy, or recordings of the program, for as long as the process lives.
TOGETHER = ("tests/engine/", "tests/program/")
# The engine's tests take longest: begun last, they would be waited for alone.
FIRST = ("engine", "chaos", "page", "local")


def kind_of(item: pytest.Item) -> int:
    """Return a test's place in the order of kinds."""
    parts = item.nodeid.split("/")
    return FIRST.index(parts[1]) if len(parts) > 2 and parts[1] in FIRST else len(FIRST)


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process whole files, and of some kinds all files; in the order of collection."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        # The order of kinds, not the number of tests in a file, says what is long.
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if file.startswith(folder)), file)
