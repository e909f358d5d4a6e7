"""The receiving side: packs become parts, parts become plain files, proven files make the version visible.

Every step looks at what is there and does only what is missing, so a crash at any point, a message that comes twice, late or in
another order, all end in the same objects. Nothing under `manifests/` is written before every file is proven. Bytes that a pack
builds on are read from this site's own versions; where they are missing or others than the sender's, the batch is asked for
again without them.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blake3 import blake3

from functions.artifacts import manifest as manifests
from functions.artifacts import plan, signature
from functions.artifacts.alias import carry
from functions.artifacts.codec import Form, decode
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.digest import Digests, digest, object_blocks
from functions.artifacts.documents import JSON, Receipt, Transfer, encode
from functions.artifacts.encode import exists, named_digest, put_if_absent
from functions.artifacts.errors import (
    AliasConflictError,
    BaseMissingError,
    ManifestError,
    PackError,
    SignatureError,
    VerificationError,
    VersionNotReadyError,
)
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.pack import MOST_PACK_BYTES, Pack, unpack
from functions.artifacts.paths import (
    aliases_prefix,
    batch_of_note,
    file_key,
    manifest_key,
    note_key,
    notes_prefix,
    pack_key,
    parse_key,
    part_key,
    parts_prefix,
    pending_key,
    proven_key,
    receipt_key,
    transfer_key,
)
from functions.artifacts.plan import EncodeJob, Part, RebuildJob
from functions.artifacts.sign import Trust
from functions.settings import Site
from functions.stores.errors import NotFoundError, PreconditionFailedError, StoreError, StoreRefusedError
from functions.stores.protocols import Message, MessageQueue, ObjectInfo, ObjectStore
from functions.telemetry import LOGGER

# A model of 140 GB leaves thousands of parts.
_CLEANERS = 8
# Small files of a batch that are written at once; each waits for the store most of its time.
_WRITERS = 4


@dataclass(frozen=True)
class Rebuilt:
    """Where a version stands after one message: `complete` when its manifest is visible, sizes when this message made it so."""

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
    """Rebuilds versions in this site's bucket `store`; `clock_ms` gives epoch milliseconds.

    `origin` is the other site's bucket, read for aliases that wait for a version; `asks` is its queue of encode jobs.
    """

    site: Site
    store: ObjectStore
    origin: ObjectStore
    asks: MessageQueue
    clock_ms: Callable[[], int]
    trust: Trust

    def run(self, job: RebuildJob) -> Rebuilt:
        """Bring in one pack and finish whatever has become possible.

        Raises PackError or VerificationError for bytes that no retry can mend, SignatureError for a version that its origin did
        not sign, VersionNotReadyError if the planner's manifest is not there yet.
        """
        if exists(self.store, manifest_key(job.model, job.version)):
            self._clean(job.model, job.version, job.chunk_bytes, also=job.pack)
            return Rebuilt(complete=True)
        started_ms = self.clock_ms()
        pending = self._pending(job.model, job.version)
        batches = plan.batches(pending.manifest, job.chunk_bytes)
        if job.batch >= len(batches):
            raise PackError(f"{job.model} {job.version} has {len(batches)} batches, the pack is for {job.batch}")
        try:
            if len(batches) == 1:
                wire = self._bring_in(job, pending.manifest, batches[0])
                return self._show(pending, job.chunk_bytes, [wire], started_ms, job.pack)
            if not self._is_noted(job):
                wire = self._bring_in(job, pending.manifest, batches[job.batch])
                put_if_absent(
                    self.store, note_key(job.version, job.chunk_bytes, job.batch, wire), job.pack.encode(), JSON
                )
            self.store.delete(job.pack)
            return self._finish(pending, job, batches, started_ms)
        except BaseMissingError as error:
            LOGGER.warning("batch asked for again: %s", error, extra={"model": job.model, "version": job.version})
            self.asks.publish([Message(plan.encode(EncodeJob(job.model, job.version, job.chunk_bytes, job.batch)))])
            self.store.delete(job.pack)
            return Rebuilt(complete=False)
        except NotFoundError as error:
            # Another message finished the version and cleaned up under our hands, or something is still on its way.
            if exists(self.store, manifest_key(job.model, job.version)):
                return Rebuilt(complete=True)
            raise VersionNotReadyError(f"{job.model} {job.version}: {error}; it is tried again") from error

    def _is_noted(self, job: RebuildJob) -> bool:
        prefix = notes_prefix(job.version, job.chunk_bytes, job.batch)
        return any(True for _ in self.store.list(prefix))

    def _pending(self, model: str, version: str) -> "_Pending":
        try:
            data, _ = self.store.get(pending_key(model, version), manifests.MOST_MANIFEST_BYTES)
        except NotFoundError as error:
            raise VersionNotReadyError(f"{model} {version}: its pending manifest is not here yet") from error
        try:
            return _Pending(manifests.trusted(data, model, version, self.trust), data)
        except (ManifestError, SignatureError):
            # It makes room for the real one, which the sender's sweeper brings again.
            self.store.delete(pending_key(model, version))
            raise

    def _bring_in(self, job: RebuildJob, manifest: Manifest, batch: list[Part]) -> int:
        """Write the parts that a pack holds; returns the bytes of the pack."""
        data, _ = self.store.get(job.pack, MOST_PACK_BYTES)
        if pack_key(blake3(data).hexdigest()) != job.pack:
            raise PackError(f"{job.pack} of {job.model} {job.version} does not hold the bytes of its name")
        try:
            found = unpack(data)
        except PackError as error:
            raise PackError(f"{job.pack} of {job.model} {job.version}: {error}") from error
        place = (found.model, found.version, found.chunk_bytes, found.batch)
        expected = [len(plan.pieces(manifest.files[part.file], part)) for part in batch]
        if place != (job.model, job.version, job.chunk_bytes, job.batch) or sum(expected) != len(found.pieces):
            raise PackError(f"{job.pack} is another batch than {job.batch} of {job.model} {job.version}")
        with ThreadPoolExecutor(_WRITERS) as pool:
            writes = []
            for part, raw in self._decoded(job, manifest, batch, found):
                # One large part is written before the next is decoded; many small ones share the wait.
                writes.append(pool.submit(self._write, job, manifest, part, raw))
                if part.length > job.chunk_bytes // _WRITERS:
                    writes.pop().result()
            for write in writes:
                write.result()
        return len(data)

    def _decoded(
        self, job: RebuildJob, manifest: Manifest, batch: list[Part], found: Pack
    ) -> Iterator[tuple[Part, bytes]]:
        number = 0
        for part in batch:
            file = manifest.files[part.file]
            raw: list[Bytes] = []
            for piece in plan.pieces(file, part):
                raw.append(self._piece(job, file, piece, found, number))
                number += 1
            # Of one piece that is bytes already this is no copy.
            whole = b"".join(raw)
            if plan.whole(manifest, part.file, job.chunk_bytes):
                based = any(each.base for each in found.pieces[number - len(raw) : number])
                self._check_whole(manifest, file, whole, based)
            yield part, whole

    def _piece(self, job: RebuildJob, file: FileEntry, piece: plan.Piece, found: Pack, number: int) -> Bytes:
        packed = found.pieces[number]
        base = None
        what = f"{job.model} {job.version} file {file.path!r}"
        if packed.base is not None:
            key = file_key(job.model, found.bases[packed.base.number], packed.base.path)
            try:
                base = self.store.get_range(key, packed.base.start, packed.base.length)
            except (NotFoundError, StoreRefusedError) as error:
                raise BaseMissingError(f"{what} builds on {key}, which does not have the bytes") from error
        try:
            tensor = file.tensors[piece.tensor] if piece.tensor is not None else None
            form = Form.of(tensor, piece.length)
            raw = decode(packed.codec, found.payload(number), piece.length, base, form)
        except PackError as error:
            if base is None:
                raise PackError(f"{what}: {error}") from error
            raise BaseMissingError(f"{what} does not come out of its base: {error}") from error
        expected = named_digest(file, piece) or packed.blake3
        if (value := blake3(raw).hexdigest()) != expected:
            problem = f"{what}: bytes from {piece.start} have BLAKE3 {value}, not {expected}"
            raise BaseMissingError(problem) if base is not None else VerificationError(problem)
        return raw

    def _check_whole(self, manifest: Manifest, file: FileEntry, raw: bytes, based: bool) -> None:
        try:
            check_digests(manifest, file, digest([raw], file.tensors))
        except VerificationError as error:
            if based:
                raise BaseMissingError(str(error)) from error
            raise

    def _write(self, job: RebuildJob, manifest: Manifest, part: Part, raw: bytes) -> None:
        if not plan.whole(manifest, part.file, job.chunk_bytes):
            put_if_absent(
                self.store,
                part_key(job.version, job.chunk_bytes, part.file, part.index),
                raw,
                "application/octet-stream",
            )
            return
        file = manifest.files[part.file]
        key = file_key(job.model, job.version, file.path)
        try:
            self.store.put(key, raw, absent=True)
            info = self.store.head(key)
        except PreconditionFailedError:
            info = self.store.head(key)
            if not attested(info, file):
                # Whoever wrote it did not write this file: what is proven here takes its place.
                self.store.put(key, raw)
                info = self.store.head(key)
        check_attested(manifest, file, info)

    def _finish(self, pending: "_Pending", job: RebuildJob, batches: list[list[Part]], started_ms: int) -> Rebuilt:
        """Prove files whose parts are all in, and show the version if everything is."""
        manifest, chunk_bytes = pending.manifest, job.chunk_bytes
        present = self._present(manifest.version, chunk_bytes)
        proven = False
        for number in sorted({part.file for part in batches[job.batch]}):
            if plan.whole(manifest, number, chunk_bytes):
                continue
            parts = self._parts(manifest, chunk_bytes, number)
            done = proven_key(manifest.version, chunk_bytes, number)
            if done not in present and all(part in present for part in parts):
                self._prove(manifest, number, parts)
                put_if_absent(self.store, done, b"", JSON)
                proven = True
        if proven:
            # Read again: whoever notes the last file must see that it is the last.
            present = self._present(manifest.version, chunk_bytes)
        notes = [found for key in present if (found := batch_of_note(key, manifest.version, chunk_bytes))]
        wanted = [
            proven_key(manifest.version, chunk_bytes, number)
            for number in range(len(manifest.files))
            if not plan.whole(manifest, number, chunk_bytes)
        ]
        if len({batch for batch, _ in notes}) < len(batches) or not all(key in present for key in wanted):
            return Rebuilt(complete=False)
        return self._show(pending, chunk_bytes, [wire for _, wire in notes], started_ms)

    def _present(self, version: str, chunk_bytes: int) -> set[str]:
        return {info.key for info in self.store.list(parts_prefix(version, chunk_bytes))}

    def _parts(self, manifest: Manifest, chunk_bytes: int, number: int) -> list[str]:
        return [
            part_key(manifest.version, chunk_bytes, number, part.index)
            for part in plan.parts(manifest.files[number], number, chunk_bytes)
        ]

    def _prove(self, manifest: Manifest, number: int, parts: list[str]) -> None:
        """Join the parts and read the result back; a file that is wrong is removed with its parts, so it can come again."""
        file = manifest.files[number]
        key = file_key(manifest.model, manifest.version, file.path)
        try:
            info = self.store.head(key)
        except NotFoundError:
            info = None
        if info is None or not attested(info, file):
            info = self.store.assemble(key, parts, file.crc32c)
        try:
            check_file(self.store, manifest, file, info)
        except VerificationError:
            for name in (key, *parts):
                self.store.delete(name)
            raise

    def _show(
        self, pending: "_Pending", chunk_bytes: int, packs: Sequence[int], started_ms: int, also: str | None = None
    ) -> Rebuilt:
        """Make a version visible whose files are all proven; `packs` are the bytes of each that crossed for it."""
        manifest = pending.manifest
        wire, now_ms = sum(packs), self.clock_ms()
        transfer = Transfer(
            model=manifest.model,
            version=manifest.version,
            bytes_raw=manifest.bytes_raw,
            bytes_wire=wire,
            packs=len(packs),
            finished_ms=now_ms,
        )
        receipt = Receipt(
            model=manifest.model,
            version=manifest.version,
            site=self.site,
            files=len(manifest.files),
            bytes_raw=manifest.bytes_raw,
            bytes_wire=wire,
            verified_ms=now_ms,
            seconds=max(0, now_ms - started_ms) / 1000,
        )
        put_if_absent(self.store, transfer_key(manifest.model, manifest.version), encode(transfer), JSON)
        signature.write(self.store, manifest)
        put_if_absent(self.store, manifest_key(manifest.model, manifest.version), pending.data, JSON)
        put_if_absent(self.store, receipt_key(manifest.model, manifest.version), encode(receipt), JSON)
        carry_waiting(self.origin, self.store, manifest.model, self.site.peer)
        self._clean(manifest.model, manifest.version, chunk_bytes, also)
        return Rebuilt(True, manifest.bytes_raw, wire)

    def _clean(self, model: str, version: str, chunk_bytes: int, also: str | None = None) -> None:
        """Remove what a visible version needs no more; what a crash leaves here is the sweeper's."""
        keys = [info.key for info in self.store.list(parts_prefix(version, chunk_bytes))]
        keys += [also] if also is not None else []
        with ThreadPoolExecutor(_CLEANERS) as pool:
            for _ in pool.map(self.store.delete, keys):
                pass
        self.store.delete(pending_key(model, version))


