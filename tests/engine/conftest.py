"""What engine tests share: one deploy of the whole program."""

from collections.abc import Iterator

import pytest

from tests.engine.live import Live


@pytest.fixture(scope="session")
def live_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with Live.running(tmp_path_factory.mktemp("live")) as live:
        yield live


@pytest.fixture
def live(live_of_session: Live) -> Iterator[Live]:
    """Return the program on its ground; what a test broke is mended after it."""
    yield live_of_session
    live_of_session.mend()
