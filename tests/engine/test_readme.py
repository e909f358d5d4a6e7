"""The README's commands are run as they stand, in order, in a shell of their own; what needs an account is only parsed."""

import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from local.engine.environment import STATE_AT_THE_END
from operate.workspace import make_project

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 900
# Run by tests of their own: the demo in test_demo.py; the test command is what runs this.
ELSEWHERE = ("./lifeboat demo", "./lifeboat test")


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    fenced = re.findall(r"(?ms)^( *)```(\w*)\n(.*?)^ *```$", text)
    return [textwrap.dedent(body) for _, named, body in fenced if named == language]


def test_the_readme_has_the_commands_that_are_tested_elsewhere() -> None:
    assert {block.strip() for block in blocks("sh")} >= set(ELSEWHERE)


@pytest.mark.timeout(LIMIT_SECONDS + 30)
@pytest.mark.parametrize("block", [block for block in blocks("sh") if block.strip() not in ELSEWHERE])
def test_a_block_runs_as_it_stands(tmp_path: Path, block: str) -> None:
    # A copy of the project: `pulumi config set` writes into the stack file.
    project = make_project(tmp_path / "project")
    for name in ("lifeboat", "service", "functions", "operate", "local", "control"):
        (project / name).symlink_to(ROOT / name)
    environment = {**os.environ, **STATE_AT_THE_END, "LIFEBOAT_HOME": str(tmp_path / "home")}
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    finally:
        subprocess.run(
            [ROOT / "lifeboat", "local", "down"], env=environment, capture_output=True, timeout=120, check=False
        )


@pytest.mark.parametrize("block", blocks(""))
def test_blocks_for_real_accounts_are_sound_shell(block: str) -> None:
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
