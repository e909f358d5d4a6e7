"""Key services as signers: AWS KMS and Google Cloud KMS, each given a digest and nothing else."""

import base64
from functools import cached_property
from typing import TYPE_CHECKING, Any

from functions.stores.checksums import crc32c
from functions.stores.errors import (
    AccessDeniedError,
    NotFoundError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    ThrottledError,
)

if TYPE_CHECKING:
    import requests

_TIMEOUT_SECONDS = (3.0, 10.0)
_DENIED = frozenset({"AccessDeniedException", "KMSInvalidStateException", "DisabledException"})


class AwsKmsSigner:
    """A key of AWS KMS (ECC_NIST_P256, SIGN_VERIFY) by its alias or ARN. `client` is a boto3 KMS client."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key

    @cached_property
    def public_key_pem(self) -> str:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

        der = self._call("get_public_key")["PublicKey"]
        return load_der_public_key(der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, digest: bytes) -> bytes:
        answer = self._call("sign", Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
        signature: bytes = answer["Signature"]
        return signature

    def _call(self, verb: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"key {self._key}"
        try:
            return getattr(self._client, verb)(KeyId=self._key, **arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            kind: type[StoreError] = (
                NotFoundError
                if code == "NotFoundException"
                else AccessDeniedError
                if code in _DENIED or status == 403
                else ThrottledError
                if code == "ThrottlingException" or status == 429
                else StoreUnavailableError
                if status >= 500 or not status
                else StoreRefusedError
            )
            raise kind(f"{where}: {code} {error.response.get('Error', {}).get('Message', '')}") from error
        except BotoCoreError as error:
            raise StoreUnavailableError(f"{where}: no usable answer ({error}); try again") from error


class GoogleKmsSigner:
    """A key version of Cloud KMS (EC_SIGN_P256_SHA256) by its full name. `session` signs the requests to `endpoint`."""

    def __init__(self, session: "requests.Session", endpoint: str, version: str) -> None:
        self._session = session
        self._url = f"{endpoint.rstrip('/')}/v1/{version}"
        self._version = version

    @cached_property
    def public_key_pem(self) -> str:
        return str(self._call("GET", f"{self._url}/publicKey")["pem"])

    def sign(self, digest: bytes) -> bytes:
        answer = self._call(
            "POST",
            f"{self._url}:asymmetricSign",
            {
                "digest": {"sha256": base64.b64encode(digest).decode()},
                # Both ways are checked (https://cloud.google.com/kms/docs/data-integrity-guidelines).
                "digestCrc32c": str(crc32c(digest)),
            },
        )
        signature = base64.b64decode(answer["signature"])
        if not answer.get("verifiedDigestCrc32c") or int(answer["signatureCrc32c"]) != crc32c(signature):
            raise StoreUnavailableError(f"key {self._version}: the answer was damaged on its way; try again")
        return signature

    def _call(self, method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        import requests
        from google.auth.exceptions import GoogleAuthError

        where = f"key {self._version}"
        try:
            answer = self._session.request(method, url, json=body, timeout=_TIMEOUT_SECONDS)
            if answer.status_code < 400:
                value: dict[str, Any] = answer.json()
                return value
        except (requests.RequestException, GoogleAuthError, ValueError) as error:
            raise StoreUnavailableError(f"{where}: no usable answer ({error}); try again") from error
        kinds: dict[int, type[StoreError]] = {
            401: AccessDeniedError,
            403: AccessDeniedError,
            404: NotFoundError,
            429: ThrottledError,
        }
        kind = kinds.get(answer.status_code, StoreRefusedError if answer.status_code < 500 else StoreUnavailableError)
        raise kind(f"{where}: HTTP {answer.status_code} {answer.text[:300]}")
