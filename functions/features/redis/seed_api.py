"""`CrossCloudFeatureStore.set_feature`, as an article on disaster recovery across clouds has it, on this project's apply path.

The article's class keeps what it has to replicate in the process and sends it in tens: what is left over at a crash or below ten
is lost, an older value may arrive after a newer one, and time is a float that decides nothing. Here the value and the record of
its change are one step in Redis; a forwarder, in this process or any other, carries every record over, and versions decide.
"""

import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self

from functions.features.apply import FeatureApplier
from functions.features.redis.forward import Forwarder, RedisParkingLot, forward_until
from functions.features.redis.source import RedisRows, open_source
from functions.settings import BigtableTable, Settings, Site
from functions.stores.clients import Clients


class CrossCloudFeatureStore:
    """Features in Redis at this site, replicated to Bigtable at the other: one row an entity, one attribute a feature.

    Redis must keep its data (append-only file) for a change to survive its crash; a crash of this process loses nothing.
    Use as a context manager or call `close`; both leave the rest to the next forwarder after `drain_seconds`.
    """

    def __init__(
        self,
        primary_redis_url: str,
        secondary_bigtable_instance: str,
        *,
        project: str,
        table: str = "features",
        app_profile: str = "replication",
        forward: bool = True,
    ) -> None:
        redis = open_source(primary_redis_url)
        place = BigtableTable(project, secondary_bigtable_instance, table, app_profile)
        clients = Clients(Settings(Site.AWS, bigtable_table=place))
        self.primary_store = RedisRows(redis, Site.AWS)
        self.primary_store.prepare()
        self.secondary_store = clients.rows(Site.GCP)
        applier = FeatureApplier(Site.AWS, self.primary_store, self.secondary_store, RedisParkingLot(redis), _now_ms)
        self.forwarder = Forwarder(redis, self.primary_store, applier, f"store-{uuid.uuid4().hex}")
        self.forwarder.prepare()
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=forward_until, args=(self.forwarder, self._stopped), name="feature-forwarder", daemon=True
        )
        if forward:
            self._thread.start()

    def set_feature(self, entity_id: str, feature_name: str, value: float) -> int:
        """Set one feature of an entity and return the row's version. The change is on record when this returns."""
        return self.primary_store.set_features(entity_id, {feature_name: value})

    def drain(self, seconds: float, wait: Callable[[float], object] | None = None) -> bool:
        """Wait until everything that is on record is over there; returns whether it is."""
        pause = wait or self._stopped.wait
        ends = time.monotonic() + seconds
        while self.forwarder.waiting():
            if time.monotonic() > ends:
                return False
            pause(0.01)
        return True

    def close(self, drain_seconds: float = 5.0) -> None:
        """Stop forwarding, after what is on record has gone over if it does in time."""
        if self._thread.is_alive():
            self.drain(drain_seconds)
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
