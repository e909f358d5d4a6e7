"""A model version's way through the handlers to a proven, aliased version on the other site, from either, on real events."""

import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from cloudevents.http.event import CloudEvent
from replication_sites import Sites, make_sites, sdk_variables, variables
from safetensors.numpy import load, save_file
from werkzeug.wrappers import Request

from functions import entry_aws, entry_gcp
from functions.artifacts import alias
from functions.artifacts.documents import Receipt, find
from functions.artifacts.errors import VersionNotReadyError
from functions.artifacts.manifest import Manifest, decode
from functions.artifacts.paths import alias_key, file_key, manifest_key, receipt_key
from functions.artifacts.publish import Published, publish
from functions.settings import SITE, Site
from functions.stores.errors import NotFoundError
from local.ground.client import GroundClient
from local.names import Cloud, FaultMode
from tests.unit.artifacts.signing import authority

WAIT_SECONDS = 20


class Model:
    """One test's two buckets, and the queues between them driven by hand, from `site` to the other."""

    def __init__(self, sites: Sites, site: Site = Site.AWS) -> None:
        self.sites = sites
        self.site = site
        clients = sites.clients(site)
        self.here, self.there = clients.objects(site), clients.objects(site.peer)

    @property
    def back(self) -> "Model":
        return Model(self.sites, self.site.peer)

    def publish(self, folder: Path, **more: Any) -> Published:
        return publish(folder, "recommender", self.here, site=self.site, authority=authority(self.site), **more)

    def run_queue(self, queue: str, handler: Any) -> int:
        """Hand everything on a queue to its function once; returns how many messages were not reported as failed."""
        done = 0
        while records := self.sites.receive(queue):
            with variables({SITE: Site.AWS}):
                answer = handler({"Records": records}, None)
            failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
            finished = [record for record in records if record["messageId"] not in failed]
            self.sites.delete(queue, finished)
            done += len(finished)
            if failed:
                return done
        return done

    def run_topic(self, topic: str, handler: Any) -> int:
        """Hand everything on a topic to its function once; returns how many messages there were."""
        done = 0
        for push in self.pushes(topic):
            try:
                self.push(push, handler)
                done += 1
            except VersionNotReadyError:
                # An alias ahead of its version. It would be delivered again; what it waits for brings it along.
                continue
        return done

    def push(self, push: dict[str, Any], handler: Any) -> None:
        with variables({SITE: Site.GCP}):
            handler(cloud_event(push))

    def plan(self) -> int:
        if self.site is Site.AWS:
            return self.run_queue("events", entry_aws.artifact_plan)
        return self.run_topic("events", entry_gcp.artifact_plan)

    def encode(self) -> int:
        if self.site is Site.AWS:
            return self.run_queue("jobs", entry_aws.artifact_encode)
        return self.run_topic("jobs", entry_gcp.artifact_encode)

    def pushes(self, topic: str = "rebuild") -> list[dict[str, Any]]:
        """Return what lies on a topic; an empty pull ends it."""
        found: list[dict[str, Any]] = []
        while pushes := self.sites.pull(topic):
            found += pushes
        return found

    def rebuild(self, push: dict[str, Any]) -> None:
        self.push(push, entry_gcp.artifact_rebuild)

    def rebuild_all(self) -> int:
        if self.site is Site.GCP:
            return self.run_queue("rebuild", entry_aws.artifact_rebuild)
        return self.run_topic("rebuild", entry_gcp.artifact_rebuild)

    def travel(self) -> None:
        """Run every queue until all of them are empty."""
        while self.plan() + self.encode() + self.rebuild_all():
            continue

    def bytes_wire(self, version: str) -> int:
        found = find(self.there, receipt_key("recommender", version), Receipt)
        assert found is not None
        return found[0].bytes_wire

    def manifest(self, version: str) -> Manifest:
        return decode(self.there.get(manifest_key("recommender", version), 1 << 24)[0], "recommender", version)

    def whole(self, version: str) -> bool:
        return all(
            self.there.get(file_key("recommender", version, file.path), 1 << 28)[0]
            == self.here.get(file_key("recommender", version, file.path), 1 << 28)[0]
            for file in self.manifest(version).files
        )


