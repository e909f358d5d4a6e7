"""The contract of an object store, against every implementation on real servers."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from replication_sites import Sites, make_sites, r2_objects, sdk_variables, variables

from functions.settings import Site
from functions.stores import s3
from functions.stores.checksums import crc32c
from functions.stores.errors import (
    NotFoundError,
    ObjectTooLargeError,
    PreconditionFailedError,
    StoreRefusedError,
    StoreUnavailableError,
)
from functions.stores.protocols import ObjectStore
from local.ground.client import GroundClient
from local.names import Cloud, FaultMode

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def sites(ground: GroundClient) -> Iterator[Sites]:
    with variables(sdk_variables(ground)):
        yield make_sites(ground)


@pytest.fixture(params=["s3", "gcs", "r2"])
def store(request: pytest.FixtureRequest, ground: GroundClient, sites: Sites) -> ObjectStore:
    if request.param == "r2":
        return r2_objects(ground, sites)
    return sites.clients(Site.AWS).objects(Site.AWS if request.param == "s3" else Site.GCP)


@pytest.fixture
def attests(request: pytest.FixtureRequest) -> Callable[[int], int | None]:
    """What the store says for a whole object's CRC32C: R2 says nothing."""
    kind = request.node.callspec.params["store"]
    return lambda value: None if kind == "r2" else value


def test_what_is_put_is_read_back_with_its_state(store: ObjectStore, attests: Callable[[int], int | None]) -> None:
    key = "a b/ü+%/c.json"
    put = store.put(key, b"content", metadata={"wire-bytes": "7"}, content_type="application/json")
    data, info = store.get(key, 100)
    assert data == b"content"
    assert (info.size, info.token, info.crc32c) == (7, put.token, attests(crc32c(b"content")))
    head = store.head(key)
    assert (head.size, head.token, head.crc32c) == (7, put.token, attests(crc32c(b"content")))
    assert dict(head.metadata) == {"wire-bytes": "7"}


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.put("empty", b"", absent=True)
    assert store.get("empty", 0)[0] == b""
    assert store.get_range("empty", 0, 0) == b""


def test_missing_objects_are_told_apart(store: ObjectStore) -> None:
    for read in (lambda: store.head("none"), lambda: store.get("none", 9), lambda: store.get_range("none", 0, 1)):
        with pytest.raises(NotFoundError):
            read()
    store.delete("none")
    # fake-gcs-server answers a missing source with 500, GCS with 404; neither leaves an object behind.
    with pytest.raises((NotFoundError, StoreUnavailableError)):
        store.assemble("whole", ["none"], 0)
    with pytest.raises(NotFoundError):
        store.head("whole")


def test_reads_are_bounded_and_exact(store: ObjectStore) -> None:
    store.put("bounded", b"0123456789")
    with pytest.raises(ObjectTooLargeError):
        store.get("bounded", 9)
    assert store.get_range("bounded", 3, 4) == b"3456"
    for offset, length in ((8, 5), (20, 1)):
        with pytest.raises(StoreRefusedError):
            store.get_range("bounded", offset, length)


def test_create_if_absent_lets_one_win(store: ObjectStore) -> None:
    barrier = threading.Barrier(8)

    def race(number: int) -> bool:
        barrier.wait(10)
        try:
            store.put("raced", b"%d" % number, absent=True)
        except PreconditionFailedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert sum(won) == 1
    assert store.get("raced", 9)[0] == b"%d" % won.index(True)


def test_compare_and_swap_refuses_an_old_state(store: ObjectStore) -> None:
    first = store.put("swapped", b"1", absent=True)
    second = store.put("swapped", b"2", replace=first.token)
    assert second.token != first.token
    with pytest.raises(PreconditionFailedError):
        store.put("swapped", b"3", replace=first.token)
    store.delete("swapped")
    with pytest.raises(PreconditionFailedError):
        store.put("swapped", b"4", replace=second.token)


def test_listing_is_by_prefix_in_order(store: ObjectStore) -> None:
    names = [f"listed/{number:03d}" for number in range(12)]
    for name in reversed(names):
        store.put(name, b"xy")
    store.put("listed-not", b"")
    found = list(store.list("listed/"))
    assert [(info.key, info.size) for info in found] == [(name, 2) for name in names]
    store.delete(names[0])
    assert [info.key for info in store.list("listed/")] == names[1:]
    assert list(store.list("nothing/")) == []


