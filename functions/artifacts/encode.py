"""The sending side: a version is planned into batches, and each becomes a pack on the other site.

What goes over is chosen piece by piece, the cheapest rung first: a reference to bytes that the other site has, a difference to
those of the parent, the bytes as they are or compressed. A rung that does not work is left out, never a reason to fail.
"""

import itertools
from dataclasses import dataclass, field
from enum import StrEnum

from blake3 import blake3

from functions.artifacts import manifest as manifests
from functions.artifacts import plan
from functions.artifacts.bases import Bases, Match
from functions.artifacts.codec import COPY, ON_A_BASE, Form, encode
from functions.artifacts.codecs.general import Bytes
from functions.artifacts.documents import JSON
from functions.artifacts.errors import ManifestError, VerificationError
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.pack import PackedPiece, pack
from functions.artifacts.paths import (
    batch_of_note,
    file_key,
    manifest_key,
    manifests_prefix,
    pack_key,
    parts_prefix,
    pending_key,
)
from functions.artifacts.plan import EncodeJob, Piece, ThirdJob
from functions.artifacts.sign import Trust
from functions.settings import Site
from functions.stores.errors import NotFoundError, PreconditionFailedError, StoreRefusedError
from functions.stores.protocols import Message, MessageQueue, ObjectStore

# Manifests that a process keeps: a version's jobs come close together, and name the same few.
_MANIFESTS_KEPT = 8


class Planned(StrEnum):
    """What a manifest event came to."""

    PLANNED = "planned"
    PRESENT = "present"
    ECHO = "echo"


@dataclass(frozen=True)
class Sent:
    """What one batch came to; `bytes_known` of the raw ones were there already."""

    pack: str
    bytes_raw: int
    bytes_known: int
    bytes_wire: int


def plan_version(
    here: ObjectStore,
    there: ObjectStore,
    jobs: MessageQueue,
    model: str,
    version: str,
    *,
    site: Site,
    chunk_bytes: int,
    trust: Trust,
    third: bool = False,
) -> tuple[Planned, int]:
    """Turn a manifest of this site into jobs on the queue; returns what was done and the number of jobs.

    `third`: into jobs for the third copy too.

    A version that came from the other site is not sent back, one that the other site shows is not sent again. The manifest goes
    ahead as pending, so the far side knows what it waits for. Repeating it repeats jobs, which their names make harmless. Raises
    ManifestError or SignatureError for a manifest that this site did not write: it goes nowhere.
    """
    data, _ = here.get(manifest_key(model, version), manifests.MOST_MANIFEST_BYTES)
    manifest = manifests.trusted(data, model, version, trust)
    if manifest.origin is not site:
        return Planned.ECHO, 0
    if exists(there, manifest_key(model, version)):
        return Planned.PRESENT, 0
    known = not put_if_absent(there, pending_key(model, version), data, JSON)
    bases = tuple(_bases(there, manifest))
    count = len(plan.batches(manifest, chunk_bytes))
    todo = _missing(there, manifest, chunk_bytes, count) if known else list(range(count))
    messages = [Message(plan.encode(EncodeJob(model, version, chunk_bytes, batch, bases))) for batch in todo]
    jobs.publish(messages + (third_messages(manifest) if third else []))
    return Planned.PLANNED, len(todo)


def third_messages(manifest: Manifest) -> list[Message]:
    """Return the jobs that bring a version to the third copy."""
    count = len(plan.groups(manifest))
    return [Message(plan.encode(ThirdJob(manifest.model, manifest.version, group))) for group in range(count)]


def _missing(there: ObjectStore, manifest: Manifest, chunk_bytes: int, count: int) -> list[int]:
    """Return the batches that the other site does not have yet; all of them if it has each and still shows nothing."""
    prefix = parts_prefix(manifest.version, chunk_bytes)
    notes = [batch_of_note(info.key, manifest.version, chunk_bytes) for info in there.list(prefix)]
    done = {note[0] for note in notes if note}
    return [batch for batch in range(count) if batch not in done] or list(range(count))


def _bases(there: ObjectStore, manifest: Manifest) -> list[str]:
    """Return versions that the other site has: the parent first, then its newest others."""
    prefix = manifests_prefix(manifest.model)
    present = sorted(there.list(prefix), key=lambda info: info.modified_ms or 0, reverse=True)
    versions = [info.key.removeprefix(prefix).removesuffix(".json") for info in present]
    versions.sort(key=lambda version: version != manifest.parent)
    return [version for version in versions if version != manifest.version][: plan.MOST_BASES]


