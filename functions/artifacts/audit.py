"""The daily look at a site's own versions: history, what the stores report, a sample read back, retention, a signed receipt.

Bytes at rest go bad without an event, so this reads versions back by turns, those first that were not looked at for longest.
What the other site's store reports is compared as well, by metadata alone: nothing is read across the clouds. A finding never
stops the rest; it stands in the receipt `audits/<site>/<day>.json` and in a metric that is an alarm's source.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from functions.artifacts import attestation, proof, retention
from functions.artifacts.documents import JSON, Alias, Receipt, find
from functions.artifacts.errors import ManifestError, SignatureError, VerificationError
from functions.artifacts.paths import (
    aliases_prefix,
    audit_key,
    parse_name,
    receipt_key,
    tombstones_prefix,
)
from functions.artifacts.proof import Mismatch, Shown
from functions.artifacts.sign import Authority
from functions.artifacts.verify import verify
from functions.settings import Retention, Site
from functions.stores.errors import NotFoundError, StoreError
from functions.stores.protocols import ObjectStore
from functions.telemetry import LOGGER

# Versions that are read back on a day at most; a day's time limit ends it earlier for large ones.
MOST_READ = 200
# What a receipt names; how many there were stands beside it.
MOST_NAMED = 500


@dataclass(frozen=True)
class Audited:
    """What an audit came to: versions seen, read back, and what was wrong; versions retired, copies deleted."""

    versions: int
    read: int
    bytes_read: int
    mismatches: int
    retired: int
    deleted: int
    complete: bool


@dataclass(frozen=True)
class Auditor:
    """Audits `here`; `there` is the other site, of which only metadata is asked, and which is told of tombstones.

    From `third`, the copy that no site holds, the site that published a version deletes it.
    """

    site: Site
    here: ObjectStore
    there: ObjectStore
    authority: Authority
    rule: Retention | None
    clock_ms: Callable[[], int]
    third: ObjectStore | None = None

    def run(self, ending: Callable[[], bool] = lambda: False) -> Audited:
        """Audit once, write the receipt, and return what it came to; `ending` says that the function's time is nearly up."""
        started_ms = self.clock_ms()
        problems: list[Mismatch] = []
        shown = self._versions(problems)
        models = sorted({model for model, _ in shown})
        for model in models:
            problems += proof.history(self.site, self.here, model, self.authority.trust)
        for found in shown.values():
            if ending():
                break
            problems += proof.reported(self.site, self.here, found.manifest)
            problems += self._reported_there(found)
        read, complete = self._read(shown, problems, ending)
        retired, deleted = self._retain(shown, models)
        bytes_read = sum(shown[version].manifest.bytes_raw for version in read)
        self._write(started_ms, shown.values(), read, problems)
        return Audited(len(shown), len(read), bytes_read, len(problems), retired, deleted, complete)

    def _versions(self, problems: list[Mismatch]) -> dict[tuple[str, str], Shown]:
        found: dict[tuple[str, str], Shown] = {}
        for model, versions in proof.of_all({self.site: self.here}).items():
            for version in versions:
                one = proof.shown(self.site, self.here, model, version, self.authority.trust)
                if isinstance(one, Shown):
                    found[model, version] = one
                else:
                    problems.append(one)
        return found

    def _reported_there(self, found: Shown) -> list[Mismatch]:
        """Return what the other site's store reports otherwise; that it is away, or lacks the version, is no finding here."""
        manifest = found.manifest
        try:
            theirs = proof.shown(self.site.peer, self.there, manifest.model, manifest.version, self.authority.trust)
            if isinstance(theirs, Mismatch):
                return [theirs]
            return proof.reported(self.site.peer, self.there, manifest)
        except NotFoundError:
            return []
        except StoreError as error:
            LOGGER.warning("other site left out: %s", error)
            return []

    def _read(
        self, shown: dict[tuple[str, str], Shown], problems: list[Mismatch], ending: Callable[[], bool]
    ) -> tuple[list[tuple[str, str]], bool]:
        """Read versions back by turns and renew their receipts; returns those that were read, and whether time sufficed."""
        looked_at = {}
        for model, version in shown:
            receipt = find(self.here, receipt_key(model, version), Receipt)
            looked_at[model, version] = receipt[0].verified_ms if receipt else 0
        done: list[tuple[str, str]] = []
        for model, version in proof.sample(shown, looked_at, MOST_READ):
            if ending():
                return done, False
            try:
                verify(
                    self.here,
                    model,
                    version,
                    site=self.site,
                    trust=self.authority.trust,
                    clock_ms=self.clock_ms,
                    again=True,
                )
            except VerificationError:
                # All that is wrong with it, and not the first thing alone.
                problems += proof.read_back(self.site, self.here, shown[model, version].manifest)
            done.append((model, version))
        return done, True

    def _retain(self, shown: dict[tuple[str, str], Shown], models: Iterable[str]) -> tuple[int, int]:
        retired = deleted = 0
        if self.rule is not None:
            for model in models:
                retired += self._retire(model, shown, self.rule)
        for info in [*self.here.list(tombstones_prefix())]:
            if named := parse_name(info.key):
                deleted += self._bury(*named, shown)
        return retired, deleted

    def _retire(self, model: str, shown: dict[tuple[str, str], Shown], rule: Retention) -> int:
        known = [retention.known_of(found.manifest) for (name, _), found in shown.items() if name == model]
        try:
            versions = retention.outdated(
                known,
                site=self.site,
                pointed=[*self._pointed(self.here, model), *self._pointed(self.there, model)],
                proven_there=_names(self.there, f"receipts/{model}/"),
                pending=[*_parents_of(self.there, model, shown), *_names(self.there, f"pending/{model}/")],
                rule=rule,
                now_ms=self.clock_ms(),
            )
        except StoreError as error:
            # What the other site needs can't be known now, so nothing goes.
            LOGGER.warning("retention left out: %s", error)
            return 0
        gone = set(retention.ended(self.here, model, versions, self.authority.trust))
        for version in versions:
            if version not in gone:
                retention.retire(
                    self.here,
                    model,
                    version,
                    site=self.site,
                    authority=self.authority,
                    reason=f"beyond the newest {rule.keep_versions} and older than {rule.keep_days} days",
                    clock_ms=self.clock_ms,
                )
        return len(versions) - len(gone)

    def _bury(self, model: str, version: str, shown: dict[tuple[str, str], Shown]) -> int:
        """Tell the other site of a tombstone, and delete what it ends if its time is up; returns 1 if something was deleted."""
        try:
            tombstone = retention.ended(self.here, model, [version], self.authority.trust).get(version)
        except (ManifestError, SignatureError) as error:
            LOGGER.error("tombstone left out", extra={"model": model, "version": version, "reason": str(error)})
            return 0
        if tombstone is None:
            return 0
        if tombstone.origin is self.site:
            try:
                retention.tell(self.here, self.there, model, version)
            except StoreError as error:
                LOGGER.warning("other site not told: %s", error)
        known = [retention.known_of(found.manifest) for (name, _), found in shown.items() if name == model]
        ended = retention.ended(self.here, model, [each.version for each in known], self.authority.trust)
        # A child that is on its way out itself needs its parent no longer.
        standing = [each.version for each in known if each.version not in ended]
        needed = retention.needed(known, [*self._pointed(self.here, model), *standing])
        if not retention.may_go(tombstone, needed, self.clock_ms()):
            return 0
        buried = retention.bury(self.here, model, version)
        if tombstone.origin is self.site and self.third is not None:
            try:
                retention.bury(self.third, model, version)
            except StoreError as error:
                LOGGER.warning("third copy left out: %s", error)
        if buried:
            LOGGER.info("version deleted", extra={"model": model, "version": version, "reason": tombstone.reason})
        return int(buried > 0)

    def _pointed(self, store: ObjectStore, model: str) -> list[str]:
        found = [find(store, info.key, Alias) for info in store.list(aliases_prefix(model))]
        return [each[0].version for each in found if each]

    def _write(
        self, started_ms: int, shown: Iterable[Shown], read: list[tuple[str, str]], problems: list[Mismatch]
    ) -> None:
        finished_ms = self.clock_ms()
        day = datetime.fromtimestamp(started_ms / 1000, UTC).strftime("%Y-%m-%d")
        predicate = {
            "site": self.site,
            "started_ms": started_ms,
            "finished_ms": finished_ms,
            "read_back": [f"{model}/{version}" for model, version in read[:MOST_NAMED]],
            "mismatches": len(problems),
            "named": [asdict(problem) for problem in problems[:MOST_NAMED]],
        }
        subjects = [
            (f"manifests/{each.manifest.model}/{each.manifest.version}.json", proof.digest_of(each)) for each in shown
        ][: attestation.MOST_SUBJECTS]
        data = attestation.attest(subjects, attestation.AUDIT_TYPE, predicate, self.authority.signer)
        # The day's last word: an audit that was run again by hand has seen more.
        self.here.put(audit_key(self.site, day), data, content_type=JSON)


def _names(store: ObjectStore, prefix: str) -> list[str]:
    return [named[1] for info in store.list(prefix) if (named := parse_name(info.key))]


def _parents_of(store: ObjectStore, model: str, shown: dict[tuple[str, str], Shown]) -> list[str]:
    """Return the parents of versions that a site is bringing in: those of ours whose manifests wait there."""
    waiting = [(model, version) for version in _names(store, f"pending/{model}/")]
    return [parent for key in waiting if key in shown and (parent := shown[key].manifest.parent)]