def cloud_event(push: dict[str, Any]) -> CloudEvent:
    return CloudEvent(
        {"type": "google.cloud.pubsub.topic.v1.messagePublished", "source": "//pubsub.googleapis.com/t"}, push
    )


@pytest.fixture
def model(ground: GroundClient) -> Iterator[Model]:
    with variables(sdk_variables(ground)):
        sites = make_sites(ground)
        with variables(sites.environment):
            for entry in (entry_aws, entry_gcp):
                entry._clients.cache_clear()
            made = Model(sites)
            # S3 announces each notification that is set up with a test event.
            made.plan()
            yield made
    for entry in (entry_aws, entry_gcp):
        entry._clients.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    chance = np.random.default_rng(7)
    save_file(
        {f"layer{n}.weight": chance.standard_normal((700, 1_000), np.float32) for n in range(10)},
        root / "model.safetensors",
    )
    (root / "config.json").write_text('{"dim": 64}')
    (root / "maps").mkdir()
    (root / "maps" / "items.json").write_text(json.dumps(list(range(200_000))))
    return root


def test_a_version_arrives_proven_and_gets_its_alias(model: Model, folder: Path) -> None:
    lineage = {"data": {"rows": 10}, "metrics": {"recall": 0.25}}
    published = model.publish(folder, alias="prod", lineage=lineage, epoch=3)
    version = published.version
    # The alias event is there already and has to wait for the version.
    model.plan()
    with pytest.raises(NotFoundError):
        model.there.head(alias_key("recommender", "prod"))
    model.encode()
    pushes = model.pushes()
    assert len(pushes) == 4
    for push in pushes[:-1]:
        model.rebuild(push)
        with pytest.raises(NotFoundError):
            model.there.head(manifest_key("recommender", version))
    # The alias that waited comes with the last pack; its own event is delivered again later, and finds it there.
    model.rebuild(pushes[-1])
    assert alias.current(model.there, "recommender", "prod") == published.alias
    assert model.whole(version)
    key = manifest_key("recommender", version)
    assert model.there.get(key, 1 << 24)[0] == model.here.get(key, 1 << 24)[0]
    assert model.manifest(version).lineage == lineage
    for file in model.manifest(version).files:
        here, there = (store.head(file_key("recommender", version, file.path)) for store in (model.here, model.there))
        assert here.crc32c == there.crc32c == file.crc32c
    receipt = find(model.there, receipt_key("recommender", version), Receipt)
    assert receipt is not None
    assert (receipt[0].bytes_raw, receipt[0].site) == (published.bytes_raw, Site.GCP)
    assert 0 < receipt[0].bytes_wire < receipt[0].bytes_raw
    tensors = load(model.there.get(file_key("recommender", version, "model.safetensors"), 1 << 28)[0])
    assert tensors["layer3.weight"].shape == (700, 1_000)
    assert {info.key.split("/")[0] for info in model.there.list("")} == {
        "aliases",
        "manifests",
        "models",
        "receipts",
        "transfers",
    }


