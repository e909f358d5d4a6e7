"""Publish a folder as a version of a model: hash it, upload what is missing, show the manifest, judge it, move the alias.

The manifest is written last and only if absent, so a publish that dies is invisible, and one that is repeated finishes the rest.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from functions.artifacts.digest import BLOCK_BYTES, Digests, digest
from functions.artifacts.documents import Alias, Verdict
from functions.artifacts.errors import ManifestError, VerificationError
from functions.artifacts.golden import Golden
from functions.artifacts.manifest import FileEntry, TensorEntry
from functions.artifacts.paths import check_path, file_key
from functions.artifacts.record import Recorder, Wish
from functions.artifacts.safetensors import SUFFIX, TensorSpan, tensors
from functions.artifacts.sign import Authority
from functions.settings import Site
from functions.stores.errors import NotFoundError, PreconditionFailedError
from functions.stores.protocols import ObjectStore

# Hashing keeps one core busy a file; files are read at most this many at a time.
_HASHERS = 4
# Folders that tools leave beside a model: version control, and download records of huggingface_hub.
_LEFT_OUT = (".git", ".cache")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Published:
    """A version as it stands on this site now; `created` is False if it had been published before."""

    model: str
    version: str
    created: bool
    files: int
    bytes_raw: int
    bytes_sent: int
    alias: Alias | None
    verdict: Verdict


def publish(
    folder: Path,
    model: str,
    store: ObjectStore,
    *,
    site: Site,
    authority: Authority,
    parent: str | None = None,
    alias: str | None = None,
    lineage: Mapping[str, Any] | None = None,
    epoch: int = 0,
    golden: Golden | None = None,
    clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    progress: Progress = lambda done, total: None,
) -> Published:
    """Publish the files below `folder` and return the version.

    `parent` is the version that this one was trained from, `lineage` says how (data, code revision, metrics). `progress` is told
    bytes done and bytes in all while files go up, from several threads. Raises ManifestError for a folder, name or parent that
    can't be, SafetensorsError for a malformed model file, VerificationError if a file changed under our hands, errors of
    `artifacts.record.Recorder.run`.
    """
    recorder = Recorder(store, site, authority, clock_ms, golden)
    wish = Wish(model, parent, alias, lineage, epoch)
    recorder.check(wish)
    paths = dict(_files(folder))
    if not paths:
        raise ManifestError(f"folder {folder} holds no files; name the folder of the model itself")
    with ThreadPoolExecutor(_HASHERS) as pool:
        files = list(pool.map(lambda name: describe(paths[name], name), paths))
    version = recorder.check_version(wish, files)
    sent = _upload(store, model, version, files, paths, progress)
    done = recorder.run(wish, files)
    return Published(model, version, done.created, len(files), done.manifest.bytes_raw, sent, done.alias, done.verdict)


def describe(path: Path, name: str) -> FileEntry:
    """Return the manifest's entry of a local file, read once from front to back."""
    size = path.stat().st_size
    with path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        spans = tensors(read, size, name) if name.endswith(SUFFIX) else []
        file.seek(0)
        found = digest(iter(lambda: file.read(BLOCK_BYTES), b""), spans)
    if found.size != size:
        raise VerificationError(f"file {name!r} changed while it was read; publish again when nothing writes to it")
    return file_entry(name, found, spans)


def file_entry(name: str, found: Digests, spans: list[TensorSpan]) -> FileEntry:
    """Return the manifest's entry of a file with these digests and tensors."""
    return FileEntry(
        path=name,
        size=found.size,
        sha256=found.sha256,
        blake3=found.blake3,
        crc32c=found.crc32c,
        crc64nvme=f"{found.crc64nvme:016x}",
        tensors=[
            TensorEntry(
                name=span.name, dtype=span.dtype, shape=list(span.shape), start=span.start, end=span.end, blake3=value
            )
            for span, value in zip(spans, found.tensors, strict=True)
        ],
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted(names, key=lambda name: name.encode(errors="replace")):
        if name.split("/")[0] not in _LEFT_OUT:
            yield check_path(name), names[name]


def _upload(
    store: ObjectStore,
    model: str,
    version: str,
    files: list[FileEntry],
    paths: Mapping[str, Path],
    progress: Progress,
) -> int:
    """Upload the files that are missing; returns the bytes sent."""
    total = sum(file.size for file in files)
    done = sent = 0
    lock = Lock()

    def landed(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress(done, total)

    for file in files:
        key = file_key(model, version, file.path)
        try:
            info = store.head(key)
            landed(file.size)
        except NotFoundError:
            try:
                info = store.upload(key, paths[file.path], file.crc32c, landed)
                sent += file.size
            except PreconditionFailedError:
                info = store.head(key)
        # R2 attests no CRC32C; there the size is all that the store says.
        if info.size != file.size or info.crc32c not in (None, file.crc32c):
            store.delete(key)
            raise VerificationError(
                f"{model} {version} file {file.path!r}: the store holds other bytes than were hashed, so they were removed; "
                "publish again when nothing writes to the folder"
            )
    return sent
