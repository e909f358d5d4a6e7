"""The receiving side: packs become parts, parts become plain files, proven files make the version visible.

Every step looks at what is there and does only what is missing, so a crash at any point, a message that comes twice, late or in
another order, all end in the same objects. Nothing under `manifests/` is written before every file is proven.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from functions.artifacts import manifest as manifests
from functions.artifacts import plan
from functions.artifacts.digest import digest, object_blocks
from functions.artifacts.documents import JSON, Transfer, encode
from functions.artifacts.encode import exists, put_if_absent
from functions.artifacts.errors import PackError, VerificationError, VersionNotReadyError
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.pack import MOST_PACK_BYTES, PackHeader, unpack
from functions.artifacts.paths import (
    file_key,
    manifest_key,
    pack_key,
    part_key,
    parts_prefix,
    pending_key,
    proven_key,
    transfer_key,
)
from functions.stores.errors import NotFoundError, PreconditionFailedError
from functions.stores.protocols import ObjectInfo, ObjectStore

_WIRE, _PACK = "wire-bytes", "pack"


@dataclass(frozen=True)
class Rebuilt:
    """Where a version stands after one message: `complete` when its manifest is visible."""

    complete: bool
    bytes_raw: int = 0
    bytes_wire: int = 0


@dataclass(frozen=True)
class _Pending:
    """A manifest that waits, and its very bytes: both sites show the same."""

    manifest: Manifest
    data: bytes


@dataclass(frozen=True)
class Rebuilder:
    """Rebuilds versions in the bucket `store`; `clock_ms` gives epoch milliseconds."""

    store: ObjectStore
    clock_ms: Callable[[], int]

    def run(self, job: plan.RebuildJob) -> Rebuilt:
        """Bring in one pack and finish whatever has become possible.

        Raises PackError or VerificationError for bytes that no retry can mend, VersionNotReadyError if the planner's manifest
        is not there yet.
        """
        if exists(self.store, manifest_key(job.model, job.version)):
            self._clean(job.model, job.version, job.chunk_bytes, also=job.pack)
            return Rebuilt(complete=True)
        pending = self._pending(job.model, job.version)
        if job.file >= len(pending.manifest.files):
            raise PackError(
                f"{job.model} {job.version} has {len(pending.manifest.files)} files, pack is for file {job.file}"
            )
        try:
            self._bring_in(job, pending.manifest)
            return self._finish(pending, job.chunk_bytes, job.file)
        except NotFoundError as error:
            # Another message finished the version and cleaned up under our hands, or something is still on its way.
            if exists(self.store, manifest_key(job.model, job.version)):
                return Rebuilt(complete=True)
            raise VersionNotReadyError(f"{job.model} {job.version}: {error}; it is tried again") from error

    def _pending(self, model: str, version: str) -> "_Pending":
        try:
            data, _ = self.store.get(pending_key(model, version), manifests.MOST_MANIFEST_BYTES)
        except NotFoundError as error:
            raise VersionNotReadyError(f"{model} {version}: its pending manifest is not here yet") from error
        return _Pending(manifests.decode(data, model, version), data)

    def _bring_in(self, job: plan.RebuildJob, manifest: Manifest) -> None:
        key = part_key(job.version, job.chunk_bytes, job.file, job.index)
        if exists(self.store, key):
            return
        data, _ = self.store.get(job.pack, MOST_PACK_BYTES)
        if pack_key(blake3(data).hexdigest()) != job.pack:
            raise PackError(f"{job.pack} of {job.model} {job.version} does not hold the bytes of its name")
        header, raw = unpack(data)
        expected = plan.chunks(manifest.files[job.file], job.chunk_bytes)
        if job.index >= len(expected) or _place(header) != (
            job.model,
            job.version,
            job.chunk_bytes,
            job.file,
            expected[job.index],
        ):
            raise PackError(
                f"{job.pack} is another chunk than file {job.file}, {job.index} of {job.model} {job.version}"
            )
        try:
            self.store.put(key, raw, absent=True, metadata={_WIRE: str(len(data)), _PACK: job.pack})
        except PreconditionFailedError:
            return

    def _finish(self, pending: "_Pending", chunk_bytes: int, number: int) -> Rebuilt:
        """Prove the file if all its parts are in, and show the version if all its files are proven."""
        manifest = pending.manifest
        present = {info.key: info for info in self.store.list(parts_prefix(manifest.version, chunk_bytes))}
        proven = [proven_key(manifest.version, chunk_bytes, file) for file in range(len(manifest.files))]
        file = manifest.files[number]
        parts = self._parts(manifest, chunk_bytes, number)
        if proven[number] not in present:
            if not all(part in present for part in parts):
                return Rebuilt(complete=False)
            self._prove(manifest, file, parts)
            put_if_absent(self.store, proven[number], b"", JSON)
            # Read again: whoever notes the last file must see that it is the last.
            present = {info.key: info for info in self.store.list(parts_prefix(manifest.version, chunk_bytes))}
        if not all(key in present for key in proven):
            return Rebuilt(complete=False)
        return self._show(pending, chunk_bytes, present)

    def _parts(self, manifest: Manifest, chunk_bytes: int, number: int) -> list[str]:
        return [
            part_key(manifest.version, chunk_bytes, number, chunk.index)
            for chunk in plan.chunks(manifest.files[number], chunk_bytes)
        ]

    def _prove(self, manifest: Manifest, file: FileEntry, parts: list[str]) -> None:
        """Join the parts and read the result back; a file that is wrong is removed with its parts, so it can come again."""
        key = file_key(manifest.model, manifest.version, file.path)
        try:
            info = self.store.head(key)
        except NotFoundError:
            info = None
        if info is None or not _attested(info, file):
            info = self.store.assemble(key, parts, file.crc32c)
        try:
            check_file(self.store, manifest, file, info)
        except VerificationError:
            for name in (key, *parts):
                self.store.delete(name)
            raise

    def _show(self, pending: "_Pending", chunk_bytes: int, present: dict[str, ObjectInfo]) -> Rebuilt:
        manifest = pending.manifest
        parts = [key for number in range(len(manifest.files)) for key in self._parts(manifest, chunk_bytes, number)]
        notes = [self._metadata(present[key]) for key in parts if key in present]
        wire = sum(int(note.get(_WIRE, "0")) for note in notes)
        packs = {note[_PACK] for note in notes if _PACK in note}
        transfer = Transfer(
            model=manifest.model,
            version=manifest.version,
            bytes_raw=manifest.bytes_raw,
            bytes_wire=wire,
            packs=len(packs),
            finished_ms=self.clock_ms(),
        )
        put_if_absent(self.store, transfer_key(manifest.model, manifest.version), encode(transfer), JSON)
        put_if_absent(self.store, manifest_key(manifest.model, manifest.version), pending.data, JSON)
        for pack in packs:
            self.store.delete(pack)
        self._clean(manifest.model, manifest.version, chunk_bytes)
        return Rebuilt(True, manifest.bytes_raw, wire)

    def _metadata(self, info: ObjectInfo) -> dict[str, str]:
        # A listing need not carry metadata.
        return dict(info.metadata or self.store.head(info.key).metadata)

    def _clean(self, model: str, version: str, chunk_bytes: int, also: str | None = None) -> None:
        """Remove what a visible version needs no more; what a crash leaves here falls to the bucket's lifecycle rules."""
        for info in list(self.store.list(parts_prefix(version, chunk_bytes))):
            self.store.delete(info.key)
        if also is not None:
            self.store.delete(also)
        self.store.delete(pending_key(model, version))


