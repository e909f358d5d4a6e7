"""The third copy: plain files of every version on R2, for loaders and as the origin of a content delivery network.

R2 has no functions beside it, so whole files go over, except those that stand there already under another version. A file is
proven by what R2 attests, size and CRC64NVME, against the manifest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from functions.artifacts import manifest as manifests
from functions.artifacts import signature
from functions.artifacts.documents import JSON, Alias, encode, find
from functions.artifacts.encode import exists, put_if_absent
from functions.artifacts.errors import ManifestError, VerificationError
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.paths import alias_key, aliases_prefix, file_key, manifest_key, parse_key
from functions.artifacts.plan import ThirdJob, groups
from functions.artifacts.sign import Trust
from functions.artifacts.transfer import Pace
from functions.stores.errors import ConflictError, NotFoundError, PreconditionFailedError
from functions.stores.protocols import ObjectInfo, ObjectStore


class ThirdStore(ObjectStore, Protocol):
    """A bucket that no site holds. It attests CRC64NVME over a whole object and takes parts of one size only."""

    def stream(self, key: str, size: int, part_bytes: int, read: Callable[[int, int], bytes]) -> ObjectInfo:
        """Write an object of any size from ranges that `read(offset, length)` gives, parts in parallel, only if there is none.

        Raises PreconditionFailedError where the key is taken.
        """

    def copy(self, key: str, source: str) -> ObjectInfo:
        """Write an object from another one of the same bucket, without moving bytes through the caller."""


@dataclass(frozen=True)
class Copied:
    """What one group of files came to; `complete` when the version is visible there."""

    complete: bool
    bytes_raw: int
    bytes_wire: int


@dataclass(frozen=True)
class ThirdCopier:
    """Copies versions of this site's bucket `here` to the third one; what is sent there keeps to `pace`."""

    here: ObjectStore
    third: ThirdStore
    part_bytes: int
    trust: Trust
    pace: Pace = field(default_factory=Pace)

    def run(self, job: ThirdJob) -> Copied:
        """Copy one group of files, show the version if all of them are there, and bring the model's aliases up to date.

        Raises VerificationError for bytes that are not those of the manifest, SignatureError for a manifest that its origin did
        not sign, NotFoundError if the version is not here.
        """
        data, _ = self.here.get(manifest_key(job.model, job.version), manifests.MOST_MANIFEST_BYTES)
        manifest = manifests.trusted(data, job.model, job.version, self.trust)
        shown = exists(self.third, manifest_key(job.model, job.version))
        raw = wire = 0
        if not shown:
            found = groups(manifest)
            if job.group >= len(found):
                raise ManifestError(f"{job.model} {job.version} has {len(found)} groups, the job names {job.group}")
            known = self._known(manifest)
            for number in found[job.group]:
                file = manifest.files[number]
                raw, wire = raw + file.size, wire + self._file(manifest, file, known.get(file.blake3))
            present = {info.key: info.size for info in self.third.list(file_key(job.model, job.version, ""))}
            shown = all(
                present.get(file_key(job.model, job.version, file.path)) == file.size for file in manifest.files
            )
            if shown:
                signature.write(self.third, manifest)
                put_if_absent(self.third, manifest_key(job.model, job.version), data, JSON)
        self._aliases(job.model)
        return Copied(shown, raw, wire)

    def _known(self, manifest: Manifest) -> dict[str, str]:
        """Return where the parent's files stand on the third store, by their digest."""
        if manifest.parent is None:
            return {}
        try:
            data, _ = self.third.get(manifest_key(manifest.model, manifest.parent), manifests.MOST_MANIFEST_BYTES)
            parent = manifests.decode(data, manifest.model, manifest.parent)
        except (NotFoundError, ManifestError):
            return {}
        return {file.blake3: file_key(manifest.model, manifest.parent, file.path) for file in parent.files}

    def _file(self, manifest: Manifest, file: FileEntry, known: str | None) -> int:
        """Bring one file over; returns the bytes that left this site."""
        key = file_key(manifest.model, manifest.version, file.path)
        try:
            if _attested(self.third.head(key), file):
                return 0
            self.third.delete(key)
        except NotFoundError:
            pass
        if known is not None:
            try:
                if _attested(self.third.copy(key, known), file):
                    return 0
                self.third.delete(key)
            except NotFoundError:
                pass
        try:
            info = self.third.stream(
                key, file.size, self.part_bytes, lambda offset, length: self._range(key, offset, length)
            )
        except PreconditionFailedError:
            return 0
        if not _attested(info, file):
            self.third.delete(info.key)
            raise VerificationError(
                f"{manifest.model} {manifest.version} file {file.path!r}: the third copy attests {info.size} bytes, "
                f"CRC64NVME {info.crc64nvme or 0:016x}; the manifest says {file.size} bytes, CRC64NVME {file.crc64nvme}"
            )
        return file.size

    def _range(self, key: str, offset: int, length: int) -> bytes:
        # Waited for before it is read, so that no more parts than are on their way are in memory.
        self.pace.spend(length)
        return self.here.get_range(key, offset, length)

    def _aliases(self, model: str) -> None:
        """Move aliases there whose version is visible there, never to an older state."""
        for info in self.here.list(aliases_prefix(model)):
            named = parse_key(info.key)
            found = find(self.here, info.key, Alias) if named else None
            if named is None or found is None or not exists(self.third, manifest_key(model, found[0].version)):
                continue
            theirs = find(self.third, alias_key(model, named[2]), Alias)
            if theirs is None or theirs[0].order < found[0].order:
                try:
                    self.third.put(
                        info.key,
                        encode(found[0]),
                        absent=theirs is None,
                        replace=theirs[1].token if theirs else None,
                        content_type=JSON,
                    )
                except (PreconditionFailedError, ConflictError):
                    # Another function moves it; whoever comes last sees the newest state of both.
                    continue


def _attested(info: ObjectInfo, file: FileEntry) -> bool:
    # A copy within the store need not have been summed up anew.
    return info.size == file.size and info.crc64nvme in (None, int(file.crc64nvme, 16))


def public_url(base: str, model: str, version: str, path: str) -> str:
    """Return where a content delivery network serves a file of a version; `base` is the third copy's public address."""
    return f"{base.rstrip('/')}/{quote(file_key(model, version, path))}"
