"""R2 buckets, made on the store that stands in for R2."""

import asyncio
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.clouds.cloudflare.errors import R2Error
from local.clouds.context import CloudContext
from local.state import Resource

BUCKET = "cloudflare:index/r2Bucket:R2Bucket"
# R2's one region is `auto`; the store that stands in for it takes buckets without a location only in its first region.
REGION = "us-east-1"
TIMEOUT_SECONDS = 5
OWNED_ALREADY = frozenset(("BucketAlreadyOwnedByYou", "BucketAlreadyExists"))


class R2BucketActor:
    """Makes and removes buckets; objects are never removed with their bucket, as on R2."""

    def __init__(self, context: CloudContext) -> None:
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=context.ground.endpoints.r2,
            region_name=REGION,
            aws_access_key_id="lifeboat",
            aws_secret_access_key="local",  # noqa: S106 - the local store takes any
            config=Config(
                connect_timeout=TIMEOUT_SECONDS, read_timeout=TIMEOUT_SECONDS, retries={"total_max_attempts": 2}
            ),
        )

    async def ensure(self, resource: Resource) -> None:
        """Create the bucket unless it is there. Raises R2Error."""
        await self._call("create", resource, partial(self._client.create_bucket, Bucket=_name(resource)), OWNED_ALREADY)

    async def remove(self, resource: Resource) -> None:
        """Remove the bucket. Raises R2Error when it still holds objects."""
        gone = frozenset(("NoSuchBucket", "404"))
        await self._call("delete", resource, partial(self._client.delete_bucket, Bucket=_name(resource)), gone)

    async def _call(self, verb: str, resource: Resource, call: partial[Any], fine: frozenset[str]) -> None:
        try:
            await asyncio.to_thread(call)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in fine:
                hint = "; empty it first, R2 keeps what it holds" if code == "BucketNotEmpty" else ""
                raise R2Error(f"R2 bucket {_name(resource)}: {verb} failed with {code}{hint}") from error
        except BotoCoreError as error:
            raise R2Error(f"R2 bucket {_name(resource)}: {verb} got no answer from R2: {error}") from error


def _name(resource: Resource) -> str:
    return str(resource.inputs.get("name") or resource.name)
