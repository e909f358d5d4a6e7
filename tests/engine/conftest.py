"""What engine tests share: one deploy of the whole program."""

from collections.abc import Iterator

import pytest

from tests.engine.live import Live


# Of this folder's tests, not of the session: an idle ground takes a part of a processor from the tests of other kinds.
@pytest.fixture(scope="package")
def live_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with Live.running(tmp_path_factory.mktemp("live"), whole=False) as live:
        yield live


@pytest.fixture
def live(live_of_all: Live) -> Iterator[Live]:
    """Return the program on its ground; what a test broke is mended after it."""
    yield live_of_all
    live_of_all.mend()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Tests with a ground of their own come first, so that no two grounds of this folder run at once.
    items.sort(key=lambda item: "live" in getattr(item, "fixturenames", ()))
