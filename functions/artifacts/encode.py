"""The sending side: a version is planned into chunk jobs, and each job becomes a pack on the other site."""

from dataclasses import dataclass
from enum import StrEnum

from blake3 import blake3

from functions.artifacts import manifest as manifests
from functions.artifacts import plan
from functions.artifacts.documents import JSON
from functions.artifacts.pack import pack
from functions.artifacts.paths import check_path, file_key, manifest_key, pack_key, pending_key
from functions.settings import Site
from functions.stores.errors import NotFoundError, PreconditionFailedError
from functions.stores.protocols import Message, MessageQueue, ObjectStore


class Planned(StrEnum):
    """What a manifest event came to."""

    PLANNED = "planned"
    PRESENT = "present"
    ECHO = "echo"


@dataclass(frozen=True)
class Sent:
    """What one chunk came to."""

    pack: str
    bytes_raw: int
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
) -> tuple[Planned, int]:
    """Turn a manifest of this site into chunk jobs on the queue; returns what was done and the number of jobs.

    A version that came from the other site is not sent back, one that the other site shows is not sent again. The manifest goes
    ahead as pending, so the far side knows what it waits for. Repeating it repeats jobs, which their names make harmless.
    """
    data, _ = here.get(manifest_key(model, version), manifests.MOST_MANIFEST_BYTES)
    manifest = manifests.decode(data, model, version)
    if manifest.origin is not site:
        return Planned.ECHO, 0
    if exists(there, manifest_key(model, version)):
        return Planned.PRESENT, 0
    put_if_absent(there, pending_key(model, version), data, JSON)
    todo = plan.jobs(manifest, chunk_bytes)
    jobs.publish([Message(plan.encode(job)) for job in todo])
    return Planned.PLANNED, len(todo)


def encode_chunk(here: ObjectStore, there: ObjectStore, topic: MessageQueue, job: plan.ChunkJob) -> Sent:
    """Write the pack of one chunk to the other site and tell it; doing it again writes nothing and tells it again."""
    raw = here.get_range(file_key(job.model, job.version, check_path(job.path)), job.offset, job.length)
    data = pack(job, raw)
    key = pack_key(blake3(data).hexdigest())
    put_if_absent(there, key, data, "application/octet-stream")
    rebuild = plan.RebuildJob(job.model, job.version, job.chunk_bytes, job.file, job.index, key)
    topic.publish([Message(plan.encode(rebuild), {"model": job.model, "version": job.version})])
    return Sent(key, len(raw), len(data))


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
