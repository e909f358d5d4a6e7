"""The history of a model: one chain of signed statements a site, in which what is missing, exchanged or put in shows.

Every statement of a site about a model, a manifest or a tombstone, has a number and names the one before it by its digest. Who
publishes takes the next number by creating `chain/<model>/<site>/<number>` with the statement itself in it, only if absent: two
that publish at once take turns, and one that dies afterwards has its statement put in its place by whoever comes next. Each site
has a chain of its own: ordering both sites' statements would make publishing wait for the other cloud.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from functions.artifacts import manifest as manifests
from functions.artifacts import tombstone as tombstones
from functions.artifacts.attestation import TOMBSTONE_TYPE
from functions.artifacts.documents import JSON
from functions.artifacts.encode import put_if_absent
from functions.artifacts.errors import BusyError, ChainError, ManifestError
from functions.artifacts.manifest import MOST_MANIFEST_BYTES, Link, Manifest, sha256
from functions.artifacts.paths import chain_key, chain_prefix, manifest_key, tombstone_key
from functions.artifacts.sign import Trust, unseal
from functions.artifacts.tombstone import Tombstone
from functions.settings import Site
from functions.stores.errors import NotFoundError, PreconditionFailedError
from functions.stores.protocols import ObjectStore

# Publishers of one model that take turns; more than this many lost in a row is no race but a fault.
_ROUNDS = 50


@dataclass(frozen=True)
class Entry:
    """One statement of a chain: its number, how the next one names it, and how it names the one before."""

    site: Site
    sequence: int
    link: Link
    previous: Link | None


@dataclass(frozen=True)
class Turn:
    """What the next statement must say about its place."""

    sequence: int
    previous: Link | None


def append(
    store: ObjectStore,
    model: str,
    site: Site,
    trust: Trust,
    build: Callable[[Turn], bytes | None],
) -> bytes | None:
    """Add a statement to the chain and put it in its place; returns its bytes.

    `build` is told the turn and returns the statement, None if there is nothing left to say; it may be asked again when another
    publisher took the turn. Raises ChainError if the last statement is not this site's own, BusyError if every turn is lost.
    """
    for _ in range(_ROUNDS):
        last = _last(store, model, site)
        turn = Turn(1, None)
        if last is not None:
            entry = _entry(*last, model, trust)
            if entry.site is not site or chain_key(model, site, entry.sequence) != last[0]:
                raise ChainError(f"{last[0]} is statement {entry.sequence} of site {entry.site}; remove it by hand")
            _place(store, model, entry, last[1])
            turn = Turn(entry.sequence + 1, entry.link)
        data = build(turn)
        if data is None:
            return None
        key = chain_key(model, site, turn.sequence)
        try:
            store.put(key, data, absent=True, content_type=JSON)
        except PreconditionFailedError:
            # Another publisher's, or our own whose answer was lost.
            if store.get(key, MOST_MANIFEST_BYTES)[0] != data:
                continue
        _place(store, model, _entry(key, data, model, trust), data)
        return data
    raise BusyError(f"{model} on {site}: other publishers took {_ROUNDS} turns in a row; publish again")


def check_link(store: ObjectStore, manifest: Manifest, trust: Trust) -> None:
    """Check that the statement before a version's own is here and is the very one; ChainError if not."""
    before = manifest.previous
    if before is None:
        return
    what = f"{manifest.model} {manifest.version}: the statement before it, {before.kind} {before.version},"
    key = (manifest_key if before.kind == "version" else tombstone_key)(manifest.model, before.version)
    try:
        found = sha256(store.get(key, MOST_MANIFEST_BYTES)[0])
    except NotFoundError:
        gone = tombstones.find(store, manifest.model, before.version, trust) if before.kind == "version" else None
        if gone is None:
            raise ChainError(f"{what} is not on this site; publish or bring it back first") from None
        found = gone.manifest
    if found != before.sha256:
        raise ChainError(f"{what} has SHA-256 {found}, not {before.sha256}: it was exchanged")


def entry_of(statement: Manifest | Tombstone, data: bytes) -> Entry:
    """Return a statement's entry; `data` are its bytes."""
    kind = "version" if isinstance(statement, Manifest) else "tombstone"
    link = Link(kind=kind, version=statement.version, sha256=sha256(data))  # type: ignore[arg-type]  # one of two literals
    return Entry(statement.origin, statement.sequence, link, statement.previous)


def entry_of_gone(tombstone: Tombstone) -> Entry:
    """Return the entry of the version that a tombstone ended: what its manifest was is still known."""
    link = Link(kind="version", version=tombstone.version, sha256=tombstone.manifest)
    return Entry(tombstone.origin, tombstone.manifest_sequence, link, None)


def problems(entries: Iterable[Entry], gone: Iterable[Entry] = ()) -> list[str]:
    """Return what is wrong with the chains of one model, one line each: gaps, forks, statements exchanged. Pure.

    `gone` are the places of versions whose manifests were deleted, by their tombstones.
    """
    found: list[str] = []
    places: dict[tuple[Site, int], list[Entry]] = {}
    links: dict[tuple[Site, int], str] = {}
    for entry in gone:
        links[entry.site, entry.sequence] = entry.link.sha256
    for entry in entries:
        places.setdefault((entry.site, entry.sequence), []).append(entry)
        links[entry.site, entry.sequence] = entry.link.sha256
    for (site, sequence), standing in sorted(places.items()):
        if len({entry.link.sha256 for entry in standing}) > 1:
            names = ", ".join(sorted(entry.link.version[:12] for entry in standing))
            found.append(f"statement {sequence} of {site} stands {len(standing)} times: {names}")
        for entry in standing:
            before = links.get((site, sequence - 1))
            if entry.previous is None:
                continue
            name = f"{entry.link.kind} {entry.link.version[:12]}, statement {sequence} of {site}"
            if before is None:
                found.append(
                    f"{name}: the one before it, {entry.previous.kind} {entry.previous.version[:12]}, is missing"
                )
            elif before != entry.previous.sha256:
                found.append(f"{name} does not follow the one that stands before it")
    return found


def _last(store: ObjectStore, model: str, site: Site) -> tuple[str, bytes] | None:
    keys = [info.key for info in store.list(chain_prefix(model, site))]
    return (keys[-1], store.get(keys[-1], MOST_MANIFEST_BYTES)[0]) if keys else None


def _entry(key: str, data: bytes, model: str, trust: Trust) -> Entry:
    kind, version = told(data, key)
    if kind == TOMBSTONE_TYPE:
        return entry_of(tombstones.trusted(data, model, version, trust), data)
    return entry_of(manifests.trusted(data, model, version, trust), data)


def told(data: bytes, key: str) -> tuple[str, str]:
    """Return the type and the version that a statement of a chain names; whether it is one is checked by whoever reads it."""
    try:
        value = json.loads(unseal(data, key).payload)
        return str(value["predicateType"]), str(value["predicate"]["version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{key} is no statement of a chain; remove it by hand") from error


def _place(store: ObjectStore, model: str, entry: Entry, data: bytes) -> None:
    if entry.link.kind == "tombstone":
        put_if_absent(store, tombstone_key(model, entry.link.version), data, JSON)
        return
    # A version that was retired since then is not brought back.
    try:
        store.head(tombstone_key(model, entry.link.version))
    except NotFoundError:
        put_if_absent(store, manifest_key(model, entry.link.version), data, JSON)
