"""Aliases: the one part of a model that moves, always by compare-and-swap and never back to an older epoch."""

from collections.abc import Callable
from enum import StrEnum

from functions.artifacts.documents import JSON, Alias, Verdict, encode, find
from functions.artifacts.errors import (
    AliasConflictError,
    ManifestError,
    RetiredError,
    StaleEpochError,
    UnfitError,
    VersionNotReadyError,
)
from functions.artifacts.paths import (
    alias_key,
    check_name,
    check_version,
    is_version,
    manifest_key,
    receipt_key,
    tombstone_key,
    verdict_key,
)
from functions.features.version import stamp
from functions.settings import Site
from functions.stores.errors import ConflictError, NotFoundError, PreconditionFailedError
from functions.stores.protocols import ObjectStore

# A lost round means that somebody else moved the alias meanwhile; more than a few in a row is no race but a fault.
_ROUNDS = 5


class Moved(StrEnum):
    """What became of an alias on its way to the other site."""

    APPLIED = "applied"
    STALE = "stale"
    ECHO = "echo"


def current(store: ObjectStore, model: str, alias: str) -> Alias | None:
    """Return where an alias points on this site, None if it does not exist."""
    found = find(store, alias_key(check_name(model, "model"), check_name(alias, "alias")), Alias)
    return found[0] if found else None


def resolve(store: ObjectStore, model: str, name: str) -> str:
    """Return the version that a version's own name or an alias of this site means; ManifestError if it means none."""
    if is_version(name):
        return name
    found = current(store, model, name)
    if found is None:
        raise ManifestError(
            f"{name!r} is neither a version, 64 hexadecimal digits, nor an alias of {model} on this site"
        )
    return found.version


def move(
    store: ObjectStore,
    model: str,
    alias: str,
    version: str,
    *,
    epoch: int,
    site: Site,
    clock_ms: Callable[[], int],
) -> Alias:
    """Point an alias at a version of this site and return it; an alias that points there already is left alone.

    Raises ManifestError if the version is not here, UnfitError if it did not pass validation, VersionNotReadyError if nobody
    has validated it, RetiredError if it is on its way out, StaleEpochError if the alias belongs to a newer epoch,
    AliasConflictError if another writer moved it in the same moment.
    """
    key = alias_key(check_name(model, "model"), check_name(alias, "alias"))
    try:
        store.head(manifest_key(model, check_version(version)))
    except NotFoundError as error:
        raise ManifestError(
            f"alias {alias} of {model}: version {version} is not on this site; publish it first"
        ) from error
    _demand_fit(store, model, version)
    found = find(store, key, Alias)
    before = found[0] if found else None
    if before and before.epoch > epoch:
        raise StaleEpochError(
            f"alias {alias} of {model} was moved in epoch {before.epoch}, this writer acts for epoch {epoch}; "
            "read the register again"
        )
    if before and (before.version, before.epoch) == (version, epoch):
        return before
    wanted = Alias(
        model=model,
        version=version,
        alias=alias,
        epoch=epoch,
        stamp=stamp(clock_ms(), before.stamp if before else 0, site),
        origin=site,
    )
    try:
        _swap(store, key, wanted, found[1].token if found else None)
    except (PreconditionFailedError, ConflictError) as error:
        # The answer to a write that did land may have been lost, and the try after it then loses to itself.
        if current(store, model, alias) != wanted:
            raise AliasConflictError(
                f"alias {alias} of {model} was moved by another writer in the same moment; look at it, then move it again"
            ) from error
    return wanted


def carry(here: ObjectStore, there: ObjectStore, model: str, alias: str, site: Site) -> Moved:
    """Bring the other site's alias to the state of this one's.

    Raises VersionNotReadyError while the other site has not proven the version, AliasConflictError if rounds keep being lost.
    """
    key = alias_key(check_name(model, "model"), check_name(alias, "alias"))
    for _ in range(_ROUNDS):
        found = find(here, key, Alias)
        if found is None:
            return Moved.STALE
        ours = found[0]
        if ours.origin is not site:
            return Moved.ECHO
        theirs = find(there, key, Alias)
        if theirs and theirs[0].order >= ours.order:
            return Moved.APPLIED if theirs[0] == ours else Moved.STALE
        try:
            there.head(receipt_key(model, ours.version))
        except NotFoundError as error:
            raise VersionNotReadyError(
                f"alias {alias} of {model}: version {ours.version} is not proven on the other site yet"
            ) from error
        try:
            _swap(there, key, ours, theirs[1].token if theirs else None)
        except (PreconditionFailedError, ConflictError):
            continue
        return Moved.APPLIED
    raise AliasConflictError(f"alias {alias} of {model}: {_ROUNDS} rounds lost to other writers; it is tried again")


def _demand_fit(store: ObjectStore, model: str, version: str) -> None:
    try:
        store.head(tombstone_key(model, version))
    except NotFoundError:
        pass
    else:
        raise RetiredError(f"{model} {version} has a tombstone and will be deleted; point to another version")
    found = find(store, verdict_key(model, version), Verdict)
    if found is None:
        raise VersionNotReadyError(
            f"{model} {version} was not validated on this site yet; publish it again to have that done"
        )
    if not found[0].passed:
        raise UnfitError(f"{model} {version} is kept, but no alias may point to it: {found[0].reason}")


def _swap(store: ObjectStore, key: str, alias: Alias, token: str | None) -> None:
    store.put(key, encode(alias), absent=token is None, replace=token, content_type=JSON)
