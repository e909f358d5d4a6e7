"""What is shipped is pinned to what is tested: the functions' and the service's pins are the repository's."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pins(path: Path) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = [line for line in lines if line and not line.startswith("-")]
    assert all("==" in line for line in found), f"{path.name} has a requirement without a pin"
    return {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in found)}


@pytest.mark.parametrize("shipped", ["functions/requirements.txt", "service/requirements.txt"])
def test_shipped_pins_are_the_tested_pins(shipped: str) -> None:
    tested = pins(ROOT / "requirements.txt")
    wanted = pins(ROOT / shipped)
    assert wanted
    assert {name: tested.get(name) for name in wanted} == wanted
