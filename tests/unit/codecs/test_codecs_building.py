"""Set-up's part: the kernel is built once, whole or not at all, and what to do is said where it cannot be."""

from pathlib import Path

import pytest

from functions.artifacts import kernel
from functions.artifacts.kernel import recipe
from local.toolchain import kernel as making
from local.toolchain.errors import ToolBuildError

pytestmark = pytest.mark.unit


def test_what_is_there_is_not_built_again(library: Path) -> None:
    said: list[str] = []
    assert making.build(said.append) == library
    assert not said
    assert kernel.Kernel(library).path == library


def test_a_compiler_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "cc1: internal error" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{compiler.parent}:/bin:/usr/bin")
    with pytest.raises(ToolBuildError, match=r"kernel could not be made: cc1: internal error.*NumPy"):
        making.build(lambda _: None)
    assert making.locate() is None
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_a_change_of_the_sources_changes_the_folder(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "lifeboat.c"
    changed.write_text("/* other */")
    monkeypatch.setattr(recipe, "SOURCES", (changed,))
    assert making.locate() is None
