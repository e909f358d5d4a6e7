"""moto's server with three changes.

No line of log a request: pollers would fill the disk of a ground that runs for days. And KMS signs a digest as the real one does:
moto hashes what it is given once more even when MessageType says that it is a digest already
(https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html), so that nothing but moto could check the signature.
And a KMS key that is made with our tag has that id, which moto would make up: rights, aliases and functions name keys by
their ARN, and the program knows only the one that its provider computed.
"""

import logging
from contextvars import ContextVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms import models as kms_models
from moto.kms.responses import KmsResponse
from moto.kms.utils import ECDSAPrivateKey
from moto.server import main

from local.names import KEY_ID_TAG

_is_digest: ContextVar[bool] = ContextVar("_is_digest", default=False)
_key_id: ContextVar[str | None] = ContextVar("_key_id", default=None)
_respond, _sign = KmsResponse.sign, ECDSAPrivateKey.sign
_create, _generate_id = KmsResponse.create_key, kms_models.generate_key_id  # type: ignore[attr-defined]  # imported there


def _respond_by_type(response: KmsResponse) -> str:
    token = _is_digest.set(response._get_param("MessageType") == "DIGEST")
    try:
        return _respond(response)
    finally:
        _is_digest.reset(token)


def _sign_by_type(key: ECDSAPrivateKey, message: bytes, signing_algorithm: str) -> bytes:
    if _is_digest.get() and signing_algorithm == "ECDSA_SHA_256":
        return key.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))
    return _sign(key, message, signing_algorithm)


def _create_as_tagged(response: KmsResponse) -> str:
    tags = {tag["TagKey"]: tag["TagValue"] for tag in response._get_param("Tags") or ()}
    token = _key_id.set(tags.get(KEY_ID_TAG))
    try:
        return _create(response)
    finally:
        _key_id.reset(token)


def _id_as_tagged(multi_region: bool = False) -> str:
    return _key_id.get() or _generate_id(multi_region)


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    KmsResponse.sign = _respond_by_type  # type: ignore[assignment,method-assign]  # see above
    ECDSAPrivateKey.sign = _sign_by_type  # type: ignore[assignment,method-assign]  # see above
    KmsResponse.create_key = _create_as_tagged  # type: ignore[assignment,method-assign]  # see above
    kms_models.generate_key_id = _id_as_tagged  # type: ignore[attr-defined]  # see above
    main()
