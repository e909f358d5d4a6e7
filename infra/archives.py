"""Archives that the program uploads: the functions for each cloud, and their libraries as a Lambda layer.

Same input, same bytes: names are sorted and times fixed, because an archive that differs by a date is a change on every
run. The module is not called `packaging`: the program's folder is first on the import path, where that name would hide a
library that others import.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from functions.artifacts.kernel import ENVIRONMENT, OFF
from functions.artifacts.kernel.recipe import build_of
from functions.settings import Site
from infra.errors import ArchiveError

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = ROOT / "functions"
REQUIREMENTS = FUNCTIONS / "requirements.txt"
BUILD = ROOT / "build"

# What Cloud Run functions load: a file main.py that holds the entry points.
GOOGLE_MAIN = '''"""Entry points, where Cloud Run functions look for them."""

from functions.entry_gcp import (
    artifact_audit,
    artifact_encode,
    artifact_inbox,
    artifact_plan,
    artifact_rebuild,
    artifact_sweep,
    bridge_to_queue,
    features_apply,
    features_reconcile,
    redis_forward,
    userdata_apply,
)

__all__ = [
    "artifact_audit",
    "artifact_encode",
    "artifact_inbox",
    "artifact_plan",
    "artifact_rebuild",
    "artifact_sweep",
    "bridge_to_queue",
    "features_apply",
    "features_reconcile",
    "redis_forward",
    "userdata_apply",
]
'''

# The earliest time that a zip file can hold.
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
FILE_MODE = 0o644

# The layer is built for what the functions run on (infra/components/aws_function.py), not for this machine.
LAYER_PYTHON = "3.13"
# Its glibc is 2.34 (AWS Lambda developer guide, Amazon Linux 2023); wheels for this one and older ones run there.
LAYER_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
LAYER_SECONDS = 900
# Lambda's limits (Lambda quotas): function and layers unpacked, and an archive that is uploaded directly.
UNPACKED_LIMIT_BYTES = 250 * 1024 * 1024
UPLOAD_LIMIT_BYTES = 50 * 1024 * 1024
# Together they are above what Lambda takes in one upload, so they come as layers; packages by the beginning of their name.
LIBRARIES = "libraries"
LAYERS: Mapping[str, tuple[str, ...]] = {"numbers": ("numpy",), LIBRARIES: ()}
# Never imported at run time.
NEEDLESS_FOLDERS = frozenset({"__pycache__", "tests", "test", "bin", "benchmarks"})
# A server's parts: requests reach Lambda's functions without one, and the layer is near its limit.
NEEDLESS_LIBRARIES = ("uvloop", "httptools")
NEEDLESS_SUFFIXES = (".pyc", ".pyi", ".pxd", ".pyx", ".c", ".h", ".proto")


@dataclass(frozen=True)
class Archive:
    """A zip file and the SHA-256 of its bytes in hexadecimal."""

    path: Path
    sha256: str


def function_archive(site: Site) -> Archive:
    """Build the archive of all functions for a site's cloud."""
    files = {
        f"functions/{path.relative_to(FUNCTIONS).as_posix()}": path.read_bytes()
        for path in FUNCTIONS.rglob("*")
        if path.suffix in {".py", ".sql", ".typed"} and "__pycache__" not in path.parts and "tests" not in path.parts
    }
    if kernel := _kernel():
        # Beside its module, where the functions look for it.
        files[f"functions/artifacts/kernel/{kernel.name}"] = kernel.read_bytes()
    if site is Site.GCP:
        files["main.py"] = GOOGLE_MAIN.encode()
        files["requirements.txt"] = REQUIREMENTS.read_bytes()
    return write_archive(BUILD / f"functions-{site}.zip", files)


def _kernel() -> Path | None:
    """Return the compiled kernel of the codecs for what functions run on, or None: they use NumPy then, which is slower.

    Set-up builds it into the user's cache (local/toolchain/kernel.py); nothing is compiled during an update. LIFEBOAT_KERNEL
    names another build, or says `off`.
    """
    named = os.environ.get(ENVIRONMENT)
    if named == OFF:
        return None
    if named and not Path(named).is_file():
        raise ArchiveError(f"{ENVIRONMENT} names {named}, which is no file; unset it, or set it to `{OFF}`")
    path = Path(named) if named else build_of(_cache())
    return path if path.is_file() else None


