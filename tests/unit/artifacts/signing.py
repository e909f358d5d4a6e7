"""Keys of both sites for tests: the private halves in memory, as a key service holds them."""

from collections.abc import Mapping
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from functions.artifacts.sign import Authority, Trust
from functions.settings import Site


class MemorySigner:
    """A key on P-256."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.signed = 0

    @property
    def public_key_pem(self) -> str:
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, digest: bytes) -> bytes:
        self.signed += 1
        return self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@cache
def signers() -> Mapping[Site, MemorySigner]:
    """Return the two sites' keys, the same ones all through a run."""
    return {site: MemorySigner() for site in Site}


def pems() -> dict[Site, list[str]]:
    return {site: [signer.public_key_pem] for site, signer in signers().items()}


def trust() -> Trust:
    return Trust.of(pems())


def authority(site: Site) -> Authority:
    return Authority(signers()[site], trust())
