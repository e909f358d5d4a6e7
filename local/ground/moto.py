"""moto's server with two changes.

No line of log a request: pollers would fill the disk of a ground that runs for days. And KMS signs a digest as the real one does:
moto hashes what it is given once more even when MessageType says that it is a digest already
(https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html), so that nothing but moto could check the signature.
"""

import logging
from contextvars import ContextVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.responses import KmsResponse
from moto.kms.utils import ECDSAPrivateKey
from moto.server import main

_is_digest: ContextVar[bool] = ContextVar("_is_digest", default=False)
_respond, _sign = KmsResponse.sign, ECDSAPrivateKey.sign


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


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    KmsResponse.sign = _respond_by_type  # type: ignore[assignment,method-assign]  # see above
    ECDSAPrivateKey.sign = _sign_by_type  # type: ignore[assignment,method-assign]  # see above
    main()
