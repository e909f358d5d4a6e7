"""A second demo begins with nothing, whatever the first one left: its files, or a ground that still runs."""

from pathlib import Path

import psutil

from local.ground.client import start_ground
from operate.demo.run import fresh


def test_a_ground_that_still_runs_is_stopped_and_its_files_are_gone(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    client = start_ground(folder, owned=True, clouds=())
    (folder / "engine").mkdir()
    (folder / "engine" / "state.json").write_text("of the last run")
    assert fresh(folder) == folder
    assert not folder.exists()
    assert not psutil.pid_exists(client.pid) or psutil.Process(client.pid).status() == psutil.STATUS_ZOMBIE


def test_a_first_run_finds_nothing_and_is_content(tmp_path: Path) -> None:
    assert not fresh(tmp_path / "demo").exists()
