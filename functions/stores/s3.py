"""S3 as an object store, and R2 in the same form."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
)

from functions.settings import MEBIBYTE
from functions.stores.checksums import (
    check_crc32c,
    crc32c,
    crc64nvme,
    decode_crc,
    encode_crc32c,
    encode_crc64nvme,
)
from functions.stores.errors import (
    AccessDeniedError,
    ConflictError,
    NotFoundError,
    ObjectTooLargeError,
    PreconditionFailedError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    ThrottledError,
)
from functions.stores.protocols import ObjectInfo

# Parts of 16 MiB keep eight in memory small; S3 takes 10,000 parts, so larger files get larger parts, with room to spare
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
PART_BYTES = 16 * MEBIBYTE
MOST_PARTS = 9_000
# What one copy inside S3 takes, of an object or of a part
# (https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html).
MOST_COPY_BYTES = 5 << 30
WORKERS = 4
# https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Cache-Control (immutable)
FOREVER = "public, max-age=31536000, immutable"

_BY_CODE: Mapping[str, type[StoreError]] = {
    "NoSuchKey": NotFoundError,
    "NoSuchBucket": NotFoundError,
    "NoSuchUpload": ConflictError,
    "404": NotFoundError,
    "PreconditionFailed": PreconditionFailedError,
    "412": PreconditionFailedError,
    "ConditionalRequestConflict": ConflictError,
    "OperationAborted": ConflictError,
    "409": ConflictError,
    "SlowDown": ThrottledError,
    "TooManyRequests": ThrottledError,
    "429": ThrottledError,
    "AccessDenied": AccessDeniedError,
    "403": AccessDeniedError,
    "InvalidRange": StoreRefusedError,
    "416": StoreRefusedError,
}


class S3Objects:
    """A bucket on S3. `client` is a boto3 S3 client, safe to share between threads."""

    # What a multipart upload declares so that the store attests one value over the whole object.
    _checksum = "CRC32C"

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def head(self, key: str) -> ObjectInfo:
        with self._errors(key):
            answer = self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
        return self._info(key, answer)

    def get(self, key: str, limit: int) -> tuple[bytes, ObjectInfo]:
        with self._errors(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
            info = self._info(key, answer)
            if info.size > limit:
                answer["Body"].close()
                raise ObjectTooLargeError(
                    f"s3://{self._bucket}/{key} has {info.size} bytes, at most {limit} are allowed"
                )
            data: bytes = answer["Body"].read()
        return check_crc32c(data, info.crc32c, f"s3://{self._bucket}/{key}"), info

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        if not length:
            return b""
        with self._errors(key):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={offset}-{offset + length - 1}"
            )
            data: bytes = answer["Body"].read()
            total = int(answer["ContentRange"].rpartition("/")[2])
        if offset + length > total:
            raise StoreRefusedError(f"s3://{self._bucket}/{key}: {length} bytes from {offset} asked, it has {total}")
        if len(data) != length:
            raise StoreUnavailableError(f"s3://{self._bucket}/{key}: {len(data)} of {length} bytes came; read again")
        return data

    def put(
        self,
        key: str,
        data: bytes,
        *,
        absent: bool = False,
        replace: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        condition = {"IfNoneMatch": "*"} if absent else {"IfMatch": replace} if replace is not None else {}
        declared = {"ChecksumAlgorithm": self._checksum}
        if self._checksum == "CRC32C":
            declared["ChecksumCRC32C"] = encode_crc32c(crc32c(data))
        with self._errors(key, conditional=replace is not None):
            answer = self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=data,
                Metadata=dict(metadata or {}),
                ContentType=content_type,
                **condition,
                **declared,
                **self._served(key),
            )
        return ObjectInfo(key, len(data), answer["ETag"], crc32c(data), dict(metadata or {}))

    def upload(self, key: str, path: Path, crc32c: int, progress: Callable[[int], None]) -> ObjectInfo:
        size = path.stat().st_size
        if size <= PART_BYTES:
            info = self.put(key, path.read_bytes(), absent=True)
            progress(size)
            return info
        part_bytes = max(PART_BYTES, -(-size // MOST_PARTS))
        begun, landed = self._begun(key)

        def send(upload: str, number: int) -> dict[str, object]:
            with path.open("rb") as file:
                file.seek((number - 1) * part_bytes)
                data = file.read(part_bytes)
            # Parts are compared by content; that the whole is right the store checks when they are joined.
            if landed.get(number) == (len(data), f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'):
                name = f"Checksum{self._checksum}"
                part: dict[str, object] = {"PartNumber": number, "ETag": landed[number][1], name: self._sum(data)}
            else:
                part = self._upload_part(key, upload, number, data)
            progress(len(data))
            return part

        return self._multipart(key, size, crc32c, -(-size // part_bytes), send, absent=True, begun=begun, keep=True)

    def assemble(self, key: str, parts: Sequence[str], crc32c: int) -> ObjectInfo:
        sizes = [self.head(part).size for part in parts]
        if len(parts) == 1 and sizes[0] <= MOST_COPY_BYTES:
            # A single copy keeps an empty file possible, which no multipart upload can hold.
            with self._errors(key):
                self._client.copy_object(
                    Bucket=self._bucket,
                    Key=key,
                    CopySource={"Bucket": self._bucket, "Key": parts[0]},
                    ChecksumAlgorithm=self._checksum,
                )
            return self.head(key)

        pieces = [
            (part, f"bytes={start}-{min(start + MOST_COPY_BYTES, size) - 1}")
            for part, size in zip(parts, sizes, strict=True)
            for start in range(0, size, MOST_COPY_BYTES)
        ]

        def copy(upload: str, number: int) -> dict[str, object]:
            source, extent = pieces[number - 1]
            answer = self._client.upload_part_copy(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceRange=extent,
            )["CopyPartResult"]
            part: dict[str, object] = {"PartNumber": number, "ETag": answer["ETag"]}
            if checksum := answer.get(f"Checksum{self._checksum}"):
                part[f"Checksum{self._checksum}"] = checksum
            return part

        return self._multipart(key, sum(sizes), crc32c, len(pieces), copy, absent=False)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._errors(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    yield ObjectInfo(
                        found["Key"],
                        found["Size"],
                        found["ETag"],
                        modified_ms=int(found["LastModified"].timestamp() * 1000),
                    )

    def delete(self, key: str) -> None:
        with self._errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def _begun(self, key: str) -> tuple[str | None, dict[int, tuple[int, str]]]:
        """Return an upload of this key that broke off, its parts as (size, ETag); (None, {}) if there is none to go on with."""
        where = {"Bucket": self._bucket}
        try:
            found = self._client.list_multipart_uploads(**where, Prefix=key).get("Uploads", ())
            begun = [each["UploadId"] for each in found if each["Key"] == key]
            if not begun:
                return None, {}
            pages = self._client.get_paginator("list_parts").paginate(**where, Key=key, UploadId=begun[-1])
            parts = [part for page in pages for part in page.get("Parts", ())]
        except (ClientError, BotoCoreError):
            # Looking for one may not be allowed, or somebody else has just finished it: a new one is always possible.
            return None, {}
        return begun[-1], {part["PartNumber"]: (part["Size"], part["ETag"]) for part in parts}

    def _sum(self, data: bytes) -> str:
        return encode_crc32c(crc32c(data))

    def _upload_part(self, key: str, upload: str, number: int, data: bytes) -> dict[str, object]:
        name, value = f"Checksum{self._checksum}", self._sum(data)
        answer = self._client.upload_part(
            Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=number, Body=data, **{name: value}
        )
        return {"PartNumber": number, "ETag": answer["ETag"], name: value}

    def _whole(self, crc32c: int) -> dict[str, str]:
        return {"ChecksumCRC32C": encode_crc32c(crc32c)}

    def _served(self, key: str) -> dict[str, str]:
        """Return with which headers the object is to be served."""
        return {}

    def _multipart(
        self,
        key: str,
        size: int,
        crc32c: int,
        count: int,
        part: Callable[[str, int], dict[str, object]],
        *,
        absent: bool,
        begun: str | None = None,
        keep: bool = False,
    ) -> ObjectInfo:
        """Run one multipart upload whose full-object checksum the store attests.

        `begun` is one to go on with. A fault aborts the upload, but with `keep` only one that the store itself refused.
        """
        where = {"Bucket": self._bucket, "Key": key}
        with self._errors(key):
            upload = (
                begun
                or self._client.create_multipart_upload(
                    **where, ChecksumAlgorithm=self._checksum, ChecksumType="FULL_OBJECT", **self._served(key)
                )["UploadId"]
            )
            try:
                with ThreadPoolExecutor(WORKERS) as pool:
                    parts = list(pool.map(part, [upload] * count, range(1, count + 1)))
                self._client.complete_multipart_upload(
                    **where,
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},
                    ChecksumType="FULL_OBJECT",
                    MpuObjectSize=size,
                    **self._whole(crc32c),
                    **({"IfNoneMatch": "*"} if absent else {}),
                )
            except BaseException as error:
                if keep and not _refused(error):
                    raise
                # The first fault is the one to report; what an abort can't remove the lifecycle rule does.
                with contextlib.suppress(ClientError, BotoCoreError):
                    self._client.abort_multipart_upload(**where, UploadId=upload)
                raise
        return self.head(key)

    def _info(self, key: str, answer: Mapping[str, Any]) -> ObjectInfo:
        # A COMPOSITE value is a hash of part hashes and says nothing about the whole.
        is_whole = answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        whole, whole64 = (answer.get(f"Checksum{kind}") if is_whole else None for kind in ("CRC32C", "CRC64NVME"))
        return ObjectInfo(
            key,
            answer["ContentLength"],
            answer["ETag"],
            decode_crc(whole) if whole else None,
            answer.get("Metadata", {}),
            int(answer["LastModified"].timestamp() * 1000),
            decode_crc(whole64) if whole64 else None,
        )

    @contextlib.contextmanager
    def _errors(self, key: str, conditional: bool = False) -> Iterator[None]:
        """Turn botocore's errors into ours. `conditional`: a missing key is a lost condition, not a missing object."""
        where = f"s3://{self._bucket}/{key}"
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            kind = _BY_CODE.get(code) or _BY_CODE.get(str(status))
            if kind is NotFoundError and conditional and code != "NoSuchBucket":
                kind = PreconditionFailedError
            if kind is None:
                kind = StoreUnavailableError if status >= 500 or not status else StoreRefusedError
            raise kind(f"{where}: {code} {error.response.get('Error', {}).get('Message', '')}") from error
        except BotoCoreError as error:
            raise StoreUnavailableError(f"{where}: no usable answer ({error}); the event is tried again") from error


