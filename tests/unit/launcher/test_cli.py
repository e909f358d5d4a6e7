"""The command line: exit codes, quoting, errors without tracebacks, and a fast start."""

import json
import shlex
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from local.errors import LocalError
from local.toolchain.errors import ToolMissingError
from operate import cli
from operate.errors import LifeboatError, is_expected


def test_a_wrong_call_is_exit_code_2() -> None:
    assert CliRunner().invoke(cli.app, ["no-such-command"]).exit_code == 2
    assert CliRunner().invoke(cli.app, ["local", "env", "--ground", "moon"]).exit_code == 2


def test_every_command_takes_json_or_passes_it_on() -> None:
    for command in [*cli.app.registered_commands, *cli.local_app.registered_commands]:
        assert command.callback is not None
        if command.callback is cli.pulumi:
            continue
        assert "as_json" in command.callback.__annotations__, f"{command.callback.__name__} has no --json"


def test_errors_of_ours_are_told_from_defects() -> None:
    assert is_expected(LifeboatError("what to do"))
    assert is_expected(LocalError("what to do"))
    assert is_expected(ToolMissingError("pulumi", "not found", "Install it.", optional=False))
    assert not is_expected(KeyError("a defect"))
    assert not is_expected(json.JSONDecodeError("a defect", "", 0))


def test_an_error_of_ours_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(prog_name: str) -> None:
        raise LifeboatError("stack prod: not there. Make it with pulumi stack init prod.")

    monkeypatch.setattr(cli, "app", failing)
    monkeypatch.setattr(sys, "argv", ["lifeboat", "doctor", "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert said.err == "lifeboat: stack prod: not there. Make it with pulumi stack init prod.\n"
    assert json.loads(said.out)["error"]["kind"] == "LifeboatError"


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(prog_name: str) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(cli, "app", failing)
    with pytest.raises(KeyError):
        cli.main()


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")))
def test_exports_survive_the_shell(value: str) -> None:
    assert shlex.split(cli.quote(value)) == [value]


def test_the_start_imports_no_provider_sdk_or_engine() -> None:
    program = "import operate.cli, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    heavy = {"pulumi", "boto3", "grpc", "moto", "httpx", "rich", "pydantic", "numpy"}
    assert heavy & set(done.stdout.split()) == set()


def test_only_commands_that_reach_resources_need_a_ground() -> None:
    assert cli.reaches_resources(["up", "--yes"])
    assert cli.reaches_resources(["-s", "local", "preview"])
    assert not cli.reaches_resources(["config", "set", "lifeboat:active", "gcp"])
    assert not cli.reaches_resources(["stack", "import"])
    assert not cli.reaches_resources([])
