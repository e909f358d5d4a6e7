"""GCS as an object store, over its JSON API.

The JSON API and not the client library: a pack of 64 MiB must go up in one request that carries both a condition and the
expected CRC32C. The library turns anything above 8 MiB into a resumable session, whose interrupted form a retry has to ask
about first, and the XML multipart upload behind its transfer manager takes no condition at all.
https://cloud.google.com/storage/docs/json_api/v1/objects
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import requests
from google.auth.exceptions import GoogleAuthError

from functions.settings import MEBIBYTE
from functions.stores.checksums import check_crc32c, crc32c, decode_crc, encode_crc32c
from functions.stores.checksums import crc32c as checksum
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

# A compose call takes at most 32 sources; a tree of calls takes any number (https://cloud.google.com/storage/docs/composite-objects).
COMPOSE_SOURCES = 32
PART_BYTES = 32 * MEBIBYTE
WORKERS = 4
TIMEOUT_SECONDS = (3.0, 60.0)
# One more try hides a connection that the server closed while idle; anything longer is the event queue's business.
TRIES = 2

_FIELDS = "name,size,crc32c,generation,metadata,timeCreated"
_BY_STATUS: Mapping[int, type[StoreError]] = {
    400: StoreRefusedError,
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    408: StoreUnavailableError,
    409: ConflictError,
    412: PreconditionFailedError,
    416: StoreRefusedError,
    429: ThrottledError,
}


class GcsObjects:
    """A bucket on GCS. `session` signs the requests; `endpoint` is the scheme and host of the JSON API."""

    def __init__(self, session: requests.Session, endpoint: str, bucket: str) -> None:
        self._session = session
        self._bucket = bucket
        self._objects = f"{endpoint}/storage/v1/b/{quote(bucket, safe='')}/o"
        self._uploads = f"{endpoint}/upload/storage/v1/b/{quote(bucket, safe='')}/o"

    def head(self, key: str) -> ObjectInfo:
        return _info(self._call("GET", key, self._url(key), params={"fields": _FIELDS}).json())

    def get(self, key: str, limit: int) -> tuple[bytes, ObjectInfo]:
        info = self.head(key)
        if info.size > limit:
            raise ObjectTooLargeError(f"gs://{self._bucket}/{key} has {info.size} bytes, at most {limit} are allowed")
        # Naming the generation binds the bytes to the state just read; one overwritten in between is gone and read again.
        answer = self._call("GET", key, self._url(key), params={"alt": "media", "generation": info.token})
        return check_crc32c(answer.content, info.crc32c, f"gs://{self._bucket}/{key}"), info

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        if not length:
            return b""
        answer = self._call(
            "GET",
            key,
            self._url(key),
            params={"alt": "media"},
            headers={"Range": f"bytes={offset}-{offset + length - 1}"},
        )
        total = (
            int(answer.headers["Content-Range"].rpartition("/")[2])
            if answer.status_code == 206
            else len(answer.content)
        )
        data = answer.content if answer.status_code == 206 else answer.content[offset : offset + length]
        if offset + length > total:
            raise StoreRefusedError(f"gs://{self._bucket}/{key}: {length} bytes from {offset} asked, it has {total}")
        if len(data) != length:
            raise StoreUnavailableError(f"gs://{self._bucket}/{key}: {len(data)} of {length} bytes came; read again")
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
        params = {"uploadType": "multipart", "fields": _FIELDS}
        if absent or replace is not None:
            params["ifGenerationMatch"] = "0" if replace is None else replace
        resource = {
            "name": key,
            "contentType": content_type,
            "crc32c": encode_crc32c(crc32c(data)),
            "metadata": dict(metadata or {}),
        }
        boundary = uuid.uuid4().hex
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n".encode(),
                f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode(),
                data,
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
        return _info(self._call("POST", key, self._uploads, params=params, data=body, headers=headers).json())

    def upload(self, key: str, path: Path, crc32c: int, progress: Callable[[int], None]) -> ObjectInfo:
        size = path.stat().st_size
        if size <= PART_BYTES:
            info = self.put(key, path.read_bytes(), absent=True)
            progress(size)
            return info
        try:
            self.head(key)
        except NotFoundError:
            pass
        else:
            raise PreconditionFailedError(f"gs://{self._bucket}/{key} is there already")
        # Named after what is uploaded, so that an upload that broke off is found and gone on with.
        folder = f"parts/upload-{hashlib.sha256(f'{key} {size} {crc32c}'.encode()).hexdigest()}"
        landed = {info.key: (info.size, info.crc32c) for info in self.list(f"{folder}/")}

        def send(index: int) -> str:
            with path.open("rb") as file:
                file.seek(index * PART_BYTES)
                data = file.read(PART_BYTES)
            name = f"{folder}/{index:06d}"
            if landed.get(name) != (len(data), checksum(data)):
                self.put(name, data)
            progress(len(data))
            return name

        with ThreadPoolExecutor(WORKERS) as pool:
            parts = list(pool.map(send, range(-(-size // PART_BYTES))))
        info = self.assemble(key, parts, crc32c)
        for part in parts:
            self.delete(part)
        return info

    def assemble(self, key: str, parts: Sequence[str], crc32c: int) -> ObjectInfo:
        level, sources = 0, list(parts)
        joined: list[str] = []
        while len(sources) > COMPOSE_SOURCES:
            groups = [sources[i : i + COMPOSE_SOURCES] for i in range(0, len(sources), COMPOSE_SOURCES)]
            # Named after the first part, so that a repeat writes the same names and a crash leaves nothing to search for.
            names = [f"{group[0]}.join-{level}" for group in groups]
            for name, group in zip(names, groups, strict=True):
                self._compose(name, group)
            joined += names
            level, sources = level + 1, names
        info = self._compose(key, sources)
        for name in joined:
            self.delete(name)
        return info

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        params = {"prefix": prefix, "fields": f"nextPageToken,items({_FIELDS})", "maxResults": "1000"}
        while True:
            page = self._call("GET", prefix, self._objects, params=params).json()
            yield from map(_info, page.get("items", ()))
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]

    def delete(self, key: str) -> None:
        try:
            self._call("DELETE", key, self._url(key))
        except NotFoundError:
            return

    def _compose(self, key: str, sources: Sequence[str]) -> ObjectInfo:
        request = {
            "sourceObjects": [{"name": name} for name in sources],
            "destination": {"contentType": "application/octet-stream"},
        }
        return _info(self._call("POST", key, f"{self._url(key)}/compose", data=json.dumps(request).encode()).json())

    def _url(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='')}"

    def _call(
        self,
        method: str,
        key: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        where = f"gs://{self._bucket}/{key}"
        for last in [False] * (TRIES - 1) + [True]:
            try:
                answer = self._session.request(
                    method,
                    url,
                    params=params,
                    data=data,
                    headers={"Content-Type": "application/json", **(headers or {})},
                    timeout=TIMEOUT_SECONDS,
                )
            except (requests.RequestException, GoogleAuthError) as error:
                # Signing the request goes over the network too and has its own family of errors.
                if last:
                    raise StoreUnavailableError(
                        f"{where}: no usable answer ({error}); the event is tried again"
                    ) from error
                continue
            if answer.status_code < 400:
                return answer
            if answer.status_code >= 500 and not last:
                continue
            kind = _BY_STATUS.get(answer.status_code)
            if kind is None:
                kind = StoreUnavailableError if answer.status_code >= 500 else StoreRefusedError
            raise kind(f"{where}: HTTP {answer.status_code} {answer.text[:300]}")
        raise AssertionError("the last try returns or raises")


def _info(resource: Mapping[str, object]) -> ObjectInfo:
    metadata = resource.get("metadata")
    checksum, created = resource.get("crc32c"), resource.get("timeCreated")
    return ObjectInfo(
        key=str(resource["name"]),
        size=int(str(resource.get("size", 0))),
        token=str(resource["generation"]),
        crc32c=decode_crc(str(checksum)) if checksum else None,
        metadata=metadata if isinstance(metadata, dict) else {},
        modified_ms=int(datetime.fromisoformat(str(created)).timestamp() * 1000) if created else None,
    )
