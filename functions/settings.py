"""The only reader of a function's or service's environment, and the names that the program and the handlers share.

Parsing touches no network and no file, and imports nothing but the standard library: the program imports this module for the
names alone. Every problem is reported at once, with the variable, what it holds and what it may hold.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from functions.errors import SettingsError

SITE = "LIFEBOAT_SITE"
ARTIFACT_BUCKETS = "LIFEBOAT_ARTIFACT_BUCKETS"
FEATURE_TABLES = "LIFEBOAT_FEATURE_TABLES"
FEATURE_POLICIES = "LIFEBOAT_FEATURE_POLICIES"
FEAST_VIEWS = "LIFEBOAT_FEAST_VIEWS"
RECONCILE_ROWS_PER_SECOND = "LIFEBOAT_RECONCILE_ROWS_PER_SECOND"
ARTIFACT_QUEUES = "LIFEBOAT_ARTIFACT_QUEUES"
DEAD_TOPIC = "LIFEBOAT_DEAD_TOPIC"
R2_ACCOUNT = "LIFEBOAT_R2_ACCOUNT"
R2_BUCKET = "LIFEBOAT_R2_BUCKET"
R2_KEY = "LIFEBOAT_R2_KEY"
CHUNK_BYTES = "LIFEBOAT_CHUNK_BYTES"
BYTES_PER_SECOND = "LIFEBOAT_ARTIFACT_BYTES_PER_SECOND"
GOOGLE_CREDENTIALS = "LIFEBOAT_GOOGLE_CREDENTIALS"
AWS_ROLE = "LIFEBOAT_AWS_ROLE"
SIGNING_KEYS = "LIFEBOAT_SIGNING_KEYS"
SIGNING_KEY = "LIFEBOAT_SIGNING_KEY"
GOLDEN_URL = "LIFEBOAT_GOLDEN_URL"
HOSTNAME = "LIFEBOAT_HOSTNAME"
PROBE_PROXY = "LIFEBOAT_PROBE_PROXY"
RETENTION = "LIFEBOAT_RETENTION"
USER_DATABASES = "LIFEBOAT_USER_DATABASES"
REDIS = "LIFEBOAT_REDIS"
REDIS_PLAIN = "LIFEBOAT_REDIS_PLAIN"
FORWARD_SECONDS = "LIFEBOAT_FORWARD_SECONDS"
BRIDGE_TOPIC = "LIFEBOAT_BRIDGE_TOPIC"
BRIDGE_QUEUE = "LIFEBOAT_BRIDGE_QUEUE"
METRICS_NAMESPACE = "LIFEBOAT_METRICS_NAMESPACE"
MODEL = "LIFEBOAT_MODEL"
ALIAS = "LIFEBOAT_ALIAS"

# Layout of a feature row, the same names in the program (tables) and the handlers (reads and writes).
FEATURE_KEY = "entity"
FEATURE_VERSION = "v"
FEATURE_ENVELOPE = "e"
FEATURE_EXPIRES = "expires"
FEATURE_FAMILY = "row"

MEBIBYTE = 1 << 20

# An encoder takes about 64 MiB in: the best chunk measured by Skyplane (NSDI 2023) and the size of a Xet xorb agree on it, and
# one such pack still fits a single conditional upload.
DEFAULT_CHUNK_BYTES = 64 * MEBIBYTE

# Half a chunk must reach S3's least part of 5 MiB, since a plan may cut a chunk at a tensor border in its second half
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html). The upper bound is what a small function holds in memory.
CHUNK_BYTES_RANGE = (10 * MEBIBYTE, 256 * MEBIBYTE)

# Of one function that sends; 0 is no limit. Below a megabyte a second one chunk would outlast its function.
BYTES_PER_SECOND_RANGE = (1_000_000, 10_000_000_000)

# What a comparison of the feature tables reads a second on each side. Rows of 400 B at this pace cost DynamoDB 1,000 read units a
# second (half a unit for 4 KiB, https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html).
DEFAULT_RECONCILE_ROWS_PER_SECOND = 20_000
RECONCILE_ROWS_PER_SECOND_RANGE = (100, 1_000_000)

# How long one call of the forwarder of changes in Redis goes on; Lambda's longest call is the bound.
DEFAULT_FORWARD_SECONDS = 60
FORWARD_SECONDS_RANGE = (1, 900)

DEFAULT_MODEL = "recommender"
DEFAULT_ALIAS = "prod"
DEFAULT_METRICS_NAMESPACE = "Lifeboat"

# What a token that Google signs for an AWS role must name as its audience, so that one made for another use is refused.
AWS_ROLE_AUDIENCE = "lifeboat-aws"

_TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")
_PEM = "-----BEGIN PUBLIC KEY-----"
_ANY = re.compile(r"\S+")
_URL = re.compile(r"https?://\S+")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")


class Site(StrEnum):
    """One side of the service. Maps are keyed by it; roles (active, standby) change, sites do not."""

    AWS = "aws"
    GCP = "gcp"

    @property
    def peer(self) -> "Site":
        """Return the other side."""
        return Site.GCP if self is Site.AWS else Site.AWS


@dataclass(frozen=True)
class DynamoDbTable:
    """Where the features of site aws live."""

    table: str


@dataclass(frozen=True)
class BigtableTable:
    """Where the features of site gcp live; the app profile routes to one cluster and allows single-row transactions."""

    project: str
    instance: str
    table: str
    app_profile: str

    @property
    def name(self) -> str:
        """Return the full resource name of the table."""
        return f"projects/{self.project}/instances/{self.instance}/tables/{self.table}"


@dataclass(frozen=True)
class AuroraDatabase:
    """Where the user data of site aws lives: a cluster and the secret that its Data API signs in with, by their ARNs."""

    cluster: str
    secret: str
    database: str


@dataclass(frozen=True)
class SpannerPlace:
    """Where the user data of site gcp lives."""

    project: str
    instance: str
    database: str

    @property
    def name(self) -> str:
        """Return the full resource name of the database."""
        return f"projects/{self.project}/instances/{self.instance}/databases/{self.database}"


@dataclass(frozen=True)
class RedisPlace:
    """This site's Redis as a source of features, and how to sign in: `user` of `cache` on aws, by the account on gcp.

    `authority` is the certificate (PEM) that the server's is signed with, empty where the system knows it.
    """

    host: str
    port: int
    cache: str
    user: str
    authority: str = ""


@dataclass(frozen=True)
class ArtifactQueues:
    """A site's own queues of the artifact path: SQS URLs on aws, full names of Pub/Sub topics on gcp.

    `jobs` holds batches to send to the other site, `rebuilds` packs that came from it.
    """

    jobs: str
    rebuilds: str


@dataclass(frozen=True)
class ThirdBucket:
    """Where the third copy stands: a bucket of an R2 account, and which secret of this site's cloud holds its access key.

    `key` is the ARN of a secret on aws, the full name of a secret's version on gcp; its value is JSON with `access_key_id` and
    `secret_access_key`.
    """

    account: str
    bucket: str
    key: str


@dataclass(frozen=True)
class Retention:
    """Which versions stay whatever else: the newest `keep_versions` of a model, and all younger than `keep_days`."""

    keep_versions: int
    keep_days: int


@dataclass(frozen=True)
class Settings:
    """Everything a function or the service was told; what an entry needs beyond `site` it names to `read`."""

    site: Site
    artifact_buckets: Mapping[Site, str] = field(default_factory=dict)
    dynamodb_table: DynamoDbTable | None = None
    bigtable_table: BigtableTable | None = None
    feature_policies: Mapping[str, object] = field(default_factory=dict)
    feast_views: Mapping[str, object] = field(default_factory=dict)
    reconcile_rows_per_second: int = DEFAULT_RECONCILE_ROWS_PER_SECOND
    aurora: AuroraDatabase | None = None
    spanner: SpannerPlace | None = None
    redis: RedisPlace | None = None
    forward_seconds: int = DEFAULT_FORWARD_SECONDS
    bridge_topic: str = ""
    bridge_queue: str = ""
    artifact_queues: Mapping[Site, ArtifactQueues] = field(default_factory=dict)
    third_bucket: ThirdBucket | None = None
    signing_keys: Mapping[Site, tuple[str, ...]] = field(default_factory=dict)
    signing_key: Mapping[Site, str] = field(default_factory=dict)
    golden_urls: Mapping[Site, str] = field(default_factory=dict)
    hostname: str = ""
    probe_proxy: str = ""
    retention: Retention | None = None
    dead_topic: str = ""
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    bytes_per_second: int = 0
    google_credentials: Mapping[str, object] | None = None
    aws_role: str = ""
    metrics_namespace: str = DEFAULT_METRICS_NAMESPACE
    model: str = DEFAULT_MODEL
    alias: str = DEFAULT_ALIAS


def read(environment: Mapping[str, str], required: Iterable[str] = ()) -> Settings:
    """Return the settings that `environment` holds.

    `required` names variables that the caller can't work without. Raises SettingsError that lists every problem.
    """
    reader = _Reader(environment)
    reader.demand([SITE, *required])
    tables = reader.json_map(FEATURE_TABLES)
    dynamodb = reader.table(tables, Site.AWS, ("table",))
    bigtable = reader.table(tables, Site.GCP, ("project", "instance", "table", "app_profile"))
    databases = reader.json_map(USER_DATABASES)
    aurora = reader.table(databases, Site.AWS, ("cluster", "secret", "database"), USER_DATABASES)
    spanner = reader.table(databases, Site.GCP, ("project", "instance", "database"), USER_DATABASES)
    settings = Settings(
        site=reader.site(),
        artifact_buckets=reader.buckets(),
        dynamodb_table=DynamoDbTable(**dynamodb) if dynamodb else None,
        bigtable_table=BigtableTable(**bigtable) if bigtable else None,
        feature_policies=reader.json_map(FEATURE_POLICIES),
        feast_views=reader.json_map(FEAST_VIEWS),
        reconcile_rows_per_second=reader.whole_number(
            RECONCILE_ROWS_PER_SECOND, DEFAULT_RECONCILE_ROWS_PER_SECOND, RECONCILE_ROWS_PER_SECOND_RANGE
        ),
        aurora=AuroraDatabase(**aurora) if aurora else None,
        spanner=SpannerPlace(**spanner) if spanner else None,
        redis=reader.redis(),
        forward_seconds=reader.whole_number(FORWARD_SECONDS, DEFAULT_FORWARD_SECONDS, FORWARD_SECONDS_RANGE),
        bridge_topic=reader.topic(BRIDGE_TOPIC),
        bridge_queue=reader.queue_url(BRIDGE_QUEUE),
        artifact_queues=reader.queues(),
        third_bucket=reader.third_bucket(),
        signing_keys=reader.signing_keys(),
        signing_key=reader.by_site(SIGNING_KEY, "the name of a key", _ANY),
        golden_urls=reader.by_site(GOLDEN_URL, "an http or https URL", _URL),
        hostname=environment.get(HOSTNAME, ""),
        probe_proxy=reader.url(PROBE_PROXY),
        retention=reader.retention(),
        dead_topic=reader.topic(DEAD_TOPIC),
        chunk_bytes=reader.whole_number(CHUNK_BYTES, DEFAULT_CHUNK_BYTES, CHUNK_BYTES_RANGE),
        bytes_per_second=reader.whole_number(BYTES_PER_SECOND, 0, BYTES_PER_SECOND_RANGE),
        google_credentials=reader.json_map(GOOGLE_CREDENTIALS) or None,
        aws_role=reader.role(AWS_ROLE),
        metrics_namespace=environment.get(METRICS_NAMESPACE) or DEFAULT_METRICS_NAMESPACE,
        model=environment.get(MODEL) or DEFAULT_MODEL,
        alias=environment.get(ALIAS) or DEFAULT_ALIAS,
    )
    if reader.problems:
        raise SettingsError(
            "settings of this function can't be used: "
            + "; ".join(reader.problems)
            + ". Correct the function's environment and deploy again."
        )
    return settings


class _Reader:
    """Collects problems instead of raising at the first."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def demand(self, names: Iterable[str]) -> None:
        self.problems += [f"{name} is not set" for name in dict.fromkeys(names) if not self._environment.get(name)]

    def site(self) -> Site:
        value = self._environment.get(SITE, "")
        try:
            return Site(value)
        except ValueError:
            if value:
                self.problems.append(f"{SITE} is {value!r}, allowed: {', '.join(Site)}")
            return Site.AWS

    def json_map(self, name: str) -> Mapping[str, object]:
        text = self._environment.get(name, "")
        if not text:
            return {}
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self.problems.append(f"{name} is no JSON object")
            return {}
        return MappingProxyType(value)

    def buckets(self) -> Mapping[Site, str]:
        found: dict[Site, str] = {}
        for name, bucket in self.json_map(ARTIFACT_BUCKETS).items():
            if name in set(Site) and isinstance(bucket, str) and bucket:
                found[Site(name)] = bucket
            else:
                self.problems.append(
                    f"{ARTIFACT_BUCKETS} has {name!r}: {bucket!r}, allowed: a bucket name for {', '.join(Site)}"
                )
        return MappingProxyType(found)

    def table(
        self, tables: Mapping[str, object], site: Site, names: tuple[str, ...], variable: str = FEATURE_TABLES
    ) -> Mapping[str, str] | None:
        value = tables.get(site)
        if value is None:
            return None
        found = value if isinstance(value, dict) else {}
        texts = {name: text for name in names if isinstance(text := found.get(name), str) and text}
        missing = [name for name in names if name not in texts]
        if missing:
            self.problems.append(f"{variable} lacks {', '.join(missing)} for {site}")
            return None
        return texts

    def redis(self) -> RedisPlace | None:
        given = self.json_map(REDIS)
        if not given:
            return None
        texts = {name: given.get(name) for name in ("host", "cache", "user")}
        port, authority = str(given.get("port", "")), given.get("authority", "")
        if not all(isinstance(text, str) and text for text in texts.values()) or not port.isdecimal():
            self.problems.append(f"{REDIS} must hold host, port, cache and user")
            return None
        return RedisPlace(port=int(port), authority=str(authority), **{name: str(text) for name, text in texts.items()})

    def queue_url(self, name: str) -> str:
        return self.url(name, "the URL of an SQS queue")

    def url(self, name: str, allowed: str = "an http or https URL") -> str:
        value = self._environment.get(name, "")
        if value and not value.startswith(("http://", "https://")):
            self.problems.append(f"{name} is {value!r}, allowed: {allowed}")
        return value

    def third_bucket(self) -> ThirdBucket | None:
        names = (R2_ACCOUNT, R2_BUCKET, R2_KEY)
        values = [self._environment.get(name, "") for name in names]
        if not any(values):
            return None
        self.demand(names)
        return ThirdBucket(*values)

    def signing_keys(self) -> Mapping[Site, tuple[str, ...]]:
        found: dict[Site, tuple[str, ...]] = {}
        for name, pems in self.json_map(SIGNING_KEYS).items():
            texts = pems if isinstance(pems, list) else []
            if name in set(Site) and texts and all(isinstance(pem, str) and pem.startswith(_PEM) for pem in texts):
                found[Site(name)] = tuple(texts)
            else:
                self.problems.append(
                    f"{SIGNING_KEYS} has {name!r}: {str(pems)[:60]!r}, allowed: a list of public keys in PEM"
                    f" for {', '.join(Site)}"
                )
        return MappingProxyType(found)

    def by_site(self, variable: str, allowed: str, form: re.Pattern[str]) -> Mapping[Site, str]:
        found: dict[Site, str] = {}
        for name, value in self.json_map(variable).items():
            if name in set(Site) and isinstance(value, str) and form.fullmatch(value):
                found[Site(name)] = value
            else:
                self.problems.append(f"{variable} has {name!r}: {value!r}, allowed: {allowed} for {', '.join(Site)}")
        return MappingProxyType(found)

    def retention(self) -> Retention | None:
        value = self.json_map(RETENTION)
        numbers = [value.get(name) for name in ("keep_versions", "keep_days")]
        if not value:
            return None
        if len(value) == 2 and all(type(number) is int and number >= 1 for number in numbers):
            return Retention(*(int(str(number)) for number in numbers))
        self.problems.append(
            f"{RETENTION} is {dict(value)!r}, allowed: keep_versions and keep_days, whole numbers from 1"
        )
        return None

    def queues(self) -> Mapping[Site, ArtifactQueues]:
        found: dict[Site, ArtifactQueues] = {}
        for name, value in self.json_map(ARTIFACT_QUEUES).items():
            fields = value if isinstance(value, dict) else {}
            texts = [text for key in ("jobs", "rebuilds") if isinstance(text := fields.get(key), str)]
            right = all(
                text.startswith(("http://", "https://")) if name == Site.AWS else _TOPIC.fullmatch(text)
                for text in texts
            )
            if name in set(Site) and len(texts) == len(fields) == 2 and right:
                found[Site(name)] = ArtifactQueues(*texts)
            else:
                self.problems.append(
                    f"{ARTIFACT_QUEUES} has {name!r}: {value!r}, allowed: jobs and rebuilds for {', '.join(Site)},"
                    " URLs of SQS queues for aws, projects/<project>/topics/<topic> for gcp"
                )
        return MappingProxyType(found)

    def role(self, name: str) -> str:
        value = self._environment.get(name, "")
        if value and not _ROLE.fullmatch(value):
            self.problems.append(f"{name} is {value!r}, allowed: arn:aws:iam::<account>:role/<role>")
        return value

    def topic(self, name: str) -> str:
        value = self._environment.get(name, "")
        if value and not _TOPIC.fullmatch(value):
            self.problems.append(f"{name} is {value!r}, allowed: projects/<project>/topics/<topic>")
        return value

    def whole_number(self, name: str, default: int, bounds: tuple[int, int]) -> int:
        text = self._environment.get(name, "")
        if not text:
            return default
        lowest, highest = bounds
        if not text.isdecimal() or not lowest <= int(text) <= highest:
            self.problems.append(f"{name} is {text!r}, allowed: a whole number from {lowest} to {highest}")
            return default
        return int(text)
