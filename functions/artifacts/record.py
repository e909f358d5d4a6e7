"""Makes files that stand in a site's bucket a version: the signed manifest in its chain, the verdict, the alias."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from functions.artifacts import alias as aliases
from functions.artifacts import chain, signature
from functions.artifacts import manifest as manifests
from functions.artifacts import tombstone as tombstones
from functions.artifacts.documents import Alias, Verdict
from functions.artifacts.encode import exists
from functions.artifacts.errors import ManifestError, RetiredError, UnfitError
from functions.artifacts.golden import Golden
from functions.artifacts.lineage import check_lineage
from functions.artifacts.manifest import FileEntry, Manifest
from functions.artifacts.paths import check_name, check_version, manifest_key
from functions.artifacts.root import root
from functions.artifacts.sign import Authority
from functions.artifacts.validate import validate
from functions.settings import Site
from functions.stores.protocols import ObjectStore


@dataclass(frozen=True)
class Wish:
    """What a publisher wants: the model's name, the version that this one was trained from, the alias to move, the lineage."""

    model: str
    parent: str | None = None
    alias: str | None = None
    lineage: Mapping[str, Any] | None = None
    epoch: int = 0


@dataclass(frozen=True)
class Recorded:
    """A version as it stands now; `created` is False if it was there before."""

    manifest: Manifest
    created: bool
    verdict: Verdict
    alias: Alias | None


@dataclass(frozen=True)
class Recorder:
    """Records versions on one site."""

    store: ObjectStore
    site: Site
    authority: Authority
    clock_ms: Callable[[], int]
    golden: Golden | None = None

    def check(self, wish: Wish) -> None:
        """Refuse what can't be, before bytes are moved: ManifestError for names, a lineage or a parent that is not here."""
        check_name(wish.model, "model")
        if wish.alias is not None:
            check_name(wish.alias, "alias")
        check_lineage(wish.lineage or {})
        if wish.parent is not None and not exists(self.store, manifest_key(wish.model, check_version(wish.parent))):
            raise ManifestError(
                f"parent {wish.parent} of {wish.model} is not on site {self.site}; publish it first or leave the parent out"
            )

    def check_version(self, wish: Wish, files: list[FileEntry]) -> str:
        """Return the version that these files are; RetiredError if it was retired."""
        version = root(files)
        gone = tombstones.find(self.store, wish.model, version, self.authority.trust)
        if gone is not None:
            raise RetiredError(
                f"{wish.model} {version} was retired ({gone.reason}); a version that differs in any file can be published"
            )
        return version

    def run(self, wish: Wish, files: list[FileEntry]) -> Recorded:
        """Show the version that these files are, judge it, and move the alias; all of it may be repeated.

        The files stand where they belong. Raises UnfitError if an alias is wanted and the version did not pass, errors of
        `artifacts.alias.move` and `artifacts.chain.append`.
        """
        version = self.check_version(wish, files)
        key = manifest_key(wish.model, version)

        def build(turn: chain.Turn) -> bytes | None:
            if exists(self.store, key):
                return None
            manifest = Manifest(
                model=wish.model,
                version=version,
                parent=wish.parent,
                origin=self.site,
                epoch=wish.epoch,
                created_ms=self.clock_ms(),
                sequence=turn.sequence,
                previous=turn.previous,
                lineage=dict(wish.lineage or {}),
                model_signature=signature.sign_model(wish.model, files, self.authority.signer),
                files=files,
            )
            return manifests.encode(manifest, self.authority.signer)

        data = chain.append(self.store, wish.model, self.site, self.authority.trust, build)
        created = data is not None
        if data is None:
            data, _ = self.store.get(key, manifests.MOST_MANIFEST_BYTES)
        manifest = manifests.trusted(data, wish.model, version, self.authority.trust)
        signature.write(self.store, manifest)
        verdict = self.judge(wish.model, version)
        return Recorded(manifest, created, verdict, self._move(wish, version, verdict))

    def judge(self, model: str, version: str, again: bool = False) -> Verdict:
        """Return the verdict on a version of this site, reached now if there is none."""
        return validate(
            self.store,
            model,
            version,
            site=self.site,
            trust=self.authority.trust,
            clock_ms=self.clock_ms,
            golden=self.golden,
            again=again,
        )

    def _move(self, wish: Wish, version: str, verdict: Verdict) -> Alias | None:
        if wish.alias is None:
            return None
        if not verdict.passed:
            raise UnfitError(
                f"{wish.model} {version} is kept, but alias {wish.alias} stays where it is: {verdict.reason}. "
                "Publish a corrected version"
            )
        return aliases.move(
            self.store,
            wish.model,
            wish.alias,
            version,
            epoch=wish.epoch,
            site=self.site,
            clock_ms=self.clock_ms,
        )
