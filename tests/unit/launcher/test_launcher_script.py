"""The launcher script: from any folder, through a link, and what it does when the environment is not ready."""

import shutil
import subprocess
from pathlib import Path

import pytest

from local.toolchain.bootstrap import Layout

ROOT = Path(__file__).resolve().parents[3]
STUB = """#!/bin/sh
case $* in
    *ensurepip*) exit 0 ;;
    *bootstrap.py*) echo "bootstrap $0"; exit 7 ;;
esac
echo "python in $PWD: $*; dont-write=${PYTHONDONTWRITEBYTECODE-unset}"
"""


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small repository with the real launcher and stubs for the Pythons that it starts."""
    root = tmp_path / "a repository"
    root.mkdir()
    shutil.copy2(ROOT / "lifeboat", root / "lifeboat")
    (root / "requirements.txt").write_text("one==1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    executable(root / ".venv" / "bin" / "python", STUB)
    (root / ".venv" / ".lifeboat-ready").write_bytes(Layout(root).stamp())
    return root


def start(
    launcher: Path, folder: Path, *arguments: str, path: str = "/usr/bin:/bin"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(launcher), *arguments],
        cwd=folder,
        env={"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_hands_over_from_another_folder_through_links(tree: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "relative").symlink_to(Path("..") / "a repository" / "lifeboat")
    (elsewhere / "twice").symlink_to("relative")

    done = start(elsewhere / "twice", elsewhere, "demo", "--report", "my folder")

    assert done.stdout == f"python in {elsewhere}: -P -m operate.cli demo --report my folder; dont-write=unset\n"
    assert done.returncode == 0


def test_changed_requirements_start_the_set_up(tree: Path, tmp_path: Path) -> None:
    (tree / "requirements.txt").write_text("one==2\n")
    executable(tmp_path / "bin" / "python3.12", STUB)

    done = start(tree / "lifeboat", tmp_path, "doctor", path=f"{tmp_path / 'bin'}:/usr/bin:/bin")

    assert done.stdout.startswith("bootstrap ")
    assert done.returncode == 7, "a failed set-up ends the start"


def test_a_copied_environment_is_not_ready(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    executable(tmp_path / "bin" / "python3.13", STUB)

    done = start(copy / "lifeboat", tmp_path, "doctor", path=f"{tmp_path / 'bin'}:/usr/bin:/bin")

    assert done.stdout.startswith("bootstrap ")


def test_a_shim_that_does_not_run_is_passed_over(tree: Path, tmp_path: Path) -> None:
    (tree / ".venv" / ".lifeboat-ready").unlink()
    executable(tmp_path / "shims" / "python3.12", "#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    executable(tmp_path / "real" / "python3.12", STUB)

    done = start(tree / "lifeboat", tmp_path, path=f"{tmp_path / 'shims'}:{tmp_path / 'real'}:/usr/bin:/bin")

    assert done.stdout == f"bootstrap {tmp_path / 'real' / 'python3.12'}\n"


def test_without_python_it_says_what_to_install(tree: Path, tmp_path: Path) -> None:
    (tree / ".venv" / ".lifeboat-ready").unlink()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "readlink", "cat", "cmp"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)

    done = start(tree / "lifeboat", tmp_path, path=str(tools))

    assert done.returncode == 1
    assert "no Python >= 3.11" in done.stderr
    assert "apt-get install python3" in done.stderr
