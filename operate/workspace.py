"""A Pulumi project folder of its own for a run that changes config: a rehearsal must not touch the stack files in the repository.

The folder links to the real program and holds its own copies of Pulumi.yaml and the stack files.
"""

import shutil
from pathlib import Path

from local.paths import ROOT

LINKED = ("infra", "requirements.txt", ".venv")
COPIED_FILE = "Pulumi.yaml"
STACKS = "stacks"


def make_project(folder: Path) -> Path:
    """Make a project folder with fresh copies of the stack files and return it; an earlier one is replaced."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copyfile(ROOT / COPIED_FILE, folder / COPIED_FILE)
    shutil.copytree(ROOT / STACKS, folder / STACKS)
    return folder
