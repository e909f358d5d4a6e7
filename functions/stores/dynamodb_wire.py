"""DynamoDB's JSON protocol without the SDK's layers: body, signature, a kept connection.

botocore takes 0.8 to 0.9 ms of processor time for a conditional put, nearly all of it for its model, rules and hooks; this
takes a quarter. Conditional puts have no batch form in DynamoDB, so the price is paid for every row that is applied. Credentials,
their renewal and the signature stay botocore's.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html
"""

import base64
import json
import os
import random
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path

from functions.stores.errors import (
    AccessDeniedError,
    NotFoundError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    ThrottledError,
)

_VERSION = "DynamoDB_20120810"
_LOST = "ConditionalCheckFailedException"
# A second try hides a connection that the server closed, and a moment's throttling; the rest is the queues' business.
_PAUSE_SECONDS = 0.05
_BY_CODE: Mapping[str, type[StoreError]] = {
    "ResourceNotFoundException": NotFoundError,
    "ProvisionedThroughputExceededException": ThrottledError,
    "RequestLimitExceeded": ThrottledError,
    "ThrottlingException": ThrottledError,
    "AccessDeniedException": AccessDeniedError,
    "UnrecognizedClientException": AccessDeniedError,
    "ExpiredTokenException": AccessDeniedError,
    "ValidationException": StoreRefusedError,
    "ItemCollectionSizeLimitExceededException": StoreRefusedError,
}


class ConditionLostError(StoreError):
    """A condition did not hold; `item` is what stood there."""

    def __init__(self, item: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__("condition lost")
        self.item = item


class _BrokenError(StoreUnavailableError):
    """No answer, or none that can be read, and at once: worth a second try."""


class DynamoDbWire:
    """The endpoint, region, credentials and time limits of a boto3 client, from any thread."""

    def __init__(self, client: Any) -> None:
        config = client.meta.config
        self._url = client.meta.endpoint_url.rstrip("/") + "/"
        self._region = client.meta.region_name
        # What the client signs with; it has no public name. Asked anew for each call, as they end with time.
        self._credentials = client._request_signer._credentials
        limits = urllib3.Timeout(connect=config.connect_timeout, read=config.read_timeout)
        self._send = _sender(self._url, config.max_pool_connections, limits)

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a call in the SDK's form, binary values as bytes.

        Raises ConditionLostError for a condition that did not hold, else the store error of the answer.
        """
        body = json.dumps(request, default=_binary).encode()
        try:
            return self._try(operation, body)
        except (ThrottledError, _BrokenError):
            time.sleep(random.uniform(0.0, _PAUSE_SECONDS))  # noqa: S311 - spreads retries, guards nothing
            return self._try(operation, body)

    def _try(self, operation: str, body: bytes) -> dict[str, Any]:
        signed = AWSRequest(
            "POST",
            self._url,
            headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"{_VERSION}.{operation}"},
            data=body,
        )
        try:
            if self._credentials is None:
                raise AccessDeniedError("no AWS credentials are configured; set them, or the role of this function")
            signer = SigV4Auth(self._credentials.get_frozen_credentials(), "dynamodb", self._region)
            signer.add_auth(signed)
            answer = self._send(body, dict(signed.headers.items()))
        except (BotoCoreError, urllib3.exceptions.TimeoutError) as error:
            # A table that hangs is not asked a second time: a batch would outlast its function's time.
            raise StoreUnavailableError(f"{operation}: no usable answer ({error}); try again") from error
        except urllib3.exceptions.HTTPError as error:
            raise _BrokenError(f"{operation}: the connection broke ({error}); try again") from error
        told = answer.headers.get("x-amz-crc32")
        if told is not None and int(told) != zlib.crc32(answer.data):
            raise _BrokenError(f"{operation}: the answer was damaged on its way; try again")
        try:
            found: dict[str, Any] = json.loads(answer.data)
        except ValueError as error:
            raise _BrokenError(f"{operation}: HTTP {answer.status} without JSON; try again") from error
        if answer.status == 200:
            return found
        raise _error(operation, answer.status, found)


def decoded(item: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return an item of an answer as the SDK gives it: binary values decoded."""
    return {name: _value(value) for name, value in item.items()}


def error_type(code: str, status: int) -> type[StoreError]:
    """Return what DynamoDB's code for an error means to callers."""
    return _BY_CODE.get(code, StoreRefusedError if 400 <= status < 500 else StoreUnavailableError)


def _value(value: Mapping[str, Any]) -> dict[str, Any]:
    kind, content = next(iter(value.items()))
    if kind == "B":
        return {kind: base64.b64decode(content)}
    if kind == "BS":
        return {kind: [base64.b64decode(each) for each in content]}
    if kind == "M":
        return {kind: decoded(content)}
    return {kind: [_value(each) for each in content] if kind == "L" else content}


def _binary(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in DynamoDB's JSON")


def _error(operation: str, status: int, found: Mapping[str, Any]) -> StoreError:
    code = str(found.get("__type", "")).rpartition("#")[2]
    if code == _LOST:
        return ConditionLostError(decoded(found.get("Item") or {}))
    return error_type(code, status)(f"{operation}: {code} {found.get('message') or found.get('Message') or ''}")


def _sender(url: str, connections: int, limits: urllib3.Timeout) -> Callable[[bytes, Mapping[str, str]], Any]:
    """Return what posts a body over kept connections, through the environment's proxy where it names one."""
    parts = urlsplit(url)
    options: dict[str, Any] = {"maxsize": connections, "block": True, "timeout": limits}
    if parts.scheme == "https":
        options["ca_certs"] = get_cert_path(os.environ.get("AWS_CA_BUNDLE") or True)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        manager = urllib3.ProxyManager(proxy, **options)
        return lambda body, headers: manager.urlopen("POST", url, body=body, headers=headers, retries=False)
    pool = urllib3.connection_from_url(url, **options)
    return lambda body, headers: pool.urlopen("POST", "/", body=body, headers=headers, retries=False)
