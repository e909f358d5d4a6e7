"""Both directions of artifact replication on a running ground, made of the very archives that the program deploys."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from functions import settings
from functions.artifacts import alias
from functions.artifacts.documents import Receipt, Transfer, find
from functions.artifacts.manifest import Manifest, decode
from functions.artifacts.paths import alias_key, file_key, manifest_key, manifests_prefix, receipt_key, transfer_key
from functions.artifacts.publish import Published, publish
from functions.artifacts.third import ThirdStore
from functions.settings import Site
from functions.stores.clients import Clients
from infra.archives import function_archive
from local.ground.client import GroundClient
from tests.local.aws_cloud import BUCKET as AWS_BUCKET
from tests.local.aws_cloud import FUNCTION as AWS_FUNCTION
from tests.local.aws_cloud import NOTIFICATION as AWS_NOTIFICATION
from tests.local.aws_cloud import REGION, AwsCloud, arn
from tests.local.gcp_toys import FUNCTION, NOTIFICATION, ToyCloud, wait_for
from tests.unit.artifacts.signing import authority, pems

STEPS = ("plan", "encode", "rebuild")
MODEL = "recommender"
PREFIXES = ("manifests/", "aliases/")
TRANSIENT = ("pending/", "packs/", "parts/")


class ArtifactWays:
    """Two buckets, and everything between them both ways. Call inside `variables(sdk_variables(ground))`."""

    def __init__(self, ground: GroundClient, scratch: Path, **variables: str) -> None:
        self.ground = ground
        self.gcp = ToyCloud(ground, scratch)
        self.aws = AwsCloud(ground, scratch)
        self.name = self.gcp.project
        topics = {use: f"projects/{self.name}/topics/{use}" for use in ("jobs", "rebuild")}
        url = f"https://sqs.{REGION}.amazonaws.com/123456789012/{self.name}"
        queues = {
            "aws": {"jobs": f"{url}-jobs", "rebuilds": f"{url}-rebuild"},
            "gcp": {"jobs": topics["jobs"], "rebuilds": topics["rebuild"]},
        }
        self.environment = {
            settings.ARTIFACT_BUCKETS: json.dumps({"aws": f"{self.name}-aws", "gcp": f"{self.name}-gcp"}),
            settings.ARTIFACT_QUEUES: json.dumps(queues),
            settings.SIGNING_KEYS: json.dumps(pems()),
            settings.DEAD_TOPIC: f"projects/{self.name}/topics/dead",
            settings.R2_ACCOUNT: "0" * 32,
            settings.R2_BUCKET: f"{self.name}-r2",
            settings.R2_KEY: "projects/p/secrets/s/versions/latest",
            "AWS_DEFAULT_REGION": REGION,
            **variables,
        }
        r2 = boto3.client("s3", endpoint_url=ground.endpoints.r2, region_name="us-east-1")
        r2.create_bucket(Bucket=f"{self.name}-r2")
        self._on_aws()
        self._on_gcp()
        self.clients = self.made_clients()

    def made_clients(self) -> Clients:
        """Return clients of their own."""
        found = {**self.ground.environment(), **self.environment, settings.SITE: Site.AWS.value}
        return Clients(settings.read(found), found)

    def clear(self) -> None:
        """Take everything away, newest first."""
        self.gcp.clear()
        self.aws.clean()

    def _on_aws(self) -> None:
        self.aws.create(
            AWS_BUCKET,
            f"{self.name}-aws",
            {"bucket": f"{self.name}-aws", "forceDestroy": True},
            {"region": REGION, "bucket": f"{self.name}-aws"},
        )
        archive = function_archive(Site.AWS)
        self.aws.queue(f"{self.name}-letters")
        redrive = json.dumps({"deadLetterTargetArn": arn("sqs", f"{self.name}-letters"), "maxReceiveCount": 50})
        for step, queue in zip(STEPS, ("events", "jobs", "rebuild"), strict=True):
            name = f"{self.name}-{step}"
            self.aws.queue(f"{self.name}-{queue}", visibilityTimeoutSeconds=20.0, redrivePolicy=redrive)
            self.aws.create(
                AWS_FUNCTION,
                name,
                {
                    "name": name,
                    "handler": f"functions.entry_aws.artifact_{step}",
                    "runtime": "python3.13",
                    "timeout": 20.0,
                    "memorySize": 1769.0,
                    "code": {"archive": str(archive.path), "sha256": archive.sha256},
                    "environment": {"variables": {**self.environment, settings.SITE: Site.AWS.value}},
                },
                {"arn": arn("lambda", f"function:{name}")},
            )
            self.aws.mapping(
                arn("sqs", f"{self.name}-{queue}"),
                name,
                batchSize=10.0 if step == "plan" else 1.0,
                functionResponseTypes=["ReportBatchItemFailures"],
            )
        queues = [
            {
                "id": prefix.strip("/"),
                "queueArn": arn("sqs", f"{self.name}-events"),
                "events": ["s3:ObjectCreated:*"],
                "filterPrefix": prefix,
            }
            for prefix in PREFIXES
        ]
        self.aws.create(
            AWS_NOTIFICATION,
            f"{self.name}-notification",
            {"bucket": f"{self.name}-aws", "queues": queues},
            {"region": REGION},
        )

    def _on_gcp(self) -> None:
        bucket = self.gcp.bucket("gcp")
        code = self.gcp.upload_code(function_archive(Site.GCP).path.read_bytes())
        dead = self.gcp.topic("dead")
        self.dead = self.gcp.subscription("dead", dead)
        self.pushes = []
        for step, use in zip(STEPS, ("events", "jobs", "rebuild"), strict=True):
            topic, url = self.gcp.topic(use), self.gcp.url(step)
            variables = {
                **self.environment,
                settings.SITE: Site.GCP.value,
                "GOOGLE_FUNCTION_SIGNATURE_TYPE": "cloudevent",
            }
            inputs = self.gcp.function_inputs(
                code,
                f"artifact_{step}",
                environmentVariables=variables,
                maxInstanceRequestConcurrency=1,
                timeoutSeconds=20,
            )
            self.gcp.create(FUNCTION, self.gcp.function_id(step), inputs, {"url": url})
            self.pushes.append(
                self.gcp.subscription(
                    step,
                    topic,
                    pushConfig={"pushEndpoint": url},
                    ackDeadlineSeconds=20,
                    retryPolicy={"minimumBackoff": "1s", "maximumBackoff": "20s"},
                    deadLetterPolicy={"deadLetterTopic": dead, "maxDeliveryAttempts": 100},
                )
            )
            if use == "events":
                for number, prefix in enumerate(PREFIXES, 1):
                    self.gcp.create(
                        NOTIFICATION,
                        f"{bucket}/notificationConfigs/{number}",
                        {
                            "bucket": bucket,
                            "topic": topic,
                            "payloadFormat": "JSON_API_V1",
                            "eventTypes": ["OBJECT_FINALIZE"],
                            "objectNamePrefix": prefix,
                        },
                    )

    def publish(self, site: Site, folder: Path, **more: Any) -> Published:
        """Publish a folder on a site."""
        return publish(folder, MODEL, self.clients.objects(site), site=site, authority=authority(site), **more)

    def arrived(self, published: Published, site: Site) -> bool:
        """Tell whether a version stands proven on a site, and the alias that it was published with points to it there."""
        store = self.clients.objects(site)
        if not self.arrived_version(published.version, site):
            return False
        return published.alias is None or alias.current(store, MODEL, published.alias.alias) == published.alias

    def arrived_version(self, version: str, site: Site) -> bool:
        """Tell whether a version stands proven on a site."""
        return find(self.clients.objects(site), receipt_key(MODEL, version), Receipt) is not None

    def dead_letters(self) -> list[str]:
        """Return why messages were given up, and take them away."""
        client = self.aws.client("sqs")
        url = client.get_queue_url(QueueName=f"{self.name}-letters")["QueueUrl"]
        found = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        reasons = [
            str(message.get("MessageAttributes", {}).get("reason", {}).get("StringValue", message["Body"]))
            for message in found.get("Messages", [])
        ]
        return reasons + [message.attributes.get("reason", "") for message in self.gcp.pulled(self.dead)]

    def await_arrival(self, published: Published, site: Site, limit_seconds: float = 60.0) -> float:
        """Wait until a version has arrived on a site; return how long that took."""
        began = time.monotonic()
        wait_for(lambda: self.arrived(published, site), f"{published.version[:12]} on {site}", limit_seconds)
        return time.monotonic() - began

    @property
    def third(self) -> ThirdStore:
        """The third copy's bucket."""
        found = self.clients.third
        assert found is not None
        return found

    def missing_in_third(self, published: Published, site: Site) -> list[str]:
        """Return the keys of a version, and of its alias, that the third copy does not hold with the bytes of a site."""
        here = self.clients.objects(site)
        files = self.manifest(site, published.version).files
        keys = [
            manifest_key(MODEL, published.version),
            *(file_key(MODEL, published.version, each.path) for each in files),
        ]
        keys += [alias_key(MODEL, published.alias.alias)] if published.alias else []
        present = {info.key for prefix in ("models/", *PREFIXES) for info in self.third.list(prefix)}
        return [
            key for key in keys if key not in present or self.third.get(key, 1 << 28)[0] != here.get(key, 1 << 28)[0]
        ]

    def manifest(self, site: Site, version: str) -> Manifest:
        """Return a version's manifest as a site shows it."""
        data = self.clients.objects(site).get(manifest_key(MODEL, version), 1 << 24)[0]
        return decode(data, MODEL, version)

    def bytes_wire(self, site: Site, version: str) -> int:
        """Return what crossed for a version that a site received."""
        found = find(self.clients.objects(site), transfer_key(MODEL, version), Transfer)
        assert found is not None
        return found[0].bytes_wire

    def different(self) -> list[str]:
        """Return what the two sites do not hold with the same bytes: files of every version, manifests, aliases."""
        stores = {site: self.clients.objects(site) for site in Site}
        keys: set[str] = set()
        for site, store in stores.items():
            keys |= {info.key for prefix in PREFIXES for info in store.list(prefix)}
            for info in store.list(manifests_prefix(MODEL)):
                version = info.key.removeprefix(manifests_prefix(MODEL)).removesuffix(".json")
                manifest = self.manifest(site, version)
                keys |= {file_key(MODEL, version, file.path) for file in manifest.files}
        found = []
        for key in sorted(keys):
            heads = []
            for store in stores.values():
                listed = [info for info in store.list(key) if info.key == key]
                heads.append((listed[0].size, store.head(key).crc32c) if listed else None)
            if heads[0] is None or heads[0] != heads[1]:
                found.append(key)
        return found

    def leftovers(self, site: Site) -> list[str]:
        """Return what a transfer has left on a site."""
        store = self.clients.objects(site)
        return [info.key for prefix in TRANSIENT for info in store.list(prefix)]

    def until(self, condition: Callable[[], Any], what: str, limit_seconds: float = 60.0) -> Any:
        """Return the condition's first true value within a limit."""
        return wait_for(condition, what, limit_seconds)
