"""The compiled kernel for the tests of the codecs, and every test in both forms where it matters."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.artifacts import kernel
from local.toolchain import kernel as making


@pytest.fixture(scope="session")
def library() -> Path:
    """The kernel of this machine. That it cannot be built is a failure: set-up promises it."""
    return making.locate() or making.build(lambda _: None)


@pytest.fixture(params=["kernel", "numpy"])
def form(request: pytest.FixtureRequest, library: Path) -> Iterator[str]:
    """The form that codecs run in: compiled, or NumPy."""
    before = os.environ.get(kernel.ENVIRONMENT)
    os.environ[kernel.ENVIRONMENT] = str(library) if request.param == "kernel" else kernel.OFF
    assert (kernel.load() is not None) == (request.param == "kernel"), "this processor cannot run the kernel"
    yield request.param
    if before is None:
        del os.environ[kernel.ENVIRONMENT]
    else:
        os.environ[kernel.ENVIRONMENT] = before
