"""One run of the program a stack serves many asserts; a test that changes the config runs its own."""

from collections.abc import Iterator

import pytest

from infra import archives, program
from infra.archives import Archive
from tests.program.recording import ROOT, STACKS, Recorder, deploy


@pytest.fixture(scope="session", autouse=True)
def _no_layer_build() -> Iterator[None]:
    """The layer comes from a package index; its inputs, not its bytes, matter here."""
    patch = pytest.MonkeyPatch()
    built = Archive(archives.BUILD / "functions-aws.zip", "0" * 64)
    patch.setattr(program, "layer_archives", lambda: dict.fromkeys(archives.LAYERS, built))
    patch.chdir(ROOT)
    yield
    patch.undo()


@pytest.fixture(scope="session", params=STACKS)
def recorded(request: pytest.FixtureRequest) -> Recorder:
    return deploy(request.param)


@pytest.fixture(scope="session")
def local() -> Recorder:
    return deploy("local")


@pytest.fixture(scope="session")
def prod() -> Recorder:
    return deploy("prod")
