"""Signatures of both sites: what is signed, who may have signed it, and how anybody checks it.

Statements stand in DSSE envelopes (https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md): ECDSA on P-256 with
SHA-256 over the pre-authentication encoding of the payload. A site's key never leaves its key service, which is given the digest
alone: a payload of any size can be signed although AWS KMS takes messages of 4,096 bytes
(https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html). A key's id is the SHA-256 of its public half, so an id can't
be given to another key, and a site may have several: the new one signs while what the old ones signed stays good. This module
refuses to check with a key service: who has the public keys can check everything while either cloud is away.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functions.artifacts.errors import ManifestError, SignatureError
from functions.settings import Site

PAYLOAD_TYPE = "application/vnd.in-toto+json"
# A site signs with one key. More signatures may stand beside it, but nobody has us check a thousand.
MOST_SIGNATURES = 8
# An ECDSA signature on P-256 in DER has 72 bytes at most.
MOST_SIGNATURE_CHARACTERS = 128


class Signer(Protocol):
    """One site's key, wherever it is kept."""

    @property
    def public_key_pem(self) -> str:
        """The public half; AccessDeniedError, StoreUnavailableError."""

    def sign(self, digest: bytes) -> bytes:
        """Return an ECDSA signature, DER, over a SHA-256 digest; AccessDeniedError, ThrottledError, StoreUnavailableError."""


class _Signature(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    keyid: Annotated[str, Field(max_length=256)] = ""
    sig: Annotated[str, Field(max_length=MOST_SIGNATURE_CHARACTERS)]


class _Envelope(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    payloadType: str  # noqa: N815 - DSSE's own name
    payload: str
    signatures: Annotated[list[_Signature], Field(min_length=1, max_length=MOST_SIGNATURES)]


@dataclass(frozen=True)
class Sealed:
    """A payload and the signatures beside it as (key id, DER); nothing here says that they are good."""

    payload: bytes
    signatures: Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Trust:
    """The public keys of both sites by key id."""

    keys: Mapping[str, tuple[Site, ec.EllipticCurvePublicKey]]

    @classmethod
    def of(cls, pems: Mapping[Site, Sequence[str]]) -> "Trust":
        """Return the trust in these keys, PEM by site. Raises SignatureError for anything that is no public key on P-256."""
        found: dict[str, tuple[Site, ec.EllipticCurvePublicKey]] = {}
        for site, texts in pems.items():
            for text in texts:
                key = public_key(text)
                found[key_id(key)] = (site, key)
        return cls(found)

    def check(self, sealed: Sealed, site: Site, what: str) -> str:
        """Return the id of the key of `site` that signed; SignatureError, naming `what`, if none of its keys did."""
        digest = pae_digest(sealed.payload)
        strangers = []
        for name, signature in sealed.signatures:
            owner, key = self.keys.get(name, (None, None))
            if key is None or owner is not site:
                strangers.append(f"key {name[:12] or 'without id'} of {owner or 'nobody known'}")
                continue
            try:
                key.verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
            except InvalidSignature:
                strangers.append(f"key {name[:12]} of {site}, with a signature that is not over these bytes")
                continue
            return name
        raise SignatureError(
            f"{what} is not signed by site {site}: it carries {', '.join(strangers)}. "
            "If the site has a new key, deploy the stack so that every function knows it; if not, find out who wrote this"
        )


@dataclass(frozen=True)
class Authority:
    """What a site needs to make statements: its own key, and the public keys of both sites."""

    signer: Signer
    trust: Trust


def seal(payload: bytes, signer: Signer) -> bytes:
    """Return a payload in an envelope with the signer's signature."""
    envelope = _Envelope(
        payloadType=PAYLOAD_TYPE,
        payload=base64.b64encode(payload).decode(),
        signatures=[
            _Signature(
                keyid=key_id(public_key(signer.public_key_pem)),
                sig=base64.b64encode(signer.sign(pae_digest(payload))).decode(),
            )
        ],
    )
    return envelope.model_dump_json().encode()


def unseal(data: bytes, what: str) -> Sealed:
    """Return what an envelope holds; ManifestError, naming `what`, if it is none."""
    try:
        envelope = _Envelope.model_validate_json(data)
        if envelope.payloadType != PAYLOAD_TYPE:
            raise ValueError(f"payload type {envelope.payloadType[:80]!r} is not {PAYLOAD_TYPE}")
        return Sealed(
            base64.b64decode(envelope.payload, validate=True),
            [(each.keyid, base64.b64decode(each.sig, validate=True)) for each in envelope.signatures],
        )
    except (ValidationError, binascii.Error, ValueError) as error:
        raise ManifestError(f"{what} is no signed statement: {_short(error)}. Publish it again") from error


def pae_digest(payload: bytes) -> bytes:
    """Return the SHA-256 of DSSE's pre-authentication encoding of a payload: what is signed."""
    digest = hashlib.sha256(f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode())
    digest.update(payload)
    return digest.digest()


def public_key(pem: str) -> ec.EllipticCurvePublicKey:
    """Return the key that a PEM text holds; SignatureError for any other kind."""
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError as error:
        raise SignatureError(f"{pem[:60]!r} is no public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError("a signing key is an elliptic curve key on P-256; this one is of another kind")
    return key


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256, in hexadecimal, of a key's SubjectPublicKeyInfo in DER."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
    return str(error)[:200]
