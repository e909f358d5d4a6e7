"""Batches of the client library: every row by itself, failures told by key."""

from collections.abc import Sequence

import pytest

from functions.features.client import FeatureStore
from functions.features.errors import EnvelopeError
from functions.settings import Site
from functions.stores.errors import StoreUnavailableError
from functions.stores.protocols import Row
from tests.unit.features.memory_tables import MemoryTable

NOW_MS = 1_795_500_000_000


class Partly(MemoryTable):
    """A table that does not answer for some keys."""

    def __init__(self, away: Sequence[str]) -> None:
        super().__init__()
        self.away = away

    def write(self, row: Row) -> int | None:
        if row.key in self.away:
            raise StoreUnavailableError(row.key)
        return super().write(row)


def test_rows_are_written_and_deleted_each_by_itself() -> None:
    table = Partly(["k3"])
    store = FeatureStore(table, Site.GCP, lambda: NOW_MS)
    written = store.set_many({f"k{number}": {"n": number} for number in range(40)}, expires=NOW_MS // 1000 + 9)
    assert set(written.failed) == {"k3"}
    assert len(written.versions) == 39
    assert {key: table.rows[key].version for key in written.versions} == written.versions
    found = store.get_many([f"k{number}" for number in range(40)])
    assert len(found) == 39
    assert found["k7"].attributes == {"n": 7}
    assert found["k7"].expires == NOW_MS // 1000 + 9
    deleted = store.delete_many(["k1", "k3", "k1", "nobody"])
    assert (set(deleted.versions), set(deleted.failed)) == ({"k1", "nobody"}, {"k3"})
    assert deleted.versions["k1"] > written.versions["k1"]
    assert store.get("k1") is None


def test_a_value_that_can_not_be_stored_stops_the_batch_before_it_begins() -> None:
    table = MemoryTable()
    store = FeatureStore(table, Site.AWS, lambda: NOW_MS)
    with pytest.raises(EnvelopeError):
        store.set_many({"good": {"n": 1}, "bad": {"n": float("inf")}})
    assert not table.rows
    assert store.set_many({}).versions == {}