def carry_waiting(origin: ObjectStore, store: ObjectStore, model: str, site: Site) -> None:
    """Bring over the aliases of a model that were waiting for a version; `site` is the one that `origin` belongs to.

    The alias's own event tries it as well, so a fault here costs time only and is no reason to do the rebuild again.
    """
    try:
        for info in origin.list(aliases_prefix(model)):
            named = parse_key(info.key)
            if named is not None:
                try:
                    carry(origin, store, model, named[2], site)
                except (VersionNotReadyError, AliasConflictError) as error:
                    LOGGER.info("alias left to its own event: %s", error)
    except (StoreError, ManifestError) as error:
        LOGGER.warning("aliases of %s left to their own events: %s", model, error)


def check_file(store: ObjectStore, manifest: Manifest, file: FileEntry, info: ObjectInfo) -> None:
    """Check a plain file three ways: what the store attests, SHA-256 and BLAKE3 over the bytes read back.

    Raises VerificationError naming version, file and check.
    """
    check_attested(manifest, file, info)
    check_digests(manifest, file, digest(object_blocks(store, info.key, info.size), file.tensors))


def check_attested(manifest: Manifest, file: FileEntry, info: ObjectInfo) -> None:
    """Check what the store itself says about a file; VerificationError names what differs."""
    if not attested(info, file):
        raise VerificationError(
            f"{manifest.model} {manifest.version} file {file.path!r}: the store attests {info.size} bytes, "
            f"CRC32C {info.crc32c}; the manifest says {file.size} bytes, CRC32C {file.crc32c}"
        )


def check_digests(manifest: Manifest, file: FileEntry, found: Digests) -> None:
    """Check the digests of a file's bytes; VerificationError names the first that differs."""
    what = f"{manifest.model} {manifest.version} file {file.path!r}"
    if (found.sha256, found.blake3) != (file.sha256, file.blake3):
        raise VerificationError(f"{what}: SHA-256 is {found.sha256}, the manifest says {file.sha256}")
    for tensor, value in zip(file.tensors, found.tensors, strict=True):
        if tensor.blake3 != value:
            raise VerificationError(f"{what}: tensor {tensor.name[:80]!r} has BLAKE3 {value}, not {tensor.blake3}")


def attested(info: ObjectInfo, file: FileEntry) -> bool:
    """Return whether the store's own words about an object fit the manifest."""
    return (info.size, info.crc32c) == (file.size, file.crc32c)
