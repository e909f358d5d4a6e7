"""What the stores hold of models: listed, shown, pointed to, promoted, retired. Every place that answers is asked."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from functions.artifacts import alias as aliases
from functions.artifacts import proof, retention
from functions.artifacts import tombstone as tombstones
from functions.artifacts.alias import resolve
from functions.artifacts.documents import Alias, Receipt, Transfer, Verdict, find
from functions.artifacts.errors import ManifestError, SignatureError
from functions.artifacts.manifest import Manifest
from functions.artifacts.paths import (
    aliases_prefix,
    check_name,
    file_key,
    is_version,
    manifests_prefix,
    parse_name,
    receipt_key,
    transfer_key,
    verdict_key,
)
from functions.artifacts.proof import Shown
from functions.artifacts.record import Recorder
from functions.artifacts.third import public_url
from functions.artifacts.tombstone import Tombstone
from functions.settings import Site
from functions.stores.clients import Clients
from functions.stores.errors import NotFoundError, StoreError
from functions.stores.protocols import ObjectStore
from functions.stores.s3 import R2Objects
from operate.access import THIRD, places
from operate.errors import LifeboatError

# How much of a version's name people have to type.
LEAST_PREFIX = 8


@dataclass(frozen=True)
class ListedVersion:
    """A version as a list shows it. `at` are the places that show it, `aliases` those that name it at any site."""

    model: str
    version: str
    parent: str | None
    origin: str
    created_ms: int
    files: int
    bytes_raw: int
    at: tuple[str, ...]
    aliases: tuple[str, ...]
    passed: bool | None
    retired: str


@dataclass(frozen=True)
class ShownVersion:
    """Everything that is known of a version; `copies` by place: receipt, bytes that crossed, verdict."""

    listed: ListedVersion
    manifest: Manifest
    copies: Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Locations:
    """Where a version's files can be read, at the first place that answers: URL by path."""

    place: str
    version: str
    urls: Mapping[str, str]
    passed_over: Mapping[str, str]


