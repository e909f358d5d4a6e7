"""Clients of both clouds, made when first used and kept for the life of the process.

Endpoints come from the standard variables of each SDK, so a handler never knows whether it talks to a cloud or to an emulator.
Time limits are tight: a lost cloud must cost a handler seconds, and its queue tries again.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from functions.errors import SettingsError
from functions.settings import (
    ARTIFACT_BUCKETS,
    ARTIFACT_QUEUES,
    FEATURE_TABLES,
    REDIS,
    REDIS_PLAIN,
    SIGNING_KEY,
    USER_DATABASES,
    Settings,
    Site,
)
from functions.stores.protocols import AdoptingRowStore, FeatureTable, MessageQueue, ObjectStore, RowStore

if TYPE_CHECKING:
    import requests
    from redis import Redis

    from functions.artifacts.golden import Golden
    from functions.artifacts.sign import Authority, Signer, Trust
    from functions.bridge.carriers import BridgeQueue, BridgeTopic
    from functions.features.feast.layout import FeastView
    from functions.features.feast.stores import FeastBigtableRows
    from functions.stores.postgres import DataApi, PostgresUserData
    from functions.stores.queues import SqsSource
    from functions.stores.s3 import R2Objects
    from functions.stores.spanner_userdata import SpannerUserData
    from functions.userdata.schema import Table

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_AWS_TOKEN = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105 - names a kind of token
# The name by which Google's own tools are told of another address of an API.
_KMS_ENDPOINT = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS"
_CONNECTIONS = 32
# DynamoDB answers in milliseconds: a table that does not is away, and a request must not wait for it as for a large object.
_READ_SECONDS = {"dynamodb": 5}


class Clients:
    """The stores and queues that `settings` name. Heavy libraries load only with the store that needs them."""

    def __init__(self, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._environment = environment
        self.aws: Callable[[str], Any] = lru_cache(maxsize=None)(self._aws_client)

    def objects(self, site: Site) -> ObjectStore:
        """Return the artifact bucket of `site`."""
        bucket = self.bucket(site)
        if site is Site.AWS:
            from functions.stores.s3 import S3Objects

            return S3Objects(self.aws("s3"), bucket)
        from functions.stores.gcs import GcsObjects

        endpoint = self._environment.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        return GcsObjects(self._google_session, endpoint.rstrip("/"), bucket)

    def bucket(self, site: Site) -> str:
        """Return the name of the artifact bucket of `site`."""
        bucket = self._settings.artifact_buckets.get(site)
        if not bucket:
            raise SettingsError(
                f"{ARTIFACT_BUCKETS} names no bucket for site {site}; add it to the function's environment"
            )
        return bucket

    @cached_property
    def third(self) -> "R2Objects | None":
        """The bucket of the third copy, None where the function was told of none."""
        bucket = self._settings.third_bucket
        if bucket is None:
            return None
        from functions.stores.third import open_third

        return open_third(bucket, self._environment, self.aws, lambda: self._google_session)

    @cached_property
    def trust(self) -> "Trust":
        """The public keys of both sites."""
        from functions.artifacts.sign import Trust

        return Trust.of(self._settings.signing_keys)

    def golden(self, site: Site) -> "Golden | None":
        """Return what asks a site's service whether it can serve a version, None where the settings name no service."""
        from functions.artifacts.golden import ask

        url = self._settings.golden_urls.get(site)
        return ask(url, self._settings.hostname, site, self._settings.probe_proxy) if url else None

    def authority(self, site: Site) -> "Authority":
        """Return what makes statements for a site: the signing key that the settings name, and both sites' public ones."""
        from functions.artifacts.sign import Authority

        key = self._settings.signing_key.get(site)
        if not key:
            raise SettingsError(f"{SIGNING_KEY} names no key of site {site}; add it to the environment")
        return Authority(self.signer_of(site, key), self.trust)

    def signer_of(self, site: Site, key: str) -> "Signer":
        """Return a site's signing key: the alias of a key of AWS KMS, or the full name of a key version of Cloud KMS."""
        from functions.stores.kms import AwsKmsSigner, GoogleKmsSigner

        if site is Site.AWS:
            return AwsKmsSigner(self.aws("kms"), key)
        endpoint = self._environment.get(_KMS_ENDPOINT) or "https://cloudkms.googleapis.com"
        return GoogleKmsSigner(self._google_session, endpoint, key)

    def rows(self, site: Site) -> RowStore:
        """Return the feature table of `site`."""
        return self.adopting_rows if site is Site.AWS else self._bigtable

    def home_rows(self, site: Site) -> AdoptingRowStore:
        """Return the feature table of `site` with the verbs for what programs unaware of versions did to it."""
        return self.feature_table(site)

    def feature_table(self, site: Site) -> FeatureTable:
        """Return the feature table of `site` with all its verbs."""
        return self.adopting_rows if site is Site.AWS else self._bigtable

    def feast_rows(self, view: "FeastView") -> "FeastBigtableRows":
        """Return a feature view's rows in the instance of site gcp, in Feast's own layout."""
        from functions.features.feast.stores import FeastBigtableRows
        from functions.stores.bigtable import HOST

        place = self._settings.bigtable_table
        if place is None:
            raise SettingsError(f"{FEATURE_TABLES} names no instance of site gcp; add it to the function's environment")
        return FeastBigtableRows(self._channel("BIGTABLE_EMULATOR_HOST", HOST), place, view)

    @cached_property
    def adopting_rows(self) -> FeatureTable:
        """The DynamoDB table, which programs unaware of versions write to as well."""
        from functions.stores.dynamodb import DynamoDbRows

        table = self._settings.dynamodb_table
        if table is None:
            raise SettingsError(f"{FEATURE_TABLES} names no table for site aws; add it to the function's environment")
        return DynamoDbRows(self.aws("dynamodb"), table.table)

    @property
    def has_user_data(self) -> bool:
        """Say whether the settings name both sites' user databases."""
        return self._settings.aurora is not None and self._settings.spanner is not None

    def aurora(self, tables: "Sequence[Table]") -> "PostgresUserData":
        """Return the user data of site aws."""
        from functions.stores.postgres import PostgresUserData

        return PostgresUserData(self.data_api, tables)

    @cached_property
    def data_api(self) -> "DataApi":
        """The database of site aws, for statements of any kind."""
        from functions.stores.postgres import DataApi

        place = self._settings.aurora
        if place is None:
            raise SettingsError(
                f"{USER_DATABASES} names no database for site aws; add it to the function's environment"
            )
        return DataApi(self.aws("rds-data"), place.cluster, place.secret, place.database)

    def spanner(self, tables: "Sequence[Table]", clock_ms: Callable[[], int]) -> "SpannerUserData":
        """Return the user data of site gcp."""
        from functions.stores.spanner import HOST, SpannerDatabase
        from functions.stores.spanner_userdata import SpannerUserData

        place = self._settings.spanner
        if place is None:
            raise SettingsError(
                f"{USER_DATABASES} names no database for site gcp; add it to the function's environment"
            )
        emulator = "SPANNER_EMULATOR_HOST"
        database = SpannerDatabase(self._channel(emulator, HOST), place.name)
        return SpannerUserData(database, tables, clock_ms, null_elements=not self._environment.get(emulator))

    @cached_property
    def redis(self) -> "Redis":
        """This site's Redis as a source of features."""
        from functions.stores.redis_login import aws_login, google_login, open_redis

        place = self._settings.redis
        if place is None:
            raise SettingsError(f"{REDIS} names no server; add it to the function's environment")
        if self._environment.get(REDIS_PLAIN):
            return open_redis(place, None)
        on_aws = self._settings.site is Site.AWS
        return open_redis(
            place, aws_login(self._aws_session, place) if on_aws else google_login(self._google_credentials, place)
        )

    def bridge_topic(self, name: str) -> "BridgeTopic":
        """Return a topic that the bridge sends to, by its full name."""
        from functions.bridge.carriers import BridgeTopic

        return BridgeTopic(self._channel("PUBSUB_EMULATOR_HOST", BridgeTopic.HOST), name)

    def bridge_queue(self, url: str) -> "BridgeQueue":
        """Return a queue that the bridge sends to, by its URL."""
        from functions.bridge.carriers import BridgeQueue

        return BridgeQueue(self.aws("sqs"), url)

    def queue(self, url: str) -> MessageQueue:
        """Return an SQS queue by its URL."""
        from functions.stores.queues import SqsQueue

        return SqsQueue(self.aws("sqs"), url)

    def artifact_jobs(self, site: Site) -> MessageQueue:
        """Return the queue of batches that `site` is to send."""
        return self._artifact_queue(site, "jobs")

    def artifact_rebuilds(self, site: Site) -> MessageQueue:
        """Return the queue of packs that have arrived on `site`."""
        return self._artifact_queue(site, "rebuilds")

    def _artifact_queue(self, site: Site, use: str) -> MessageQueue:
        found = self._settings.artifact_queues.get(site)
        if found is None:
            raise SettingsError(
                f"{ARTIFACT_QUEUES} names no queues for site {site}; add them to the function's environment"
            )
        reference: str = getattr(found, use)
        return self.queue(reference) if site is Site.AWS else self.topic(reference)

    @cached_property
    def sources(self) -> "SqsSource":
        """The queues that SQS events came from."""
        from functions.stores.queues import SqsSource

        return SqsSource(self.aws("sqs"))

    def topic(self, name: str) -> MessageQueue:
        """Return a Pub/Sub topic by its full name."""
        from functions.stores.queues import PubSubTopic

        return PubSubTopic(self._channel("PUBSUB_EMULATOR_HOST", PubSubTopic.HOST), name)

    @cached_property
    def _bigtable(self) -> FeatureTable:
        from functions.stores import bigtable

        table = self._settings.bigtable_table
        if table is None:
            raise SettingsError(f"{FEATURE_TABLES} names no table for site gcp; add it to the function's environment")
        return bigtable.BigtableRows(self._channel("BIGTABLE_EMULATOR_HOST", bigtable.HOST), table)

    def secret(self, reference: str) -> str:
        """Return a secret: by its ARN from AWS Secrets Manager, by projects/<p>/secrets/<s>/versions/<v> from Google's.

        Anything else is the secret itself, as a platform that injects secrets into the environment hands it over.
        """
        if reference.startswith("arn:"):
            found: str = self.aws("secretsmanager").get_secret_value(SecretId=reference)["SecretString"]
            return found
        if not reference.startswith("projects/"):
            return reference
        import base64

        url = f"https://secretmanager.googleapis.com/v1/{reference}:access"
        answer = self._google_session.get(url, timeout=10)
        answer.raise_for_status()
        return base64.b64decode(answer.json()["payload"]["data"]).decode()

    def _channel(self, emulator: str, host: str) -> Any:
        from functions.stores.wire import open_channel

        address = self._environment.get(emulator)
        return open_channel(address, host, None if address else self._google_credentials)

    @cached_property
    def _google_session(self) -> "requests.Session":
        import requests
        from requests.adapters import HTTPAdapter

        if self._environment.get("STORAGE_EMULATOR_HOST"):
            session = requests.Session()
        else:
            from google.auth.transport.requests import AuthorizedSession

            session = AuthorizedSession(self._google_credentials)  # type: ignore[no-untyped-call]  # annotated in part only
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_connections=_CONNECTIONS, pool_maxsize=_CONNECTIONS))
        return session

    @cached_property
    def _google_credentials(self) -> Any:
        """Workload identity federation where it is configured, else what the platform gives."""
        info = self._settings.google_credentials
        if info is None:
            import google.auth

            return google.auth.default(scopes=[_SCOPE])[0]
        from google.auth import aws, identity_pool

        kind = aws.Credentials if info.get("subject_token_type") == _AWS_TOKEN else identity_pool.Credentials
        return kind.from_info(dict(info), scopes=[_SCOPE])  # type: ignore[no-untyped-call]  # annotated in part only

    def _aws_client(self, service: str) -> Any:
        from botocore.config import Config

        limits = Config(
            connect_timeout=2,
            read_timeout=_READ_SECONDS.get(service, 20),
            retries={"total_max_attempts": 2, "mode": "standard"},
            max_pool_connections=_CONNECTIONS,
        )
        return self._aws_session.client(service, config=limits)

    @cached_property
    def _aws_session(self) -> Any:
        """What the platform gives; on the other cloud a role taken with the platform's own signed token."""
        import boto3

        role = self._settings.aws_role
        if not role or self._environment.get("AWS_ACCESS_KEY_ID"):
            return boto3.Session()
        from functions.stores.federation import role_session

        return role_session(role)
