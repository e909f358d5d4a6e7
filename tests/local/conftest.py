"""The ground that local tests share.

One ground a test run: its start costs seconds, and its parts keep apart what tests name apart. It belongs to the test process
and ends with it, also when that is killed.
"""

from collections.abc import Iterator

import pytest

from local.ground.client import GroundClient, start_ground
from local.names import Cloud, FaultMode


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GroundClient]:
    """Return the running ground: emulators, fault proxy, and the three clouds."""
    client = start_ground(tmp_path_factory.mktemp("ground"), owned=True)
    yield client
    client.stop()


@pytest.fixture
def no_faults(ground: GroundClient) -> Iterator[None]:
    """End every fault after the test."""
    yield
    for cloud, mode in ground.status().faults.items():
        if mode is not FaultMode.NONE:
            ground.restore(Cloud(cloud))
