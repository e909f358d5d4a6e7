"""gRPC calls to Google's data services with their own message classes, without the client libraries around them.

The official Bigtable client wraps every cell and row in Python objects and is several times slower than the wire itself
(https://github.com/googleapis/python-bigtable/issues/988); a function that applies batches of rows needs neither.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from functions.stores.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    PreconditionFailedError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    ThrottledError,
)

# Bigtable takes requests of up to 256 MiB; gRPC's own default of 4 MiB for answers is below one large read.
_OPTIONS = [
    ("grpc.max_send_message_length", 256 << 20),
    ("grpc.max_receive_message_length", 256 << 20),
    # A cloud that comes back after an outage must be tried again within seconds, not after the default two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]

_BY_CODE: dict[Any, type[StoreError]] = {
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: PreconditionFailedError,
    grpc.StatusCode.FAILED_PRECONDITION: StoreRefusedError,
    grpc.StatusCode.INVALID_ARGUMENT: StoreRefusedError,
    grpc.StatusCode.OUT_OF_RANGE: StoreRefusedError,
    grpc.StatusCode.UNIMPLEMENTED: StoreRefusedError,
    grpc.StatusCode.PERMISSION_DENIED: AccessDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: AccessDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ThrottledError,
    grpc.StatusCode.ABORTED: ConflictError,
}

# google.rpc.Code numbers that a later try can turn: DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE,
# UNKNOWN, CANCELLED, UNAUTHENTICATED, PERMISSION_DENIED (https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto).
TRANSIENT_CODES = frozenset((1, 2, 4, 7, 8, 10, 13, 14, 16))


def open_channel(emulator: str | None, host: str, credentials: Any | None) -> Any:
    """Return a channel to an emulator (plain text), or to `host` with calls signed by `credentials`."""
    if emulator:
        return grpc.insecure_channel(emulator, options=_OPTIONS)
    from google.auth.transport.grpc import AuthMetadataPlugin  # only real clouds need it
    from google.auth.transport.requests import Request

    plugin = AuthMetadataPlugin(credentials, Request())  # type: ignore[no-untyped-call]  # annotated in part only
    signed = grpc.metadata_call_credentials(plugin)
    both = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(), signed)
    return grpc.secure_channel(host, both, options=_OPTIONS)


@contextmanager
def rpc_errors(where: str) -> Iterator[None]:
    """Turn a failed call into the error type that callers decide by."""
    try:
        yield
    except grpc.RpcError as error:
        kind = _BY_CODE.get(error.code(), StoreUnavailableError)
        raise kind(f"{where}: {error.code().name} {error.details()}") from error
