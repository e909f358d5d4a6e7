"""SDK clients of the AWS cloud's own machinery, against the ground's public endpoints: a fault cuts them off as well."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from local.clouds.context import CloudContext

# The region of things that say none: S3's own default.
DEFAULT_REGION = "us-east-1"
CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
# Longer than a queue's long poll, short enough that a poller behind a hanging cloud is back soon after it answers.
POLLING_READ_SECONDS = 4.0

Result = TypeVar("Result")


class AwsClients:
    """Makes and keeps one client a service and region; safe from any thread."""

    def __init__(self, context: CloudContext) -> None:
        environment = context.ground.environment()
        self._session = boto3.Session(
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )
        self._general = environment["AWS_ENDPOINT_URL"]
        self._special = {
            "dynamodb": environment["AWS_ENDPOINT_URL_DYNAMODB"],
            "dynamodbstreams": environment["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"],
        }
        # Making a client is not thread-safe in boto3, using one is.
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str, float], Any] = {}

    def client(self, service: str, region: str = DEFAULT_REGION) -> Any:
        """Return the client of a service in a region, for calls that a user waits for."""
        return self._client(service, region, READ_SECONDS, attempts=2)

    def polling(self, service: str, region: str) -> Any:
        """Return the client of a service in a region for a poller, which has its own pauses and needs no retries."""
        return self._client(service, region, POLLING_READ_SECONDS, attempts=1)

    def _client(self, service: str, region: str, read_seconds: float, attempts: int) -> Any:
        with self._lock:
            key = (service, region, read_seconds)
            if key not in self._clients:
                config = Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=read_seconds,
                    retries={"total_max_attempts": attempts, "mode": "standard"},
                    max_pool_connections=32,
                    s3={"addressing_style": "path"},
                )
                self._clients[key] = self._session.client(
                    service,
                    region_name=region,
                    endpoint_url=self._special.get(service, self._general),
                    config=config,
                )
            return self._clients[key]


async def call(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Run a blocking SDK call in a thread."""
    return await asyncio.to_thread(function, *arguments, **options)
