"""Live features that programs write on either site: users' taste, asked for by the traffic while it changes."""

import random
from collections.abc import Mapping, Sequence

from functions.features.client import FeatureStore
from functions.features.envelope import Vector
from functions.settings import Site
from functions.stores.clients import Clients
from operate.demo.clock import now_ms
from service.server import TASTE

# Users that the traffic asks for: their rows change while they are asked for.
USERS = 500
TASTE_SCALE = 0.02


class FeatureLoad:
    """Rows of the feature tables. Programs of both sites write the same users, so the merge is at work all the time."""

    name = "features"

    def __init__(self, clients: Clients, size: int, seed: int) -> None:
        self._rows = {site: clients.rows(site) for site in Site}
        self._stores = {site: FeatureStore(rows, site, now_ms) for site, rows in self._rows.items()}
        self._size = size
        self._random = random.Random(seed)  # noqa: S311 - a load, not a secret

    def write(self, site: Site, chooser: int) -> tuple[str, int]:
        key = f"user#user_{self._random.randrange(USERS)}"
        taste = [self._random.gauss(0.0, TASTE_SCALE) for _ in range(self._size)]
        return key, self._stores[site].set(key, {TASTE: Vector.of(taste)})

    def versions(self, site: Site, keys: Sequence[str]) -> Mapping[str, int]:
        return {key: row.version for key, row in self._rows[site].read(list(keys)).items()}
