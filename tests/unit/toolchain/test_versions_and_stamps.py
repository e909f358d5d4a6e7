"""Versions as tools print them, the stamps that name cache folders, and the pins that must agree."""

import re
from pathlib import Path

import pytest

from local import paths
from local.toolchain import places
from local.toolchain.pins import GO_PACKAGES, GO_TOOLS, PULUMI_VERSION, Version
from local.toolchain.versions import parse_version, show


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.0 linux/amd64", (1, 26, 0)),
        ("go version go1.27rc1 darwin/arm64", (1, 27)),
        ("v3.259.0", (3, 259, 0)),
        ("v3.260.0-alpha.x12ab", (3, 260, 0)),
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', (17, 0, 15)),
        ('openjdk version "25" 2025-09-16', (25,)),
        ('java version "1.8.0_402"', (8, 0)),
        ("\x1b[1mApache Maven 3.8.7\x1b[m", (3, 8, 7)),
        ("postgres (PostgreSQL) 18.6", (18, 6)),
        ("pyenv: command not found", None),
        ("", None),
    ],
)
def test_versions_are_read_as_tools_print_them(text: str, version: Version | None) -> None:
    assert parse_version(text) == version


def test_versions_are_shown_as_people_write_them() -> None:
    assert show((3, 259, 0)) == "3.259.0"
    assert show(None) == "unknown"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small copy of the tools module that the stamps are taken of."""
    for name in ("go.mod", "go.sum", "pubsubd/main.go"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(places, "MODULE", tmp_path)
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "pubsubd/main.go"])
def test_every_source_is_part_of_the_go_stamp(module: Path, name: str) -> None:
    before = places.go_folder()
    assert places.go_folder() == before
    (module / name).write_text("changed")
    assert places.go_folder() != before


def test_the_build_flags_are_part_of_the_go_stamp(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = places.go_folder()
    monkeypatch.setattr(places, "GO_BUILD_FLAGS", ("-race",))
    assert places.go_folder() != before


def test_the_engine_has_one_version_everywhere() -> None:
    go_mod = (places.MODULE / "go.mod").read_text()
    requirements = (paths.ROOT / "requirements.txt").read_text()
    assert f"github.com/pulumi/pulumi/pkg/v3 v{PULUMI_VERSION} " in go_mod
    assert f"\npulumi=={PULUMI_VERSION}\n" in requirements


def test_the_go_module_names_every_tool_that_is_built() -> None:
    block = re.search(r"^tool \((.*?)\)", (places.MODULE / "go.mod").read_text(), re.DOTALL | re.MULTILINE)
    assert block is not None
    built = {GO_PACKAGES[tool].replace("./", "lifeboat/tools/") for tool in GO_TOOLS}
    assert built == set(block.group(1).split())
