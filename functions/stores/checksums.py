"""CRC32C, the one checksum that S3 and GCS both attest for a whole object, in the stores' own notation."""

import base64

from awscrt import checksums  # type: ignore[import-untyped]  # ships no types

from functions.stores.errors import StoreUnavailableError


def crc32c(data: bytes | memoryview, previous: int = 0) -> int:
    """Return the CRC32C (Castagnoli, RFC 3720) of `data` appended to what gave `previous`."""
    return int(checksums.crc32c(bytes(data) if isinstance(data, memoryview) else data, previous))


def crc64nvme(data: bytes, previous: int = 0) -> int:
    """Return the CRC64NVME of `data` appended to what gave `previous`: the one checksum that R2 attests for a whole object."""
    return int(checksums.crc64nvme(data, previous))


def encode_crc64nvme(value: int) -> str:
    """Return the value as S3 and R2 write it: base64 of eight bytes, most significant first."""
    return base64.b64encode(value.to_bytes(8, "big")).decode()


def encode_crc32c(value: int) -> str:
    """Return the value as S3 and GCS write it: base64 of four bytes, most significant first."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def decode_crc(text: str) -> int:
    """Return the value that S3, GCS or R2 wrote."""
    return int.from_bytes(base64.b64decode(text), "big")


def check_crc32c(data: bytes, expected: int | None, what: str) -> bytes:
    """Return `data` if the store's value for it, where there is one, agrees; StoreUnavailableError to read again if not."""
    if expected is not None and crc32c(data) != expected:
        raise StoreUnavailableError(
            f"{what}: the bytes read do not match the CRC32C that the store reports; read again"
        )
    return data
