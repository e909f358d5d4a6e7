"""Trains, publishes and follows the demo's model versions: from scratch, further, an adapter alone, further at the other site."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from functions.artifacts import alias as aliases
from functions.artifacts.documents import Receipt, find
from functions.artifacts.encode import exists
from functions.artifacts.paths import manifest_key, receipt_key
from functions.artifacts.publish import publish
from functions.settings import Site
from functions.stores.clients import Clients
from functions.stores.protocols import ObjectStore
from operate.demo.sites import wait_until
from operate.report.result import Artifact
from operate.verify.models import ModelsVerified
from service import model, train
from service.interactions import Market

ALIAS = "prod"
ARRIVAL_SECONDS = 150.0
ADAPTER_RANK = 4
# Of the first training's interactions; each later version sees so few that it differs little from its parent.
ADAPTER_SHARE = 20

Clock = Callable[[], int]


@dataclass(frozen=True)
class Version:
    """A trained version on disk: its folder, ranking quality on interactions it never saw, training seconds, and kind."""

    folder: Path
    kind: str
    quality: float
    seconds: float


class Workshop:
    """Trains versions of one recommender on interactions of the same market, each newer than the last one's."""

    def __init__(self, folder: Path, plan: train.TrainingPlan) -> None:
        self._folder = folder
        self._plan = plan
        self._market: Market = train.market(plan)
        self._held_out = self._market.draw(plan.interactions // 20, seed=plan.seed + 99)
        self._newest: train.Trained | None = None

    def first(self) -> Version:
        """Train version 1 from random weights."""
        began = time.monotonic()
        self._newest = train.first(self._plan, self._market.draw(self._plan.interactions, seed=self._plan.seed + 10))
        return self._keep("v1", "full", train.with_golden(self._newest.model), began)

    def further(self, name: str) -> Version:
        """Train the newest version further, all weights."""
        began = time.monotonic()
        newer = self._market.draw(self._plan.interactions // train.NEWER_SHARE, seed=self._plan.seed + 20)
        self._newest = train.further(self._parent, self._plan, newer)
        return self._keep(name, "fine-tune", train.with_golden(self._newest.model), began)

    def adapter(self, name: str, parent: Version) -> Version:
        """Train an adapter alone: the parent's weights stay byte for byte."""
        began = time.monotonic()
        newer = self._market.draw(self._plan.interactions // ADAPTER_SHARE, seed=self._plan.seed + 30)
        adapter = train.adapt(self._parent, self._plan, newer, ADAPTER_RANK)
        files = {path.name: path.read_bytes() for path in parent.folder.iterdir()}
        return self._keep(name, "adapter", train.with_adapter(files, self._parent.model, adapter), began)

    @property
    def _parent(self) -> train.Trained:
        assert self._newest is not None, "version 1 is trained first"
        return self._newest

    def _keep(self, name: str, kind: str, files: Mapping[str, bytes], began: float) -> Version:
        folder = self._folder / name
        model.write(files, folder)
        quality = train.ranking_quality(model.parse(files), self._held_out, seed=self._plan.seed)
        return Version(folder, kind, quality, time.monotonic() - began)


def publish_and_follow(
    clients: Clients, site: Site, name: str, version: Version, parent: str | None, clock_ms: Clock
) -> Artifact:
    """Publish a version at a site and wait until the other site has proven it and moved its alias there.

    The seconds count from the moment the publish returned to the moment the alias stood on the other site.
    """
    published = publish(
        version.folder,
        name,
        clients.objects(site),
        site=site,
        authority=clients.authority(site),
        parent=parent,
        alias=ALIAS,
        lineage={
            "training_data": [{"name": "seeded interactions of service.interactions"}],
            "metrics": {"ranking_quality": round(version.quality, 4)},
        },
        golden=clients.golden(site),
        clock_ms=clock_ms,
    )
    far = clients.objects(site.peer)

    def arrived() -> tuple[bool, str]:
        moved = aliases.current(far, name, ALIAS)
        return moved is not None and moved.version == published.version, f"alias there: {moved}"

    seconds = wait_until(arrived, ARRIVAL_SECONDS, f"{name} {published.version[:12]} on {site.peer}")
    receipt = find(far, receipt_key(name, published.version), Receipt)
    wire = receipt[0].bytes_wire if receipt else 0
    return Artifact(
        model=name,
        version=published.version,
        parent=parent,
        kind=version.kind,
        origin=site,
        bytes_raw=published.bytes_raw,
        bytes_wire=wire,
        ratio=round(wire / published.bytes_raw, 4),
        seconds=round(seconds, 3),
        verified=receipt is not None,
    )


def proven(artifact: Artifact, found: ModelsVerified, places: Mapping[str, ObjectStore]) -> Artifact:
    """Return the artifact with what the proof of all copies says of it: proven where it is shown and nothing differs."""
    wrong = {each.place for each in found.mismatches if each.version == artifact.version} | set(found.unreached)
    key = manifest_key(artifact.model, artifact.version)
    copies = {place: place not in wrong and exists(store, key) for place, store in places.items()}
    return artifact.model_copy(update={"copies": copies, "verified": all(copies.values())})
