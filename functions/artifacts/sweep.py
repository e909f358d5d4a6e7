"""What events did not bring about: both sites compared, and what differs put right. Comparing is pure, acting is thin.

Events get lost, doubled and delayed, and functions die; this is what makes the path complete. It never undoes anything that is
under way: a version is sent again only when nothing of it has moved for a while, and what looks left over is deleted only after a
day without a sign of life.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from functions.artifacts import plan
from functions.artifacts.alias import Moved, carry
from functions.artifacts.documents import Alias, find
from functions.artifacts.encode import Planned, exists, plan_version, third_messages
from functions.artifacts.errors import AliasConflictError, ManifestError, SignatureError, VersionNotReadyError
from functions.artifacts.manifest import MOST_MANIFEST_BYTES, decode
from functions.artifacts.paths import aliases_prefix, manifest_key, manifests_prefix, parse_name, pending_key
from functions.artifacts.plan import ProveJob
from functions.artifacts.sign import Trust
from functions.settings import Site
from functions.stores.errors import NotFoundError, StoreError
from functions.stores.protocols import Message, MessageQueue, ObjectInfo, ObjectStore
from functions.telemetry import LOGGER

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
# How often each site sweeps: what the schedules of both clouds say. The first of a day is the thorough one.
SWEEP_MS = 5 * MINUTE_MS
# Longer than the slow tail of notifications, and than a function may go on without leaving a trace.
QUIET_MS = 15 * MINUTE_MS
# What is deleted at once: a stop that deletes a thousand objects must not outlast its function.
MOST_DELETES = 2_000

Version = tuple[str, str]


@dataclass(frozen=True)
class Holding:
    """What one site holds: versions and documents as (model, name) with the store's time of each, in milliseconds.

    `files` is None unless the files of all versions were listed too.
    """

    manifests: Mapping[Version, int] = field(default_factory=dict)
    receipts: Mapping[Version, int] = field(default_factory=dict)
    transfers: Mapping[Version, int] = field(default_factory=dict)
    pending: Mapping[Version, int] = field(default_factory=dict)
    tombstones: Mapping[Version, int] = field(default_factory=dict)
    aliases: Mapping[Version, Alias] = field(default_factory=dict)
    packs: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Repairs:
    """What is to be done at home: versions to send, versions to prove, aliases to carry, objects to delete."""

    send: Sequence[Version]
    prove: Sequence[Version]
    carry: Sequence[Version]
    delete: Sequence[str]


@dataclass(frozen=True)
class Swept:
    """What a sweep found and did; `open` are versions that the other site lacks although they are not ours to send."""

    sent: int
    proven: int
    carried: int
    deleted: int
    open: int
    third: int = 0


def compare(home: Holding, away: Holding, now_ms: int) -> Repairs:
    """Return what the state of both sites asks of this one."""
    moved = _last_moved(away.parts)
    send = [
        version
        for version, shown_ms in sorted(home.manifests.items())
        if version not in away.manifests
        # What one site has deleted already is not brought back while the other still has it.
        and version not in home.tombstones
        and version not in away.tombstones
        and now_ms - max(shown_ms, away.pending.get(version, 0), moved.get(version[1], 0)) > QUIET_MS
    ]
    prove = [
        version
        for version, shown_ms in sorted(home.manifests.items())
        if version in home.transfers and version not in home.receipts and now_ms - shown_ms > QUIET_MS
    ]
    newer = [
        name
        for name, alias in sorted(home.aliases.items())
        if name not in away.aliases or away.aliases[name].order < alias.order
    ]
    return Repairs(send, prove, newer, sorted(_leftovers(home, now_ms))[:MOST_DELETES])


def third_missing(home: Holding, third: Mapping[Version, int], now_ms: int) -> list[Version]:
    """Return what the third copy lacks and this site should bring there: its own versions, and the other's if nobody does."""
    return [
        version
        for version, shown_ms in sorted(home.manifests.items())
        if version not in third
        and version not in home.tombstones
        and now_ms - shown_ms > (4 * QUIET_MS if version in home.transfers else QUIET_MS)
    ]


def _leftovers(home: Holding, now_ms: int) -> Iterator[str]:
    """Yield keys that nothing can need any more."""
    moved = _last_moved(home.parts)
    alive = set()
    for (model, version), written_ms in home.pending.items():
        if (model, version) in home.manifests:
            if now_ms - written_ms > QUIET_MS:
                yield f"pending/{model}/{version}.json"
        elif now_ms - max(written_ms, moved.get(version, 0)) > DAY_MS:
            yield f"pending/{model}/{version}.json"
        else:
            alive.add(version)
    for key, written_ms in home.packs.items():
        if now_ms - written_ms > DAY_MS:
            yield key
    for key in home.parts:
        version = _version_of_part(key)
        if version not in alive and now_ms - moved[version] > DAY_MS:
            yield key
    written = _last_written(home.files or {})
    for key in home.files or {}:
        named = version_of_file(key)
        if named and named not in home.manifests and named[1] not in alive and now_ms - written[named] > DAY_MS:
            yield key


