"""Folders of the local ground and of the tools it needs; nothing is written anywhere else."""

import os
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Return the folder that holds grounds, engine state and logs: LIFEBOAT_HOME, else `.lifeboat` in the repository."""
    return Path(os.environ.get("LIFEBOAT_HOME") or ROOT / ".lifeboat")


def ground_folder(name: str) -> Path:
    """Return the folder of the ground called `name`; a stack has one ground."""
    return home() / "grounds" / name


def cache() -> Path:
    """Return the folder for tools and schemas, keyed by version inside: LIFEBOAT_CACHE, else the user's cache folder."""
    configured = os.environ.get("LIFEBOAT_CACHE")
    return Path(configured) if configured else Path(platformdirs.user_cache_dir("lifeboat"))