@dataclass(frozen=True)
class Encoder:
    """Writes packs of versions in `here` to `there` and tells `rebuilds`. One for a process: it keeps manifests."""

    here: ObjectStore
    there: ObjectStore
    rebuilds: MessageQueue
    _kept: dict[tuple[str, str], Manifest] = field(default_factory=dict)

    def run(self, job: EncodeJob) -> Sent:
        """Write the pack of one batch to the other site and tell it; doing it again writes nothing and tells it again.

        Raises VerificationError if the bytes here are not those of the manifest, NotFoundError if the version is not here.
        """
        manifest = self._manifest(job.model, job.version)
        known = Bases([self._base(job.model, version) for version in job.bases], manifest.parent)
        batch = plan.batches(manifest, job.chunk_bytes)
        if job.batch >= len(batch):
            raise ManifestError(f"{job.model} {job.version} has {len(batch)} batches, the job names {job.batch}")
        packed: list[PackedPiece] = []
        payload: list[Bytes] = []
        saved = 0
        for part in batch[job.batch]:
            file = manifest.files[part.file]
            raw = memoryview(self.here.get_range(file_key(job.model, job.version, file.path), part.start, part.length))
            for piece in plan.pieces(file, part):
                data = raw[piece.start - part.start : piece.end - part.start]
                written, body = self._piece(job, file, piece, data, known.match(file, piece))
                packed.append(written)
                payload.append(body)
                saved += piece.length if written.codec == COPY else 0
        whole = pack(job, packed, payload)
        key = pack_key(blake3(whole).hexdigest())
        put_if_absent(self.there, key, whole, "application/octet-stream")
        told = plan.RebuildJob(job.model, job.version, job.chunk_bytes, job.batch, key)
        self.rebuilds.publish([Message(plan.encode(told), {"model": job.model, "version": job.version})])
        return Sent(key, sum(part.length for part in batch[job.batch]), saved, len(whole))

    def _piece(
        self, job: EncodeJob, file: FileEntry, piece: Piece, data: memoryview, match: Match | None
    ) -> tuple[PackedPiece, Bytes]:
        digest = blake3(data).hexdigest()
        named = named_digest(file, piece)
        if named not in (None, digest):
            where = f"{job.model} {job.version} file {file.path!r}"
            raise VerificationError(
                f"{where}: bytes from {piece.start} have BLAKE3 {digest}, the manifest says {named}"
            )
        own = None if named else digest
        if match and match.same:
            return PackedPiece(COPY, 0, match.base, own), b""
        base = self._base_bytes(job, match) if match else None
        tensor = file.tensors[piece.tensor] if piece.tensor is not None else None
        codec, body = encode(data, base, Form.of(tensor, piece.length))
        return PackedPiece(codec, len(body), match.base if match and codec in ON_A_BASE else None, own), body

    def _base_bytes(self, job: EncodeJob, match: Match) -> bytes | None:
        base = match.base
        try:
            return self.here.get_range(file_key(job.model, job.bases[base.number], base.path), base.start, base.length)
        except (NotFoundError, StoreRefusedError):
            # The parent's bytes are gone or cut short here: the next rung.
            return None

    def _base(self, model: str, version: str) -> Manifest | None:
        try:
            return self._manifest(model, version)
        except (NotFoundError, ManifestError):
            return None

    def _manifest(self, model: str, version: str) -> Manifest:
        known = self._kept.get((model, version))
        if known is None:
            data, _ = self.here.get(manifest_key(model, version), manifests.MOST_MANIFEST_BYTES)
            known = manifests.decode(data, model, version)
            for oldest in list(itertools.islice(self._kept, max(0, len(self._kept) - _MANIFESTS_KEPT + 1))):
                del self._kept[oldest]
            self._kept[model, version] = known
        return known


def named_digest(file: FileEntry, piece: Piece) -> str | None:
    """Return the BLAKE3 that the manifest itself names for a piece, None if it is a share of something larger."""
    if piece.tensor is not None:
        tensor = file.tensors[piece.tensor]
        return tensor.blake3 if (tensor.start, tensor.end) == (piece.start, piece.end) else None
    return file.blake3 if (piece.start, piece.end) == (0, file.size) else None


def exists(store: ObjectStore, key: str) -> bool:
    """Return whether there is such an object."""
    try:
        store.head(key)
    except NotFoundError:
        return False
    return True


def put_if_absent(store: ObjectStore, key: str, data: bytes, content_type: str) -> bool:
    """Write content that its name determines; returns False if it is there already, which is just as good."""
    try:
        store.put(key, data, absent=True, content_type=content_type)
    except PreconditionFailedError:
        return False
    return True
