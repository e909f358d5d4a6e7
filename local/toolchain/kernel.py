"""Builds the compiled kernel of the float codecs: with the C compiler on PATH, else with one from a Python wheel.

The library lies in a folder that is named by a hash of its sources and flags, so an update finds no old one. It needs nothing
but the C library, and of that only symbols of glibc 2.14 and older, so what is built here also runs where functions run
(Amazon Linux 2023 has glibc 2.34, Cloud Run's base images newer ones); for an archive that goes to another kind of machine than
this one, `build` takes that machine's name and uses the wheel, which compiles for all.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from functions.artifacts import kernel
from functions.artifacts.kernel.recipe import FLAGS, FUNCTIONS_MACHINE, FUNCTIONS_SYSTEM, LEVEL_FLAGS, build_of
from local import paths
from local.toolchain.errors import ToolBuildError
from local.toolchain.places import UNFINISHED, on_path, tools_folder
from local.toolchain.running import cause_of, run

Progress = Callable[[str], None]

# A whole C compiler as a Python wheel, for machines without one and for other machines; used from a throw-away folder.
ZIG_WHEEL = "ziglang==0.15.2"
# The oldest C library the wheel can be told to build for that every cloud's images are newer than.
GLIBC = "2.17"
COMPILERS = ("cc", "gcc", "clang")
COMPILE_SECONDS = 300.0
WHEEL_SECONDS = 600.0


def locate(machine: str | None = None) -> Path | None:
    """Return where the library for a Linux machine is (this one if none is named), or None; builds nothing."""
    path = _place(machine)
    return path if path.exists() else None


def wanted() -> tuple[str | None, ...]:
    """Return the machines to build for, None being this one: this machine, and what functions run on."""
    is_that = (platform.system(), platform.machine()) == (FUNCTIONS_SYSTEM, FUNCTIONS_MACHINE)
    return (None,) if is_that else (None, FUNCTIONS_MACHINE)


def build(progress: Progress, lock: int | None = None, machine: str | None = None) -> Path:
    """Return the library for a machine (this one if none is named; else Linux on x86_64 or aarch64), built if it is missing.

    It appears in its folder whole or not at all. Raises ToolBuildError; NumPy then does the same work, slower.
    """
    target = machine or platform.machine()
    if found := locate(machine):
        return found
    place = _place(machine)
    tools_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=tools_folder()) as temporary:
        library = Path(temporary) / place.name
        with _compiler(target if machine else None, progress, lock) as compiler:
            progress(f"compiling the codecs' kernel for {target} with {Path(compiler[0]).name}: seconds, once")
            _compile(compiler, target, library, lock)
        place.parent.mkdir(parents=True, exist_ok=True)
        library.replace(place)
    return place


def _place(machine: str | None) -> Path:
    if machine:
        return build_of(paths.cache(), machine=machine)
    return build_of(paths.cache(), platform.system(), platform.machine())


def _compile(compiler: tuple[str, ...], target: str, library: Path, lock: int | None) -> None:
    source = next(path for path in kernel.SOURCES if path.suffix == ".c")
    is_wheel = len(compiler) > 1
    level = LEVEL_FLAGS.get(target, ("", ""))[is_wheel]
    command = [*compiler, *FLAGS, *filter(None, [level]), "-o", str(library), str(source)]
    # The wheel's compiler keeps a cache of its own; it goes with the temporary folder.
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(library.parent),
        "ZIG_LOCAL_CACHE_DIR": str(library.parent),
    }
    outcome = run(command, environment=environment, seconds=COMPILE_SECONDS, keep_open=lock)
    if outcome.exit_code != 0 or not library.exists():
        raise ToolBuildError(
            "the codecs' kernel",
            cause_of(outcome),
            "NumPy takes its place, forty times slower. Install a C compiler (Debian: apt-get install gcc) and run this again.",
        )


@contextmanager
def _compiler(other: str | None, progress: Progress, lock: int | None) -> Iterator[tuple[str, ...]]:
    """Yield the command of a compiler for this machine, or for another Linux machine."""
    found = next((path for name in COMPILERS for path in on_path(name) if _works(path)), None)
    if found and other is None:
        yield (str(found),)
        return
    progress(f"fetching a C compiler as a Python wheel ({ZIG_WHEEL}, 100 MB): it is removed after the build")
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=tools_folder()) as folder:
        pip = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-compile"]
        environment = {name: value for name, value in os.environ.items() if name not in {"PIP_USER", "PIP_PREFIX"}}
        outcome = run(
            [*pip, "--no-deps", "--target", folder, ZIG_WHEEL],
            environment=environment,
            seconds=WHEEL_SECONDS,
            keep_open=lock,
        )
        zig = Path(folder) / "ziglang" / "zig"
        if outcome.exit_code != 0 or not zig.exists():
            raise ToolBuildError(
                "the codecs' kernel",
                f"installing {ZIG_WHEEL} failed: {cause_of(outcome)}",
                "NumPy takes its place, forty times slower. Install a C compiler (Debian: apt-get install gcc).",
            )
        zig.chmod(0o755)
        machine = other or platform.machine()
        target = ("-target", f"{machine}-linux-gnu.{GLIBC}") if other or platform.system() == "Linux" else ()
        yield (str(zig), "cc", "-s", *target)


def _works(compiler: Path) -> bool:
    """Tell whether a program on PATH is a compiler that runs: the first may be a stub that asks for an installation."""
    try:
        asked = subprocess.run([str(compiler), "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
