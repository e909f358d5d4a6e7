"""Where tools are looked for, in which order, and what is said when one is not there."""

import os
import platform
from pathlib import Path

import pytest

from functions.artifacts.kernel.recipe import build_of
from local import paths
from local.toolchain import dynamodb, ensure, find, kernel, places, toolset
from local.toolchain.errors import ToolBuildError, ToolMissingError
from local.toolchain.pins import ADVICE, SERVERS, Tool
from local.toolchain.running import Outcome, cause_of, run


def program(path: Path, says: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on PATH, with nothing in the cache and no override."""
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    for name in (places.OVERRIDE, "JAVA_HOME", "CLOUDSDK_ROOT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_override_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "path" / "pulumi", "v3.300.0")
    mine = program(tmp_path / "mine" / "pulumi", "v1.0.0")
    monkeypatch.setenv(places.OVERRIDE, str(tmp_path / "mine"))
    assert find("pulumi") == mine


def test_an_engine_on_path_is_used_when_it_is_new_enough(tmp_path: Path) -> None:
    made = program(places.go_folder() / "pulumi")
    on_path = program(tmp_path / "path" / "pulumi", "v3.237.9")
    assert find("pulumi") == made
    program(on_path, "v3.238.0")
    os.utime(on_path, ns=(1, 1))
    assert find("pulumi") == on_path


def test_a_shim_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = program(tmp_path / "shims" / "go")
    shim.write_text("#!/bin/sh\nexit 127\n")
    real = program(tmp_path / "path" / "go", "go version go1.26.1 linux/amd64")
    monkeypatch.setenv("PATH", f"{tmp_path / 'shims'}:{tmp_path / 'path'}")
    assert find("go") == real


def test_the_pinned_server_comes_before_the_one_on_path(tmp_path: Path) -> None:
    on_path = program(tmp_path / "path" / "fake-gcs-server")
    assert find("fake-gcs-server") == on_path
    made = program(places.go_folder() / "fake-gcs-server")
    assert find("fake-gcs-server") == made


@pytest.mark.parametrize(
    "tool", [*SERVERS, Tool.PULUMI, Tool.DYNAMODB_LOCAL, Tool.GO, Tool.CHROMIUM, Tool.SPANNER_EMULATOR]
)
def test_a_missing_tool_says_what_to_do_and_whether_the_demo_goes_on(tool: Tool) -> None:
    with pytest.raises(ToolMissingError) as missing:
        find(tool.value)
    assert str(missing.value).startswith(f"{tool.value}: not found")
    assert ADVICE[tool].next_step in str(missing.value)
    goes_on = "The demo goes on without it." if ADVICE[tool].optional else "The demo cannot go on without it."
    assert str(missing.value).endswith(goes_on)


def test_every_tool_has_advice_and_a_place_to_look() -> None:
    for tool in Tool:
        assert ADVICE[tool].purpose
        assert ADVICE[tool].next_step
        places.locate(tool)


def test_a_complete_machine_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in (*SERVERS, Tool.PULUMI):
        program(places.go_folder() / tool.value)
    (places.dynamodb_folder() / "lib").mkdir(parents=True)
    compiled()

    def unwanted(*_: object) -> list[str]:
        raise AssertionError("made something")

    monkeypatch.setattr(toolset, "_make", unwanted)
    tools = ensure()
    assert tools.pulumi == places.go_folder() / "pulumi"
    assert tools.notes == ()


def compiled() -> None:
    """Leave the kernel where set-up does, for all machines that it builds for."""
    for library in (build_of(paths.cache(), platform.system(), platform.machine()), build_of(paths.cache())):
        program(library)


def test_without_a_compiler_the_rest_is_made_and_the_stand_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ToolBuildError("the codecs' kernel", "no compiler", "NumPy takes its place, forty times slower.")

    for tool in (*SERVERS, Tool.PULUMI):
        program(places.go_folder() / tool.value)
    (places.dynamodb_folder() / "lib").mkdir(parents=True)
    monkeypatch.setattr(kernel, "build", refused)
    (note,) = [note for note in ensure().notes if "kernel" in note]
    assert "NumPy takes its place" in note
    assert places.locate(Tool.CODECS_KERNEL) is None
    monkeypatch.setattr(kernel, "build", lambda *_: compiled())
    assert not any("kernel" in note for note in ensure().notes)
    assert places.locate(Tool.CODECS_KERNEL) is not None


def test_without_dynamodb_local_the_rest_is_made_and_the_stand_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ToolBuildError("DynamoDB Local", "the package source cannot be reached", dynamodb.NEXT_STEP)

    def build(wanted: tuple[Tool, ...], *_: object) -> None:
        assert wanted == (*SERVERS, Tool.PULUMI), "the servers come first"
        for tool in wanted:
            program(places.go_folder() / tool.value)

    monkeypatch.setattr(dynamodb, "fetch", refused)
    compiled()
    monkeypatch.setattr("local.toolchain.golang.build", build)
    monkeypatch.setattr("local.toolchain.official.install", lambda *_: False)
    tools = ensure()
    assert tools.dynamodb_local is None
    assert "moto takes over" in tools.notes[0]


def test_dynamodb_local_is_told_about_native_access_only_where_java_knows_it(tmp_path: Path) -> None:
    old = program(tmp_path / "17" / "java", 'openjdk version "17.0.15"')
    new = program(tmp_path / "25" / "java", 'openjdk version "25.0.2"')
    assert "--enable-native-access=ALL-UNNAMED" not in dynamodb.command(tmp_path, old)
    command = dynamodb.command(tmp_path, new)
    assert "--enable-native-access=ALL-UNNAMED" in command
    assert command[-1] == dynamodb.MAIN_CLASS
    assert {"-Xmx512m", "-XX:+UseSerialGC", f"{tmp_path}/*"} <= set(command)


def test_maven_settings_name_the_mirror(tmp_path: Path) -> None:
    settings = tmp_path / "settings.xml"
    assert dynamodb.repository_address(settings) == dynamodb.MAVEN_CENTRAL
    mirror = "<mirror><mirrorOf>{}</mirrorOf><url>https://mirror.example/maven/</url></mirror>"
    namespace = 'xmlns="http://maven.apache.org/SETTINGS/1.0.0"'
    for of, address in (("central", "https://mirror.example/maven"), ("other", dynamodb.MAVEN_CENTRAL)):
        settings.write_text(f"<settings {namespace}><mirrors>{mirror.format(of)}</mirrors></settings>")
        assert dynamodb.repository_address(settings) == address


def test_the_pinned_jars_belong_to_the_version_in_the_pom() -> None:
    version = (
        places.POM.read_text().split("<artifactId>DynamoDBLocal</artifactId>")[1].split("<version>")[1].split("<")[0]
    )
    jars = dynamodb.pinned_jars(places.JARS.read_text())
    assert f"software/amazon/dynamodb/DynamoDBLocal/{version}/DynamoDBLocal-{version}.jar" in jars
    assert all(len(digest) == 64 for digest in jars.values())


def test_a_command_that_hangs_is_stopped_with_its_children() -> None:
    outcome = run(["/bin/sh", "-c", "echo begun; /bin/sleep 600 & wait"], environment={}, seconds=0.5)
    assert outcome.timed_out
    assert outcome.exit_code != 0
    assert outcome.tail == "begun"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("dial tcp: lookup proxy.golang.org: no such host", "the package source cannot be reached"),
        ("write /tmp/x: no space left on device", "the disk is full"),
        ("first\nlast word\n\n", "last word"),
        ("", "exit code 3 and no word"),
    ],
)
def test_causes_are_named_in_words(said: str, expected: str) -> None:
    assert cause_of(Outcome(3, said, timed_out=False)).startswith(expected)
