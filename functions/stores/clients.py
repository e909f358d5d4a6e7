"""Clients of both clouds, made when first used and kept for the life of the process.

Endpoints come from the standard variables of each SDK, so a handler never knows whether it talks to a cloud or to an emulator.
Time limits are tight: a lost cloud must cost a handler seconds, and its queue tries again.
"""

import os
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from functions.errors import SettingsError
from functions.settings import ARTIFACT_BUCKETS, FEATURE_TABLES, Settings, Site
from functions.stores.protocols import AdoptingRowStore, MessageQueue, ObjectStore, RowStore

if TYPE_CHECKING:
    import requests

    from functions.stores.queues import SqsSource

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_AWS_TOKEN = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105 - names a kind of token
_CONNECTIONS = 32


class Clients:
    """The stores and queues that `settings` name. Heavy libraries load only with the store that needs them."""

    def __init__(self, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._environment = environment
        self.aws: Callable[[str], Any] = lru_cache(maxsize=None)(_aws_client)

    def objects(self, site: Site) -> ObjectStore:
        """Return the artifact bucket of `site`."""
        bucket = self._settings.artifact_buckets.get(site)
        if not bucket:
            raise SettingsError(
                f"{ARTIFACT_BUCKETS} names no bucket for site {site}; add it to the function's environment"
            )
        if site is Site.AWS:
            from functions.stores.s3 import S3Objects

            return S3Objects(self.aws("s3"), bucket)
        from functions.stores.gcs import GcsObjects

        endpoint = self._environment.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        return GcsObjects(self._google_session, endpoint.rstrip("/"), bucket)

    def rows(self, site: Site) -> RowStore:
        """Return the feature table of `site`."""
        return self.adopting_rows if site is Site.AWS else self._bigtable

    @cached_property
    def adopting_rows(self) -> AdoptingRowStore:
        """The DynamoDB table, which programs unaware of versions write to as well."""
        from functions.stores.dynamodb import DynamoDbRows

        table = self._settings.dynamodb_table
        if table is None:
            raise SettingsError(f"{FEATURE_TABLES} names no table for site aws; add it to the function's environment")
        return DynamoDbRows(self.aws("dynamodb"), table.table)

    def queue(self, url: str) -> MessageQueue:
        """Return an SQS queue by its URL."""
        from functions.stores.queues import SqsQueue

        return SqsQueue(self.aws("sqs"), url)

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
    def _bigtable(self) -> RowStore:
        from functions.stores import bigtable

        table = self._settings.bigtable_table
        if table is None:
            raise SettingsError(f"{FEATURE_TABLES} names no table for site gcp; add it to the function's environment")
        return bigtable.BigtableRows(self._channel("BIGTABLE_EMULATOR_HOST", bigtable.HOST), table)

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


def _aws_client(service: str) -> Any:
    import boto3
    from botocore.config import Config

    limits = Config(
        connect_timeout=2,
        read_timeout=20,
        retries={"total_max_attempts": 2, "mode": "standard"},
        max_pool_connections=_CONNECTIONS,
    )
    return boto3.client(service, config=limits)