class Catalogue:
    """The models of a deployed stack."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._places = places(clients)
        # Why a place was left out, by its name.
        self.unreached: dict[str, str] = {}

    def versions(self, model: str | None = None) -> list[ListedVersion]:
        """Return the versions of a model, or of all, newest first."""
        if model is not None:
            check_name(model, "model")
        found: dict[tuple[str, str], list[str]] = {}
        for place, store in self._reached().items():
            for info in store.list(manifests_prefix(model or "")):
                if named := parse_name(info.key):
                    found.setdefault(named, []).append(place)
        pointed = self._aliases(model)
        listed = [self._listed(*named, at, pointed) for named, at in found.items()]
        return sorted(listed, key=lambda each: (each.model, -each.created_ms))

    def resolve(self, model: str, name: str) -> str:
        """Return the version that a name means: a version, the beginning of one, or an alias at the first site that has it."""
        check_name(model, "model")
        if is_version(name):
            return name
        for site in Site:
            try:
                return resolve(self._places[site], model, name)
            except (ManifestError, StoreError):
                continue
        matching = {
            named[1]
            for store in self._reached().values()
            for info in store.list(f"{manifests_prefix(model)}{name}" if len(name) >= LEAST_PREFIX else "nothing/")
            if (named := parse_name(info.key))
        }
        if len(matching) == 1:
            return matching.pop()
        raise LifeboatError(
            f"{name!r} is {'the beginning of several versions' if matching else 'no version and no alias'} of {model};"
            " ./lifeboat models list shows them"
        )

    def show(self, model: str, name: str) -> ShownVersion:
        """Return everything that is known of a version. Raises LifeboatError if no place shows it."""
        version = self.resolve(model, name)
        at = [place for place, store in self._reached().items() if self._shown(store, place, model, version)]
        if not at:
            raise LifeboatError(f"{model} {version} is at no place that answers; ./lifeboat models list shows what is")
        shown = self._shown(self._places[at[0]], at[0], model, version)
        assert shown is not None
        return ShownVersion(
            self._listed(model, version, at, self._aliases(model)),
            shown.manifest,
            {place: self._copy(self._places[place], model, version) for place in at},
        )

    def locate(self, model: str, name: str, base: str | None = None, seconds: int = 3600) -> Locations:
        """Return where a version's files can be read: at a site, or at the third copy if neither answers.

        `base` is the third copy's public address; without one its URLs are signed for so many seconds.
        """
        passed_over: dict[str, str] = {}
        for place, store in self._places.items():
            try:
                version = name if is_version(name) else resolve(store, model, name)
                shown = proof.shown(place, store, model, version, self._clients.trust)
            except (NotFoundError, ManifestError) as error:
                passed_over[place] = str(error)
                continue
            except StoreError as error:
                passed_over[place] = f"does not answer: {error}"
                continue
            if not isinstance(shown, Shown):
                passed_over[place] = shown.detail
                continue
            urls = {
                file.path: self._url(place, store, file_key(model, version, file.path), base, seconds)
                for file in shown.manifest.files
            }
            return Locations(place, version, urls, passed_over)
        raise LifeboatError(f"{model} {name} can be read nowhere: {passed_over}")

    def promote(self, model: str, name: str, alias: str, site: Site, epoch: int) -> Alias:
        """Point an alias at a version of a site; its copy to the other side starts by itself. Errors of `alias.move`."""
        version = self.resolve(model, name)
        store = self._places[site]
        Recorder(store, site, self._clients.authority(site), now_ms, self._clients.golden(site)).judge(model, version)
        return aliases.move(store, model, alias, version, epoch=epoch, site=site, clock_ms=now_ms)

    def retire(self, model: str, name: str, reason: str) -> Tombstone:
        """End a version: a tombstone at the site that published it and at the other one. Raises LifeboatError if it is needed."""
        shown = self.show(model, name)
        version, origin = shown.manifest.version, shown.manifest.origin
        known = {
            each.version: retention.Known(each.version, Site(each.origin), each.created_ms, each.parent)
            for each in self.versions(model)
            if not each.retired
        }
        pointed = {target: alias for alias, target in self._aliases(model).values()}
        for target, alias in pointed.items():
            if version in retention.needed(known.values(), [target]):
                raise LifeboatError(
                    f"{model} {version[:12]} is needed: alias {alias} points to {target[:12]}"
                    f"{'' if target == version else ', which was trained from it'}. Move the alias first"
                )
        children = [each.version[:12] for each in known.values() if each.parent == version]
        if children:
            raise LifeboatError(f"{model} {version[:12]} is the parent of {', '.join(children)}; retire those first")
        tombstone = retention.retire(
            self._places[origin],
            model,
            version,
            site=origin,
            authority=self._clients.authority(origin),
            reason=reason,
            clock_ms=now_ms,
        )
        retention.tell(self._places[origin], self._places[origin.peer], model, version)
        return tombstone

    def _reached(self) -> dict[str, ObjectStore]:
        found = {}
        for place, store in self._places.items():
            if place in self.unreached:
                continue
            try:
                next(iter(store.list(manifests_prefix())), None)
                found[place] = store
            except StoreError as error:
                self.unreached[place] = str(error)
        if not found:
            raise LifeboatError(f"no place that holds models answers: {self.unreached}")
        return found

    def _shown(self, store: ObjectStore, place: str, model: str, version: str) -> Shown | None:
        try:
            shown = proof.shown(place, store, model, version, self._clients.trust)
        except NotFoundError:
            return None
        return shown if isinstance(shown, Shown) else None

    def _aliases(self, model: str | None) -> dict[tuple[str, str, str], tuple[str, str]]:
        """Return (alias, version) by site, model and alias."""
        found: dict[tuple[str, str, str], tuple[str, str]] = {}
        for place, store in self._reached().items():
            if place == THIRD:
                continue
            for info in store.list(aliases_prefix(model or "")):
                named = parse_name(info.key)
                state = aliases.current(store, *named) if named else None
                if named and state:
                    found[place, *named] = (named[1], state.version)
        return found

    def _listed(
        self, model: str, version: str, at: list[str], pointed: Mapping[tuple[str, str, str], tuple[str, str]]
    ) -> ListedVersion:
        shown = next(
            (found for place in at if (found := self._shown(self._places[place], place, model, version))), None
        )
        if shown is None:
            return ListedVersion(
                model, version, None, "unsigned", 0, 0, 0, tuple(at), (), False, "no copy is signed by its origin"
            )
        manifest = shown.manifest
        verdict = self._first(verdict_key(model, version), Verdict)
        return ListedVersion(
            model,
            version,
            manifest.parent,
            manifest.origin.value,
            manifest.created_ms,
            len(manifest.files),
            manifest.bytes_raw,
            tuple(at),
            tuple(
                sorted(
                    {alias for (_, name, _), (alias, target) in pointed.items() if (name, target) == (model, version)}
                )
            ),
            verdict.passed if verdict else None,
            self._retired(model, version),
        )

    def _retired(self, model: str, version: str) -> str:
        for place, store in self._reached().items():
            if place == THIRD:
                continue
            try:
                if found := tombstones.find(store, model, version, self._clients.trust):
                    return found.reason
            except (ManifestError, SignatureError) as error:
                return f"tombstone refused: {error}"
        return ""

    def _first(self, key: str, kind: type[Verdict]) -> Verdict | None:
        for place, store in self._reached().items():
            if place != THIRD and (found := find(store, key, kind)):
                return found[0]
        return None

    def _copy(self, store: ObjectStore, model: str, version: str) -> dict[str, Any]:
        receipt = find(store, receipt_key(model, version), Receipt)
        transfer = find(store, transfer_key(model, version), Transfer)
        verdict = find(store, verdict_key(model, version), Verdict)
        return {
            "verified_ms": receipt[0].verified_ms if receipt else None,
            "bytes_wire": transfer[0].bytes_wire if transfer else None,
            "verdict": verdict[0].model_dump(mode="json") if verdict else None,
        }

    def _url(self, place: str, store: ObjectStore, key: str, base: str | None, seconds: int) -> str:
        if place == THIRD and base:
            return public_url(base, *key.split("/", 3)[1:])
        if isinstance(store, R2Objects):
            return store.signed_url(key, seconds)
        scheme = "s3" if place == Site.AWS else "gs"
        return f"{scheme}://{self._clients.bucket(Site(place))}/{quote(key)}"


def now_ms() -> int:
    """Return the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000