def check_file(store: ObjectStore, manifest: Manifest, file: FileEntry, info: ObjectInfo) -> None:
    """Check a plain file three ways: what the store attests, SHA-256 and BLAKE3 over the bytes read back.

    Raises VerificationError naming version, file and check.
    """
    what = f"{manifest.model} {manifest.version} file {file.path!r}"
    if not _attested(info, file):
        raise VerificationError(
            f"{what}: the store attests {info.size} bytes, CRC32C {info.crc32c}; "
            f"the manifest says {file.size} bytes, CRC32C {file.crc32c}"
        )
    found = digest(object_blocks(store, info.key, info.size), file.tensors)
    if (found.sha256, found.blake3) != (file.sha256, file.blake3):
        raise VerificationError(f"{what}: SHA-256 is {found.sha256}, the manifest says {file.sha256}")
    for tensor, value in zip(file.tensors, found.tensors, strict=True):
        if tensor.blake3 != value:
            raise VerificationError(f"{what}: tensor {tensor.name[:80]!r} has BLAKE3 {value}, not {tensor.blake3}")


def _attested(info: ObjectInfo, file: FileEntry) -> bool:
    return (info.size, info.crc32c) == (file.size, file.crc32c)


def _place(header: PackHeader) -> tuple[str, str, int, int, plan.Chunk]:
    chunk = plan.Chunk(header.index, header.offset, header.length)
    return header.model, header.version, header.chunk_bytes, header.file, chunk