def test_parts_are_assembled_in_order(store: ObjectStore, attests: Callable[[int], int | None]) -> None:
    bodies = [bytes([number]) * (5 * MEBIBYTE) for number in range(2)] + [b"tail"]
    whole = b"".join(bodies)
    names = [f"pieces/{number}" for number in range(3)]
    for name, body in zip(names, bodies, strict=True):
        store.put(name, body)
    info = store.assemble("whole/joined", names, crc32c(whole))
    assert (info.size, info.crc32c) == (len(whole), attests(crc32c(whole)))
    assert store.get("whole/joined", len(whole))[0] == whole
    again = store.assemble("whole/joined", names, crc32c(whole))
    assert (again.size, again.crc32c) == (info.size, info.crc32c)
    store.put("pieces/none", b"")
    assert store.assemble("whole/empty", ["pieces/none"], 0).size == 0


def test_a_file_of_many_parts_goes_up_whole(
    store: ObjectStore, attests: Callable[[int], int | None], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    data = bytes(range(256)) * (40 * MEBIBYTE // 256) + b"end"
    path.write_bytes(data)
    landed: list[int] = []
    info = store.upload("uploaded/large", path, crc32c(data), landed.append)
    assert (info.size, info.crc32c) == (len(data), attests(crc32c(data)))
    assert sum(landed) == len(data)
    assert len(landed) > 1
    assert store.get_range("uploaded/large", len(data) - 5, 5) == data[-5:]
    with pytest.raises(PreconditionFailedError):
        store.upload("uploaded/large", path, crc32c(data), landed.append)
    path.write_bytes(b"small")
    assert store.upload("uploaded/small", path, crc32c(b"small"), landed.append).size == 5
    assert not list(store.list("parts/"))


def test_an_object_larger_than_one_copy_takes_is_copied_in_ranges(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "MOST_COPY_BYTES", 6 * MEBIBYTE)
    store = sites.clients(Site.AWS).objects(Site.AWS)
    data = random.Random(6).randbytes(14 * MEBIBYTE)
    store.put("whole/source", data)
    info = store.assemble("whole/ranges", ["whole/source"], crc32c(data))
    assert (info.size, info.crc32c) == (len(data), crc32c(data))


def test_an_upload_that_broke_off_goes_on_where_it_was(store: ObjectStore, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(90 << 20)
    path = tmp_path / "large"
    path.write_bytes(data)
    key = "uploaded/broken"
    landed: list[int] = []

    def breaks(count: int) -> None:
        landed.append(count)
        if len(landed) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.upload(key, path, crc32c(data), breaks)
    with pytest.raises(NotFoundError):
        store.head(key)
    sent = []
    for verb in ("put", "_upload_part"):
        original = getattr(store, verb, None)
        if original is not None:
            setattr(store, verb, lambda *given, call=original, **more: (sent.append(1), call(*given, **more))[1])
    landed.clear()
    info = store.upload(key, path, crc32c(data), landed.append)
    assert info.size == len(data) == sum(landed)
    assert len(sent) < len(landed), "parts that had landed were sent again"
    assert store.get_range(key, 40 << 20, 1_000) == data[40 << 20 : (40 << 20) + 1_000]


def test_what_landed_of_another_file_is_not_taken(store: ObjectStore, tmp_path: Path) -> None:
    old, new = (random.Random(seed).randbytes(40 << 20) for seed in (4, 5))
    path, key = tmp_path / "large", "uploaded/other"
    path.write_bytes(old)

    def breaks(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.upload(key, path, crc32c(old), breaks)
    path.write_bytes(new)
    store.upload(key, path, crc32c(new), lambda count: None)
    assert b"".join(store.get_range(key, at, 1 << 20) for at in range(0, len(new), 1 << 20)) == new
    for info in [*store.list("parts/")]:
        store.delete(info.key)


def test_more_parts_than_one_compose_takes(sites: Sites) -> None:
    store = sites.clients(Site.AWS).objects(Site.GCP)
    names = [f"many/{number:04d}" for number in range(70)]
    for number, name in enumerate(names):
        store.put(name, b"%04d" % number)
    whole = b"".join(b"%04d" % number for number in range(70))
    assert store.assemble("many-joined", names, crc32c(whole)).crc32c == crc32c(whole)
    assert store.get("many-joined", 1_000)[0] == whole
    assert [info.key for info in store.list("many/")] == names


@pytest.mark.usefixtures("no_faults")
@pytest.mark.parametrize(("cloud", "site"), [(Cloud.AWS, Site.AWS), (Cloud.GCP, Site.GCP)])
def test_a_dead_cloud_is_unavailable_and_nothing_else(
    ground: GroundClient, sites: Sites, cloud: Cloud, site: Site
) -> None:
    store = sites.clients(Site.AWS).objects(site)
    store.put("before", b"1")
    ground.fault(cloud, FaultMode.BLACK_HOLE)
    for call in (
        lambda: store.head("before"),
        lambda: store.get("before", 9),
        lambda: store.put("during", b"2", absent=True),
    ):
        with pytest.raises(StoreUnavailableError):
            call()
    ground.restore(cloud)
    assert store.get("before", 9)[0] == b"1"
