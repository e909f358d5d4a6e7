"""Cloud KMS for keys that sign: no emulator of it exists, so the two calls that signing needs are answered here.

A key version is an elliptic curve key in this cloud's own folder. https://cloud.google.com/kms/docs/reference/rest
(asymmetricSign, getPublicKey). Of all algorithms there is the one that the program asks for.
"""

import asyncio
import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any

from awscrt import checksums  # type: ignore[import-untyped]  # ships no types
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local.clouds.context import CloudContext
from local.state import Resource

KEY_VERSION_TYPE = "gcp:kms/cryptoKeyVersion:CryptoKeyVersion"
ALGORITHM = "EC_SIGN_P256_SHA256"
SIGN = ":asymmetricSign"
PUBLIC_KEY = "/publicKey"


class KeyVersionActor:
    """`gcp:kms/cryptoKeyVersion:CryptoKeyVersion`, and the REST calls that use it."""

    def __init__(self, context: CloudContext) -> None:
        self._folder = context.folder / "keys"

    async def ensure(self, resource: Resource) -> None:
        """Make the key; one that is there stays."""
        await asyncio.to_thread(self._make, self._path(resource.id))

    async def remove(self, resource: Resource) -> None:
        """Destroy the key."""
        self._path(resource.id).unlink(missing_ok=True)

    def route(self) -> BaseRoute:
        """Return the route of both calls."""

        async def answer(request: Request) -> JSONResponse:
            name = request.path_params["name"]
            version = name.removesuffix(SIGN).removesuffix(PUBLIC_KEY)
            if not self._path(version).exists():
                return _problem(404, "NOT_FOUND", f"CryptoKeyVersion {version} not found.")
            if name.endswith(PUBLIC_KEY) and request.method == "GET":
                return JSONResponse({"name": version, "algorithm": ALGORITHM, "pem": self._public(version)})
            if name.endswith(SIGN) and request.method == "POST":
                return self._sign(version, await request.json())
            return _problem(404, "NOT_FOUND", f"no method at {name}")

        return Route("/v1/{name:path}", answer, methods=["GET", "POST"])

    def _sign(self, version: str, body: dict[str, Any]) -> JSONResponse:
        try:
            digest = base64.b64decode(str((body.get("digest") or {}).get("sha256")), validate=True)
        except binascii.Error:
            digest = b""
        if len(digest) != hashes.SHA256.digest_size:
            return _problem(400, "INVALID_ARGUMENT", f"digest.sha256 is needed for {ALGORITHM}: 32 bytes in base64")
        told = body.get("digestCrc32c")
        if told is not None and int(told) != checksums.crc32c(digest):
            return _problem(400, "INVALID_ARGUMENT", "digest_crc32c does not match the digest")
        signature = self._key(version).sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        return JSONResponse(
            {
                "name": version,
                "signature": base64.b64encode(signature).decode(),
                "signatureCrc32c": str(checksums.crc32c(signature)),
                "verifiedDigestCrc32c": told is not None,
                "protectionLevel": "SOFTWARE",
            }
        )

    def _make(self, path: Path) -> None:
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        whole = path.with_suffix(".new")
        whole.write_bytes(data)
        whole.chmod(0o600)
        whole.rename(path)

    def _public(self, version: str) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key(version).public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def _key(self, version: str) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self._path(version).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "this class makes no others"
        return key

    def _path(self, version: str) -> Path:
        return self._folder / f"{hashlib.sha256(version.encode()).hexdigest()[:32]}.pem"


def _problem(code: int, status: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "status": status, "message": message}}, code)
