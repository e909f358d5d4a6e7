"""Which versions may go, and their going: first a tombstone, a week later the files. Deciding is pure, acting is thin.

A version stays while an alias of either site points to it, while it is an ancestor of one that stays, while the other site lacks
it or is still bringing in one that builds on it, and while it is among the newest or youngest by the stack's rule. Only the site
that published a version retires it; each site then deletes its own copy, the manifest first, so that nobody sees half a version.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from functions.artifacts import chain
from functions.artifacts import manifest as manifests
from functions.artifacts import tombstone as tombstones
from functions.artifacts.documents import JSON
from functions.artifacts.encode import exists, put_if_absent
from functions.artifacts.errors import ManifestError, RetiredError
from functions.artifacts.manifest import MOST_MANIFEST_BYTES, Manifest
from functions.artifacts.paths import (
    check_version,
    file_key,
    manifest_key,
    receipt_key,
    tombstone_key,
    transfer_key,
    verdict_key,
)
from functions.artifacts.sign import Authority, Trust
from functions.artifacts.tombstone import Tombstone
from functions.settings import Retention, Site
from functions.stores.errors import NotFoundError
from functions.stores.protocols import ObjectStore

DAY_MS = 24 * 60 * 60_000
# Between a tombstone and the deletion: time to see it, and to point an alias elsewhere.
NOTICE_MS = 7 * DAY_MS


@dataclass(frozen=True)
class Known:
    """What is known of one version: when it was published, on which site, from which parent."""

    version: str
    origin: Site
    created_ms: int
    parent: str | None


def needed(known: Iterable[Known], pointed: Iterable[str]) -> frozenset[str]:
    """Return the versions that are pointed to and all their ancestors. Pure."""
    parents = {each.version: each.parent for each in known}
    found: set[str] = set()
    for version in pointed:
        step: str | None = version
        while step is not None and step not in found:
            found.add(step)
            step = parents.get(step)
    return frozenset(found)


def outdated(
    known: Iterable[Known],
    *,
    site: Site,
    pointed: Iterable[str],
    proven_there: Iterable[str],
    pending: Iterable[str],
    rule: Retention,
    now_ms: int,
) -> list[str]:
    """Return the versions of one model that this site may retire, oldest first. Pure.

    `pointed`: what aliases of either site point to. `proven_there`: what the other site has a receipt for. `pending`: what the
    other site is bringing in.
    """
    versions = sorted(known, key=lambda each: (each.created_ms, each.version))
    newest = [each.version for each in versions[-rule.keep_versions :]]
    young = [each.version for each in versions if now_ms - each.created_ms < rule.keep_days * DAY_MS]
    # Whatever is not ours to retire, or not proven there, stays for now and needs its ancestors as well.
    mine = {each.version for each in versions if each.origin is site} & set(proven_there)
    others = [each.version for each in versions if each.version not in mine]
    stays = needed(versions, [*pointed, *pending, *newest, *young, *others])
    return [each.version for each in versions if each.version not in stays]


def retire(
    store: ObjectStore,
    model: str,
    version: str,
    *,
    site: Site,
    authority: Authority,
    reason: str,
    epoch: int = 0,
    clock_ms: Callable[[], int],
) -> Tombstone:
    """Write a version's tombstone on the site that published it, and return it; one that is there already stands.

    Raises ManifestError for a version that is not here or is the other site's, errors of `artifacts.chain.append`.
    """
    check_version(version)

    def build(turn: chain.Turn) -> bytes | None:
        if exists(store, tombstone_key(model, version)):
            return None
        try:
            data, _ = store.get(manifest_key(model, version), MOST_MANIFEST_BYTES)
        except NotFoundError as error:
            raise ManifestError(f"{model} {version} is not on site {site}; there is nothing to retire") from error
        manifest = manifests.trusted(data, model, version, authority.trust)
        if manifest.origin is not site or turn.previous is None:
            raise ManifestError(
                f"{model} {version} was published on {manifest.origin}; only that site's key can retire it, so ask there"
            )
        tombstone = Tombstone(
            model=model,
            version=version,
            origin=site,
            epoch=epoch,
            created_ms=clock_ms(),
            reason=reason,
            manifest=manifests.sha256(data),
            manifest_sequence=manifest.sequence,
            sequence=turn.sequence,
            previous=turn.previous,
        )
        return tombstones.encode(tombstone, authority.signer)

    chain.append(store, model, site, authority.trust, build)
    found = tombstones.find(store, model, version, authority.trust)
    if found is None:
        raise RetiredError(f"{model} {version}: its tombstone vanished while it was written; look who deletes them")
    return found


def tell(here: ObjectStore, there: ObjectStore, model: str, version: str) -> bool:
    """Bring a tombstone to the other site; returns False if it is there already."""
    data, _ = here.get(tombstone_key(model, version), tombstones.MOST_TOMBSTONE_BYTES)
    return put_if_absent(there, tombstone_key(model, version), data, JSON)


def may_go(tombstone: Tombstone, pointed: frozenset[str], now_ms: int) -> bool:
    """Return whether a retired version's time is up and nothing here needs it; `pointed` are `needed` versions. Pure."""
    return now_ms - tombstone.created_ms > NOTICE_MS and tombstone.version not in pointed


def bury(store: ObjectStore, model: str, version: str) -> int:
    """Delete everything of a version but its tombstone and its place in the chain; returns the number of objects deleted.

    The manifest goes first: from then on nobody sees the version. A repeat deletes what is left.
    """
    small = (manifest_key, verdict_key, receipt_key, transfer_key)
    keys = [name(model, version) for name in small if exists(store, name(model, version))]
    keys += [info.key for info in store.list(file_key(model, version, ""))]
    for key in keys:
        store.delete(key)
    return len(keys)


def known_of(manifest: Manifest) -> Known:
    """Return what retention has to know of a version."""
    return Known(manifest.version, manifest.origin, manifest.created_ms, manifest.parent)


def ended(store: ObjectStore, model: str, versions: Iterable[str], trust: Trust) -> Mapping[str, Tombstone]:
    """Return the tombstones of these versions that their origins signed."""
    found = {version: tombstones.find(store, model, version, trust) for version in versions}
    return {version: each for version, each in found.items() if each is not None}