def _refused(error: BaseException) -> bool:
    """Return whether the store said that these parts will never do, so that trying again has to begin anew."""
    if not isinstance(error, ClientError):
        return False
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (400, 404, 412)


class R2Objects(S3Objects):
    """A bucket on R2, which attests only CRC64NVME over a whole object and so never reports a CRC32C.

    https://developers.cloudflare.com/r2/api/s3/api/ (checksum types).
    """

    _checksum = "CRC64NVME"

    def stream(self, key: str, size: int, part_bytes: int, read: Callable[[int, int], bytes]) -> ObjectInfo:
        part_bytes = max(part_bytes, -(-size // MOST_PARTS))
        if size <= part_bytes:
            self.put(key, read(0, size), absent=True)
            return self.head(key)

        def send(upload: str, number: int) -> dict[str, object]:
            # All parts but the last have one size, or R2 refuses the upload.
            offset = (number - 1) * part_bytes
            return self._upload_part(key, upload, number, read(offset, min(part_bytes, size - offset)))

        return self._multipart(key, size, 0, -(-size // part_bytes), send, absent=True)

    def empty(self) -> int:
        """Delete every object, as many in a call as the store takes, and return how many there were."""
        deleted = 0
        with self._errors(""):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
                keys = [{"Key": each["Key"]} for each in page.get("Contents", ())]
                if not keys:
                    break
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
                if refused := answer.get("Errors"):
                    raise StoreRefusedError(f"{self._bucket}: {len(refused)} objects stay, the first {refused[0]}")
                deleted += len(keys)
        return deleted

    def copy(self, key: str, source: str) -> ObjectInfo:
        with self._errors(source):
            self._client.copy_object(
                Bucket=self._bucket,
                Key=key,
                CopySource={"Bucket": self._bucket, "Key": source},
                MetadataDirective="REPLACE",
                **self._served(key),
            )
        return self.head(key)

    def _sum(self, data: bytes) -> str:
        return encode_crc64nvme(crc64nvme(data))

    def signed_url(self, key: str, seconds: int) -> str:
        """Return a URL by which anybody may read the object for so many seconds; nothing is asked of the store."""
        url: str = self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=seconds
        )
        return url

    def _served(self, key: str) -> dict[str, str]:
        # Files of a version never change; manifests and aliases are looked at again.
        return {"CacheControl": FOREVER if key.startswith("models/") else "no-cache"}

    def put(
        self,
        key: str,
        data: bytes,
        *,
        absent: bool = False,
        replace: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        info = super().put(key, data, absent=absent, replace=replace, metadata=metadata, content_type=content_type)
        return ObjectInfo(info.key, info.size, info.token, None, info.metadata)

    def _upload_part(self, key: str, upload: str, number: int, data: bytes) -> dict[str, object]:
        answer = self._client.upload_part(
            Bucket=self._bucket,
            Key=key,
            UploadId=upload,
            PartNumber=number,
            Body=data,
            ChecksumAlgorithm=self._checksum,
        )
        return {
            "PartNumber": number,
            "ETag": answer["ETag"],
            "ChecksumCRC64NVME": answer["ChecksumCRC64NVME"],
        }

    def _whole(self, crc32c: int) -> dict[str, str]:
        # R2 joins the parts' values itself; a CRC32C of the whole means nothing to it.
        return {}
