"""What the kernel is compiled from and how, and where a build of it lies in the user's cache: pure, and read by three.

Set-up builds it there, the program takes it from there into the functions' archives, and whoever changes a source or a flag
finds no old build, because the folder's name is a hash of both.
"""

import hashlib
from pathlib import Path

from functions.artifacts.kernel import SOURCES, file_name

FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden")
# Processors since 2013 (x86-64 psABI, level 3), all that both clouds rent; a third faster. The loader looks before it loads.
# How GCC and Clang name it, and how the wheel's compiler does.
LEVEL_FLAGS = {"x86_64": ("-march=x86-64-v3", "-march=x86_64_v3")}
# What functions run on, on both clouds, as Python's `platform` names it.
FUNCTIONS_SYSTEM = "Linux"
FUNCTIONS_MACHINE = "x86_64"


def build_of(cache: Path, system: str = FUNCTIONS_SYSTEM, machine: str = FUNCTIONS_MACHINE) -> Path:
    """Return where the library for a machine lies once it is built; `cache` is the user's cache folder."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    for setting in (*FLAGS, *(flag for flags in LEVEL_FLAGS.values() for flag in flags), system):
        digest.update(setting.encode() + b"\0")
    return cache / "tools" / f"kernel-{digest.hexdigest()[:16]}" / file_name(machine)
