"""The arrows between the rooms: who may import whom (docs/adr/0001). A picture of what is there is printed when one is wrong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A room may import itself and these; a module name narrows the arrow to it.
ALLOWED: dict[str, frozenset[str]] = {
    # The declared tables of user data are named in the program as well: a type that can't replicate stops `up`.
    # The names of Feast's tables are computed as Feast does, once, for the program and the function that writes there. So is
    # where set-up leaves the compiled kernel, which goes into the functions' archives, and the names of the metrics that its
    # alarms watch.
    "infra": frozenset(
        {
            "functions.settings",
            "functions.errors",
            "functions.userdata.schema",
            "functions.userdata.errors",
            "functions.features.feast.layout",
            "functions.artifacts.kernel",
            "functions.artifacts.measures",
            "control",
        }
    ),
    "functions": frozenset(),
    "control": frozenset({"functions.stores", "functions.settings"}),
    "service": frozenset({"control", "functions"}),
    "local": frozenset({"functions", "infra.naming"}),
    "operate": frozenset({"infra", "functions", "control", "service", "local"}),
}
ROOMS = tuple(ALLOWED)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the arrows, name the room"
            assert node.module is not None
            yield node.lineno, node.module


def arrows() -> list[tuple[str, str, str]]:
    found = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            place = f"{path.relative_to(ROOT)}"
            found += [(room, name, f"{place}:{line}") for line, name in imports_of(path) if name.split(".")[0] in ROOMS]
    return found


def is_allowed(room: str, name: str) -> bool:
    return name.split(".")[0] == room or any(name == each or name.startswith(f"{each}.") for each in ALLOWED[room])


def test_every_import_between_rooms_is_an_allowed_arrow() -> None:
    found = arrows()
    assert len(found) > 100, "the reader of imports found next to nothing: it looks in the wrong place"
    wrong = [f"{place}: {room} -> {name}" for room, name, place in found if not is_allowed(room, name)]
    drawn = "\n".join(
        sorted({f"  {room} -> {name.split('.')[0]}" for room, name, _ in found if name.split(".")[0] != room})
    )
    assert not wrong, "\n".join(wrong) + f"\narrows now:\n{drawn}"


@pytest.mark.parametrize(
    ("room", "name"),
    [("functions", "infra.naming"), ("infra", "local.names"), ("service", "local.state"), ("local", "infra.topology")],
)
def test_the_rule_refuses(room: str, name: str) -> None:
    assert not is_allowed(room, name)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "infra"])
def test_only_the_program_imports_pulumi_resources(room: str) -> None:
    # local reads the provider packages for their schemas, and both local and operate speak to the engine.
    free = {"local", "operate"}
    for path in sorted((ROOT / room).rglob("*.py")):
        for line, name in imports_of(path):
            assert room in free or not name.startswith("pulumi"), f"{path}:{line} imports {name}"
