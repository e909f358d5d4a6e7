"""Both directions of feature replication on a running ground, made of the very archives that the program deploys."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from aws_cloud import BUCKET as AWS_BUCKET
from aws_cloud import FUNCTION as AWS_FUNCTION
from aws_cloud import REGION, AwsCloud, arn
from gcp_toys import FUNCTION, TABLE, ToyCloud, wait_for
from google.cloud.bigtable_v2 import BigtableClient
from google.cloud.bigtable_v2.services.bigtable.transports import BigtableGrpcTransport

from functions import settings
from functions.errors import FunctionError
from functions.features.client import FeatureStore
from functions.settings import Site
from functions.stores.clients import Clients
from functions.stores.protocols import Row
from infra.archives import function_archive
from local.clouds.gcp.dataflow import JOB_TYPE, TEMPLATE
from local.ground.client import GroundClient

LOCATION = "europe-west4"
# Every fault of the template, and of a pipeline that delivers at least once.
ROUGH = {"duplicated": 0.25, "shuffled": True, "delay_seconds": 0.05}
DELETES = 0.2


@dataclass
class Seeded:
    """What a seeded run of writes came to."""

    seed: int
    operations: int = 0
    refused: int = 0
    deletes: int = 0
    seconds: float = 0.0
    by_site: Counter[Site] = field(default_factory=Counter)


class TwoWays:
    """Two tables, and everything between them both ways. Call inside `variables(sdk_variables(ground))`."""

    def __init__(self, ground: GroundClient, scratch: Path) -> None:
        self.ground = ground
        self.gcp = ToyCloud(ground, scratch)
        self.aws = AwsCloud(ground, scratch)
        self.name = self.gcp.project
        self.instance = f"{self.name}-i"
        tables = {
            "aws": {"table": f"{self.name}-features"},
            "gcp": {
                "project": self.name,
                "instance": self.instance,
                "table": "features",
                "app_profile": "replication",
            },
        }
        self.environment = {
            settings.ARTIFACT_BUCKETS: json.dumps({"aws": f"{self.name}-aws", "gcp": f"{self.name}-gcp"}),
            settings.FEATURE_TABLES: json.dumps(tables),
            "AWS_DEFAULT_REGION": REGION,
        }
        self._http = httpx.Client(timeout=90, trust_env=False)
        self._tables()
        self._forth()
        self._back()
        self.clients = self.made_clients()

    def made_clients(self) -> Clients:
        """Return clients of their own, as each host of a service has them."""
        variables = {**self.ground.environment(), **self.environment, settings.SITE: Site.AWS.value}
        return Clients(settings.read(variables), variables)

    def clear(self) -> None:
        """Take everything away, newest first."""
        self._http.close()
        self.gcp.clear()
        self.aws.clean()

    def _tables(self) -> None:
        self.aws.create(AWS_BUCKET, f"{self.name}-aws", {"bucket": f"{self.name}-aws", "forceDestroy": True})
        self.gcp.bucket("gcp")
        self.stream = self.aws.table(f"{self.name}-features")
        self.gcp.create(
            TABLE,
            f"projects/{self.name}/instances/{self.instance}/tables/features",
            {
                "name": "features",
                "instanceName": self.instance,
                "columnFamilies": [{"family": settings.FEATURE_FAMILY}],
                "changeStreamRetention": "168h0m0s",
            },
        )
        self.gcp.create(
            "gcp:bigtable/gCPolicy:GCPolicy",
            f"{self.name}-versions",
            {
                "instanceName": self.instance,
                "table": "features",
                "columnFamily": settings.FEATURE_FAMILY,
                "gcRules": '{"rules":[{"max_version":1}]}',
                "project": self.name,
            },
        )

    def _forth(self) -> None:
        archive = function_archive(Site.AWS)
        name = f"{self.name}-forth"
        self.aws.create(
            AWS_FUNCTION,
            name,
            {
                "name": name,
                "handler": "functions.entry_aws.features_apply",
                "runtime": "python3.13",
                "timeout": 60.0,
                "memorySize": 1024.0,
                "code": {"archive": str(archive.path), "sha256": archive.sha256},
                "environment": {"variables": {**self.environment, settings.SITE: Site.AWS.value}},
            },
            {"arn": arn("lambda", f"function:{name}")},
        )
        self.mapping = self.aws.mapping(
            self.stream,
            name,
            startingPosition="TRIM_HORIZON",
            batchSize=1000.0,
            parallelizationFactor=4.0,
            bisectBatchOnFunctionError=True,
            functionResponseTypes=["ReportBatchItemFailures"],
        )

    def _back(self) -> None:
        archive = function_archive(Site.GCP)
        code = self.gcp.upload_code(archive.path.read_bytes())
        url = self.gcp.url("features")
        variables = {**self.environment, settings.SITE: Site.GCP.value}
        inputs = self.gcp.function_inputs(
            code, "features_apply", environmentVariables=variables, maxInstanceRequestConcurrency=100, timeoutSeconds=20
        )
        self.gcp.create(FUNCTION, self.gcp.function_id("features"), inputs, {"url": url})
        self.topic = self.gcp.topic("changes")
        self.dead = self.gcp.subscription("dead", self.gcp.topic("dead"))
        self.subscription = self.gcp.subscription(
            "apply",
            self.topic,
            pushConfig={"pushEndpoint": url},
            ackDeadlineSeconds=20,
            retryPolicy={"minimumBackoff": "0.2s", "maximumBackoff": "2s"},
            deadLetterPolicy={"deadLetterTopic": f"projects/{self.name}/topics/dead", "maxDeliveryAttempts": 100},
        )
        self.job = f"{self.name}-changes"
        self.gcp.create(
            JOB_TYPE,
            self.job,
            {
                "name": self.job,
                "project": self.name,
                "region": LOCATION,
                "containerSpecGcsPath": f"gs://dataflow-templates-{LOCATION}/latest/flex/{TEMPLATE}",
                "parameters": {
                    "bigtableReadInstanceId": self.instance,
                    "bigtableReadTableId": "features",
                    "bigtableChangeStreamAppProfile": "replication",
                    "pubSubTopic": "changes",
                    "stripValues": "true",
                    "dlqDirectory": f"gs://{self.name}-gcp/dead-letters",
                },
            },
        )

    def disturb(self, **faults: Any) -> None:
        """Set the faults of the local template; none sets what it does by itself."""
        answer = self._http.put(f"{self.ground.endpoints.gcp_api}/dataflow/faults", json=faults)
        assert answer.status_code == 200, answer.text

    def store(self, site: Site, skew_ms: int = 0, clients: Clients | None = None) -> FeatureStore:
        """Return the features of a site as a service there sees them; its clock may be wrong."""
        return FeatureStore((clients or self.clients).rows(site), site, lambda: time.time_ns() // 1_000_000 + skew_ms)

    def rows(self, site: Site) -> dict[str, Row]:
        """Return a site's whole table."""
        return {row.key: row for row in self.clients.rows(site).scan()}

    def different(self) -> list[str]:
        """Return the keys that the two tables do not hold with the same bytes and version."""
        here, there = self.rows(Site.AWS), self.rows(Site.GCP)
        return sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))

    def delete_outright(self, key: str) -> None:
        """Delete a Bigtable row as a program does that knows no tombstones."""
        with grpc.insecure_channel(self.ground.endpoints.bigtable) as channel:
            BigtableClient(transport=BigtableGrpcTransport(channel=channel)).mutate_row(
                table_name=f"projects/{self.name}/instances/{self.instance}/tables/features",
                row_key=key.encode(),
                mutations=[{"delete_from_row": {}}],
            )

    def job_statistics(self) -> dict[str, Any]:
        return dict(self.gcp.statistics()["jobs"][self.job])

    def waiting(self) -> int:
        """Return how many records and messages are known to be under way."""
        pushes = self.gcp.statistics()["subscriptions"][self.subscription]["waiting"]
        return int(pushes) + int(self.aws.source_statistics(self.mapping)["pending"])

    def moved(self) -> tuple[int, ...]:
        """Return counters that every record and message in either direction moves."""
        statistics = self.gcp.statistics()
        source = self.aws.source_statistics(self.mapping)
        pushes = statistics["subscriptions"][self.subscription]
        job = statistics["jobs"][self.job]
        return (job["changes"], job["published"], pushes["pulled"], pushes["delivered"], source["pending"])

    def settle(self, limit_seconds: float) -> float:
        """Wait until both tables are equal and nothing is under way; return how long it took."""
        began = time.monotonic()
        wait_for(
            lambda: not self.waiting() and not self.different(), "both tables equal, nothing under way", limit_seconds
        )
        return time.monotonic() - began

    def parked(self) -> list[str]:
        """Return what either side has parked."""
        found = []
        for site in Site:
            found += [info.key for info in self.clients.objects(site).list("parked/features/")]
        return found

    def write(self, seed: int, operations: int, keys: int, writers: int, skew_ms: int, rate: float = 0.0) -> Seeded:
        """Write from both sides at once on the same keys, with clocks that differ; returns counts.

        `rate` bounds the operations a second over all writers; 0 leaves them free.
        """
        done = Seeded(seed)
        lock = threading.Lock()
        began = time.monotonic()

        def run(number: int) -> None:
            chance = random.Random(f"{seed}-{number}")
            site = list(Site)[number % 2]
            store = self.store(site, chance.randint(-skew_ms, skew_ms), self.made_clients())
            for turn in range(operations // writers):
                if rate:
                    due = began + (turn + chance.random()) * writers / rate
                    threading.Event().wait(max(0.0, due - time.monotonic()))
                key = f"key#{chance.randrange(keys):05d}"
                delete = chance.random() < DELETES
                try:
                    if delete:
                        store.delete(key)
                    else:
                        expires = 4_000_000_000 if chance.random() < 0.1 else 0
                        store.set(
                            key, {"n": turn, "by": f"{site}-{number}", "raw": chance.randbytes(8)}, expires=expires
                        )
                except FunctionError:
                    with lock:
                        done.refused += 1
                    continue
                with lock:
                    done.operations += 1
                    done.deletes += delete
                    done.by_site[site] += 1

        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(run, range(writers)))
        done.seconds = time.monotonic() - began
        return done


def quiet(ways: TwoWays, still_seconds: float = 2.0, limit_seconds: float = 20.0) -> float:
    """Wait until no record and no message has moved for so long; return when the last one moved, in seconds from now.

    The echo of the last write and what Bigtable's collector tells come after the tables are equal; what goes round in a loop
    never stops.
    """
    began = last = time.monotonic()
    before = ways.moved()
    while time.monotonic() - last < still_seconds:
        assert time.monotonic() - began < limit_seconds, f"something still goes round: {before} became {ways.moved()}"
        threading.Event().wait(0.05)
        if (now := ways.moved()) != before:
            before, last = now, time.monotonic()
    return last - began


def summary(done: Seeded, statistics: Mapping[str, Any], settled: float) -> str:
    """Return a run's counts in one line."""
    return (
        f"seed {done.seed}: {done.operations} operations ({done.deletes} deletes, {dict(done.by_site)}),"
        f" {done.refused} refused, {done.seconds:.1f} s; {statistics['changes']} changes,"
        f" {statistics['published']} messages of which {statistics['duplicates']} twice; settled in {settled:.1f} s"
    )
