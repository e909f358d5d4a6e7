"""Trains, publishes and follows the demo's two model versions."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from functions.artifacts import alias as aliases
from functions.artifacts.documents import Receipt, find
from functions.artifacts.paths import receipt_key
from functions.artifacts.publish import publish
from functions.settings import Site
from functions.stores.clients import Clients
from operate.demo.sites import wait_until
from operate.report.result import Artifact
from service import model, train
from service.interactions import Market

ALIAS = "prod"
ARRIVAL_SECONDS = 60.0

Clock = Callable[[], int]


@dataclass(frozen=True)
class Version:
    """A trained version on disk: its folder, ranking quality on interactions it never saw, and training seconds."""

    folder: Path
    trained: train.Trained
    quality: float
    seconds: float


class Workshop:
    """Trains version 1, then version 2 further on newer interactions of the same market."""

    def __init__(self, folder: Path, plan: train.TrainingPlan) -> None:
        self._folder = folder
        self._plan = plan
        self._market: Market = train.market(plan)
        self._held_out = self._market.draw(plan.interactions // 20, seed=plan.seed + 99)

    def first(self) -> Version:
        """Train version 1."""
        began = time.monotonic()
        trained = train.first(self._plan, self._market.draw(self._plan.interactions, seed=self._plan.seed + 10))
        return self._keep("v1", trained, began)

    def further(self, parent: Version) -> Version:
        """Train version 2 from version 1."""
        began = time.monotonic()
        newer = self._market.draw(self._plan.interactions // train.NEWER_SHARE, seed=self._plan.seed + 20)
        return self._keep("v2", train.further(parent.trained, self._plan, newer), began)

    def _keep(self, name: str, trained: train.Trained, began: float) -> Version:
        folder = self._folder / name
        model.write(train.with_golden(trained.model), folder)
        quality = train.ranking_quality(trained.model, self._held_out, seed=self._plan.seed)
        return Version(folder, trained, quality, time.monotonic() - began)


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
        bytes_raw=published.bytes_raw,
        bytes_wire=wire,
        ratio=round(wire / published.bytes_raw, 4),
        seconds=round(seconds, 3),
        verified=receipt is not None,
    )