@pytest.mark.parametrize("seed", range(3))
def test_doubled_late_and_lost_events_end_the_same(model: Model, folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    version = model.publish(folder).version
    model.plan()
    model.encode()
    pushes = model.pushes()
    lost = pushes.pop(chance.randrange(len(pushes)))
    again = pushes * 2
    chance.shuffle(again)
    for push in again:
        model.rebuild(push)
    with pytest.raises(NotFoundError):
        model.manifest(version)
    # The source is asked once more, as a sweep would: everything is sent again and only what is missing is done.
    body = json.dumps(
        {
            "Records": [
                {"eventName": "ObjectCreated:Put", "s3": {"object": {"key": manifest_key("recommender", version)}}}
            ]
        }
    )
    with variables({SITE: Site.AWS}):
        assert entry_aws.artifact_plan({"Records": [record(body)]}, None) == {"batchItemFailures": []}
    model.encode()
    for push in model.pushes():
        model.rebuild(push)
    model.rebuild(lost)
    assert model.whole(version)
    assert not [info.key for prefix in ("parts/", "packs/", "pending/") for info in model.there.list(prefix)]


def record(body: str) -> dict[str, Any]:
    return {
        "messageId": "m",
        "receiptHandle": "r",
        "body": body,
        "attributes": {},
        "eventSourceARN": "arn:aws:sqs:a:b:c",
    }


def test_recorded_events_of_both_clouds_are_understood(model: Model, folder: Path) -> None:
    events = Path(__file__).parents[1] / "events"
    version = model.publish(folder).version
    text = (events / "s3_in_sqs.json").read_text().replace("3f" * 32, version)
    with variables({SITE: Site.AWS}):
        assert entry_aws.artifact_plan(json.loads(text), None) == {"batchItemFailures": []}
    jobs = [json.loads(found["body"]) for found in model.sites.receive("jobs")]
    assert {job["version"] for job in jobs} == {version}
    with variables({SITE: Site.GCP}):
        entry_gcp.artifact_rebuild(cloud_event(json.loads((events / "pubsub_push.json").read_text())))
        # It tells of a version that is not there: a store that is being restored, so it is to come again.
        with pytest.raises(VersionNotReadyError):
            entry_gcp.artifact_plan(cloud_event(json.loads((events / "gcs_notification.json").read_text())))
    reasons = [push["message"]["attributes"]["reason"] for push in model.sites.pull("dead")]
    assert ["does not have the fields" in reason for reason in reasons] == [True]


def test_messages_that_can_not_be_are_parked_with_their_reason(model: Model) -> None:
    sqs_body = json.dumps(
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "manifests/m/short.json"}}}]}
    )
    client = boto3.client("sqs")
    for queue, body in (("events", sqs_body), ("events", "no JSON"), ("jobs", '{"model": "m"}')):
        url = client.get_queue_url(QueueName=f"{model.sites.name}-{queue}")["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody=body)
    assert model.plan() == 2
    assert model.encode() == 1
    letters = model.sites.receive("letters")
    assert sorted(letter["body"] for letter in letters) == sorted([sqs_body, "no JSON", '{"model": "m"}'])
    assert all(letter["messageAttributes"]["reason"]["StringValue"] for letter in letters)


def test_bytes_that_do_not_match_the_manifest_never_show(model: Model, folder: Path) -> None:
    version = model.publish(folder).version
    model.here.put(file_key("recommender", version, "config.json"), b'{"dim": 65}')
    model.travel()
    with pytest.raises(NotFoundError):
        model.manifest(version)
    (letter,) = model.sites.receive("letters")
    assert "config.json" in letter["messageAttributes"]["reason"]["StringValue"]


@pytest.mark.usefixtures("no_faults")
def test_a_dead_far_side_keeps_the_events(model: Model, folder: Path, ground: GroundClient) -> None:
    version = model.publish(folder).version
    ground.fault(Cloud.GCP, FaultMode.BLACK_HOLE)
    assert model.plan() == 0
    ground.restore(Cloud.GCP)
    deadline = time.monotonic() + WAIT_SECONDS
    while not model.plan():
        assert time.monotonic() < deadline, "the manifest event did not come back"
        time.sleep(0.1)
    model.travel()
    assert model.whole(version)


def test_a_version_is_published_to_gcs_with_the_same_code(model: Model, folder: Path) -> None:
    here = model.publish(folder, alias="prod")
    there = publish(
        folder, "recommender", model.there, site=Site.GCP, authority=authority(Site.GCP), alias="prod", epoch=1
    )
    assert (there.version, there.created) == (here.version, True)
    assert model.whole(there.version)
    assert (
        publish(
            folder, "recommender", model.there, site=Site.GCP, authority=authority(Site.GCP), alias="prod", epoch=1
        ).bytes_sent
        == 0
    )


@pytest.mark.parametrize("site", list(Site))
def test_a_child_crosses_as_what_it_changed(model: Model, folder: Path, tmp_path: Path, site: Site) -> None:
    way = Model(model.sites, site)
    first = way.publish(folder, alias="prod")
    way.travel()
    assert way.whole(first.version)
    child = tmp_path / "child"
    shutil.copytree(folder, child)
    tensors = load((child / "model.safetensors").read_bytes())
    tensors["layer3.weight"] = tensors["layer3.weight"] * np.float32(1.001)
    save_file(tensors, child / "model.safetensors")
    second = way.publish(child, alias="prod", parent=first.version)
    way.travel()
    assert way.whole(second.version)
    assert alias.current(way.there, "recommender", "prod") == second.alias
    # One tensor of ten changed.
    assert way.bytes_wire(second.version) < 0.1 * way.bytes_wire(first.version)
    for file in way.manifest(second.version).files:
        here, there = (
            store.head(file_key("recommender", second.version, file.path)) for store in (way.here, way.there)
        )
        assert here.crc32c == there.crc32c == file.crc32c
    # And back again: the next one is published where the second one arrived, on the parent that came over.
    back = way.back
    tensors["layer3.weight"] = tensors["layer3.weight"] * np.float32(1.001)
    save_file(tensors, child / "model.safetensors")
    third = back.publish(child, alias="prod", parent=second.version, epoch=1)
    back.travel()
    assert back.whole(third.version)
    assert alias.current(back.there, "recommender", "prod") == third.alias
    assert back.bytes_wire(third.version) < 0.1 * way.bytes_wire(first.version)
    # Nothing goes round: what arrived is not sent back.
    way.travel()
    assert not way.pushes() and not way.sites.receive("rebuild")


def test_a_parent_that_is_not_there_costs_bytes_and_no_more(model: Model, folder: Path, tmp_path: Path) -> None:
    first = model.publish(folder)
    model.travel()
    child = tmp_path / "child"
    shutil.copytree(folder, child)
    (child / "config.json").write_text('{"dim": 65}')
    second = model.publish(child, parent=first.version)
    model.plan()
    # Planned with the parent there; then the far side loses one of its files, and another is not what it was.
    model.there.delete(file_key("recommender", first.version, "config.json"))
    model.there.put(file_key("recommender", first.version, "model.safetensors"), b"\x00" * 28_000_904)
    model.travel()
    assert model.whole(second.version)
    assert model.bytes_wire(second.version) > 0.9 * model.bytes_wire(first.version)


@pytest.mark.parametrize("site", list(Site))
def test_a_version_whose_events_were_lost_arrives_by_the_sweep(
    model: Model, folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = Model(model.sites, site)
    published = way.publish(folder, alias="prod")
    model.sites.receive("events")
    model.pushes("events")
    # As if nothing had moved for longer than the sweeper waits.
    monkeypatch.setattr("functions.artifacts.sweep.QUIET_MS", -60_000)
    with variables({SITE: Site.AWS}):
        swept = {Site.AWS: entry_aws.artifact_sweep({}, None)}
    with variables({SITE: Site.GCP}):
        swept[Site.GCP] = entry_gcp.artifact_sweep(Request.from_values())  # type: ignore[arg-type]
    assert swept[site]["sent"] == 1
    assert swept[site.peer]["sent"] == 0
    while way.encode() + way.rebuild_all():
        continue
    assert way.whole(published.version)
    assert alias.current(way.there, "recommender", "prod") == published.alias