def write_archive(path: Path, files: Mapping[str, bytes]) -> Archive:
    """Write files into a zip with sorted names and one fixed time; an archive that is there with the same bytes stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place and then renamed: another stack's run may be reading the old one.
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".zip")
    os.close(handle)
    part = Path(temporary)
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, FIXED_TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = FILE_MODE << 16
                entry.create_system = 3  # Unix, whatever system builds it
                archive.writestr(entry, files[name])
        digest = _digest(part)
        if not path.exists() or _digest(path) != digest:
            part.replace(path)
            path.chmod(FILE_MODE)
    finally:
        part.unlink(missing_ok=True)
    return Archive(path, digest)


def layer_archives() -> Mapping[str, Archive]:
    """Build the functions' libraries for Lambda, by layer, or take them from the user's cache if the requirements are the same.

    Raises ArchiveError when pip cannot get a library for the runtime or the result is above Lambda's limits.
    """
    recipe = "\n".join([REQUIREMENTS.read_text(), LAYER_PYTHON, *LAYER_PLATFORMS, Path(__file__).read_text()])
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    cached = {layer: _cache() / "layers" / f"{key}-{layer}.zip" for layer in LAYERS}
    if all(path.exists() for path in cached.values()):
        return {layer: Archive(path, _digest(path)) for layer, path in cached.items()}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        _install(target)
        files = dict(_needed(target))
        unpacked = sum(path.stat().st_size for path in files.values())
        if unpacked > UNPACKED_LIMIT_BYTES:
            raise ArchiveError(
                f"the functions' libraries take {unpacked:,} bytes unpacked, Lambda's limit is"
                f" {UNPACKED_LIMIT_BYTES:,}; remove some from {REQUIREMENTS.relative_to(ROOT)}"
            )
        archives = {
            layer: write_archive(
                path,
                {f"python/{name}": file.read_bytes() for name, file in files.items() if _layer_of(name) == layer},
            )
            for layer, path in cached.items()
        }
    for layer, archive in archives.items():
        size = archive.path.stat().st_size
        if size > UPLOAD_LIMIT_BYTES:
            archive.path.unlink()
            raise ArchiveError(
                f"the archive of layer {layer} has {size:,} bytes, Lambda takes {UPLOAD_LIMIT_BYTES:,} in one upload;"
                f" remove libraries from {REQUIREMENTS.relative_to(ROOT)} or give them a layer of their own"
            )
    return archives


def _layer_of(name: str) -> str:
    package = name.partition("/")[0]
    return next((layer for layer, packages in LAYERS.items() if package.startswith(packages)), LIBRARIES)


def _install(target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", "--quiet"]
    command += ["--python-version", LAYER_PYTHON, "--implementation", "cp"]
    for platform in LAYER_PLATFORMS:
        command += ["--platform", platform]
    command += ["--only-binary=:all:", "--target", str(target), "--requirement", str(REQUIREMENTS)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=LAYER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArchiveError(
            f"pip did not finish the functions' libraries within {LAYER_SECONDS} s; check the connection to the"
            " package index and run again"
        ) from error
    if result.returncode != 0:
        raise ArchiveError(
            f"pip could not get the functions' libraries for Python {LAYER_PYTHON} on {LAYER_PLATFORMS[0]}:"
            f" {result.stderr.strip()[-2000:]}"
        )


def _needed(target: Path) -> Iterable[tuple[str, Path]]:
    for path in sorted(target.rglob("*")):
        relative = path.relative_to(target)
        needless = NEEDLESS_FOLDERS.intersection(relative.parts) or path.suffix in NEEDLESS_SUFFIXES
        needless = needless or relative.parts[0].startswith(NEEDLESS_LIBRARIES)
        if path.is_file() and not needless:
            yield relative.as_posix(), path


def _cache() -> Path:
    configured = os.environ.get("LIFEBOAT_CACHE")
    return Path(configured) if configured else Path(platformdirs.user_cache_dir("lifeboat"))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