def version_of_file(key: str) -> Version | None:
    """Return (model, version) of a plain file's key, None for any other key."""
    steps = key.split("/", 3)
    return (steps[1], steps[2]) if len(steps) == 4 and steps[0] == "models" else None


def _last_written(files: Mapping[str, int]) -> dict[Version, int]:
    found: dict[Version, int] = {}
    for key, written_ms in files.items():
        if named := version_of_file(key):
            found[named] = max(written_ms, found.get(named, 0))
    return found


def _last_moved(parts: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, written_ms in parts.items():
        version = _version_of_part(key)
        found[version] = max(written_ms, found.get(version, 0))
    return found


def _version_of_part(key: str) -> str:
    return key.split("/")[1]


@dataclass(frozen=True)
class Sweeper:
    """Compares `here` with `there` and repairs what is this site's to repair; `jobs` and `rebuilds` are its own queues."""

    site: Site
    here: ObjectStore
    there: ObjectStore
    jobs: MessageQueue
    rebuilds: MessageQueue
    chunk_bytes: int
    clock_ms: Callable[[], int]
    trust: Trust
    third: ObjectStore | None = None

    def run(self, deep: bool = False) -> Swept:
        """Sweep once; `deep` lists the files of all versions too, to find those that no manifest names."""
        with ThreadPoolExecutor(2) as pool:
            ours, theirs = pool.submit(read, self.here, deep), pool.submit(read, self.there, False)
            home, away = ours.result(), theirs.result()
        todo = compare(home, away, self.clock_ms())
        sent, left = self._send(todo.send)
        if todo.prove:
            self.rebuilds.publish([Message(plan.encode(ProveJob(*version))) for version in todo.prove])
        carried = sum(self._carry(*name) for name in todo.carry)
        return Swept(sent, len(todo.prove), carried, self._delete(todo.delete), left, self._third(home))

    def _third(self, home: Holding) -> int:
        """Bring missing versions to the third copy; that it is away is no reason to leave the rest undone."""
        if self.third is None:
            return 0
        try:
            present = _documents(self.third.list(manifests_prefix()))
        except StoreError as error:
            LOGGER.warning("third copy left out: %s", error)
            return 0
        missing = third_missing(home, present, self.clock_ms())
        for model, version in missing:
            data, _ = self.here.get(manifest_key(model, version), MOST_MANIFEST_BYTES)
            self.jobs.publish(third_messages(decode(data, model, version)))
        return len(missing)

    def _delete(self, keys: Iterable[str]) -> int:
        shown: dict[Version, bool] = {}
        deleted = 0
        for key in keys:
            named = version_of_file(key)
            if named and named not in shown:
                # Looked at once more: whoever publishes these very files again after a day has shown them meanwhile.
                shown[named] = exists(self.here, manifest_key(*named)) or exists(self.here, pending_key(*named))
            if not (named and shown[named]):
                self.here.delete(key)
                deleted += 1
        return deleted

    def _send(self, versions: Iterable[Version]) -> tuple[int, int]:
        sent = left = 0
        for model, version in versions:
            try:
                outcome, _ = plan_version(
                    self.here,
                    self.there,
                    self.jobs,
                    model,
                    version,
                    site=self.site,
                    chunk_bytes=self.chunk_bytes,
                    trust=self.trust,
                )
            except (ManifestError, SignatureError, NotFoundError) as error:
                # One bad version must not keep the others from being looked after.
                LOGGER.error("version left out", extra={"model": model, "version": version, "reason": str(error)})
                left += 1
                continue
            sent += outcome is Planned.PLANNED
            left += outcome is Planned.ECHO
        return sent, left

    def _carry(self, model: str, alias: str) -> int:
        try:
            return int(carry(self.here, self.there, model, alias, self.site) is Moved.APPLIED)
        except (VersionNotReadyError, AliasConflictError, ManifestError) as error:
            LOGGER.info("alias left for the next sweep: %s", error)
            return 0


def read(store: ObjectStore, deep: bool) -> Holding:
    """Return what a site holds, by listing; only aliases are read."""
    aliases: dict[Version, Alias] = {}
    for info in store.list(aliases_prefix()):
        named = parse_name(info.key)
        try:
            found = find(store, info.key, Alias) if named else None
        except ManifestError as error:
            LOGGER.error("alias left out", extra={"key": info.key, "reason": str(error)})
            continue
        if named and found:
            aliases[named] = found[0]
    return Holding(
        manifests=_documents(store.list(manifests_prefix())),
        receipts=_documents(store.list("receipts/")),
        transfers=_documents(store.list("transfers/")),
        pending=_documents(store.list("pending/")),
        tombstones=_documents(store.list("tombstones/")),
        aliases=aliases,
        packs=_times(store.list("packs/")),
        parts=_times(store.list("parts/")),
        files=_times(store.list("models/")) if deep else None,
    )


def _documents(infos: Iterable[ObjectInfo]) -> dict[Version, int]:
    return {named: info.modified_ms or 0 for info in infos if (named := parse_name(info.key))}


def _times(infos: Iterable[ObjectInfo]) -> dict[str, int]:
    return {info.key: info.modified_ms or 0 for info in infos}
