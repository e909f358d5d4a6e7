"""The set-up: what counts as ready, what is repaired, what is thrown away, and what a failure says."""

import subprocess
import sys
from pathlib import Path

import pytest

from local.toolchain import bootstrap
from local.toolchain.bootstrap import (
    READY,
    UNFINISHED,
    Layout,
    SetupError,
    count_pins,
    explain,
    is_ready,
    must_rebuild,
    set_up,
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "requirements.txt").write_text("# pins\none==1\n\ntwo==2  # why\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return Layout(tmp_path)


def add_environment(layout: Layout, *, stamp: bytes | None) -> None:
    layout.python.parent.mkdir(parents=True)
    layout.python.symlink_to(sys.executable)
    if stamp is not None:
        (layout.environment / READY).write_bytes(stamp)


def test_ready_only_with_the_same_requirements_project_and_folder(layout: Layout) -> None:
    add_environment(layout, stamp=layout.stamp())
    assert is_ready(layout)
    for name in ("requirements.txt", "pyproject.toml"):
        before = (layout.root / name).read_text()
        (layout.root / name).write_text(before + "three==3\n")
        assert not is_ready(layout)
        (layout.root / name).write_text(before)
    (layout.environment / READY).write_bytes(b"/another/folder" + layout.stamp()[len(str(layout.root)) :])
    assert not is_ready(layout)


def test_not_ready_without_environment_stamp_or_python(layout: Layout) -> None:
    assert not is_ready(layout)
    add_environment(layout, stamp=None)
    assert not is_ready(layout)
    (layout.environment / READY).write_bytes(layout.stamp())
    layout.python.unlink()
    layout.python.symlink_to("/no/such/python")
    assert not is_ready(layout)


def test_changed_requirements_keep_the_environment(layout: Layout) -> None:
    add_environment(layout, stamp=layout.stamp())
    (layout.root / "requirements.txt").write_text("one==2\n")
    assert must_rebuild(layout) is None


def test_an_environment_made_by_hand_is_kept(layout: Layout) -> None:
    add_environment(layout, stamp=None)
    assert must_rebuild(layout) is None


def test_unfinished_broken_and_moved_environments_are_rebuilt(layout: Layout) -> None:
    assert must_rebuild(layout) is None, "nothing there, nothing to remove"
    add_environment(layout, stamp=b"/another/folder\n")
    assert must_rebuild(layout) == "it was made for another folder"
    (layout.environment / UNFINISHED).touch()
    assert must_rebuild(layout) == "an earlier set-up was stopped half way"
    (layout.environment / UNFINISHED).unlink()
    layout.python.unlink()
    layout.python.symlink_to("/no/such/python")
    assert must_rebuild(layout) == "its Python no longer runs or is older than 3.11"


def test_a_stopped_set_up_is_repaired_by_the_next(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    half_written = layout.environment / "half-written"

    def stopped(where: Layout, lock: int) -> None:
        half_written.touch()
        raise KeyboardInterrupt

    def make(where: Layout, lock: int) -> None:
        where.environment.mkdir()
        (where.environment / UNFINISHED).touch()
        add_python = where.python.parent
        add_python.mkdir()
        where.python.symlink_to(sys.executable)

    monkeypatch.setattr(bootstrap, "_make", make)
    monkeypatch.setattr(bootstrap, "_install", stopped)
    with pytest.raises(KeyboardInterrupt):
        set_up(layout)
    assert not is_ready(layout)

    monkeypatch.setattr(bootstrap, "_install", lambda where, lock: None)
    set_up(layout)
    assert is_ready(layout)
    assert not half_written.exists()
    assert not (layout.environment / UNFINISHED).exists()


def test_a_folder_that_cannot_be_written_is_a_named_error(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(where: Layout, lock: int) -> None:
        raise OSError(28, "No space left on device", str(where.environment))

    monkeypatch.setattr(bootstrap, "_make", full)
    with pytest.raises(SetupError, match=r"No space left on device.*2 GB\s+free"):
        set_up(layout)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: Retrying ... NewConnectionError: Failed to establish a new connection", "cannot be reached"),
        ("Temporary failure in name resolution\nERROR: No matching distribution found for boto3", "cannot be reached"),
        (
            "ERROR: No matching distribution found for boto3==1.44.5",
            "boto3==1.44.5 was not to be had: the Python package index cannot be reached or lacks it",
        ),
        ("SSLError: CERTIFICATE_VERIFY_FAILED certificate verify failed", "PIP_CERT"),
        ("ERROR: something else", "ERROR: something else Details: /setup.log"),
        ("", "pip failed Details: /setup.log"),
    ],
)
def test_failures_of_pip_are_explained(said: str, expected: str) -> None:
    assert expected in explain(said, Path("/setup.log"))


def test_pins_are_counted_without_comments() -> None:
    assert count_pins("# direct\n-e .\none==1\n\ntwo==2  # why\n") == 3


def test_the_lock_outlives_its_owner_while_a_child_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    waits: list[str] = []
    with bootstrap.exclusive(lock, lambda: waits.append("first")) as descriptor:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(descriptor,))

    def waited() -> None:
        waits.append("second")
        child.communicate()

    with bootstrap.exclusive(lock, waited):
        pass
    assert waits == ["second"]


def test_it_runs_with_the_standard_library_alone() -> None:
    program = f"import runpy; runpy.run_path({bootstrap.__file__!r}, run_name='checked')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
