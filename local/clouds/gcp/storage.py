"""Cloud Storage: buckets, objects that the program uploads, and notifications, against the emulator's JSON API.

The emulator honours a notification's object prefix and event types itself, so nothing is filtered here (its matching is
covered by a test). It keeps no id of ours for a notification: one is recognised by its content.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx

from local.clouds.errors import ActorError, BucketNotEmptyError
from local.clouds.gcp.errors import StorageUnreachableError
from local.clouds.gcp.resources import properties, required, text_map
from local.state import Resource

CALL_SECONDS = 30.0
TOPIC_SERVICE = "//pubsub.googleapis.com/"


class Storage:
    """The few calls of Cloud Storage's JSON API that the control plane and the function host make."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = httpx.AsyncClient(base_url=address, timeout=CALL_SECONDS, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ensure_bucket(self, name: str, versioned: bool) -> None:
        """Create a bucket or set its versioning."""
        body = {"name": name, "versioning": {"enabled": versioned}}
        answer = await self._request("GET", f"/storage/v1/b/{name}", missing=True)
        if answer is None:
            await self._request("POST", "/storage/v1/b", json=body)
        elif bool((answer.json().get("versioning") or {}).get("enabled")) != versioned:
            await self._request("PATCH", f"/storage/v1/b/{name}", json=body)

    async def delete_bucket(self, name: str, force: bool) -> None:
        """Delete a bucket; one that is not there is no error.

        Raises BucketNotEmptyError when it holds objects, archived versions too, and `force` is off.
        """
        if await self._request("GET", f"/storage/v1/b/{name}", missing=True) is None:
            return
        versions = await self._versions(name)
        if versions and not force:
            raise BucketNotEmptyError(
                f"bucket {name} holds {len(versions)} object versions; delete them or set forceDestroy to true"
            )
        for object_name, generation in versions:
            await self.delete_object(name, object_name, generation)
        await self._request("DELETE", f"/storage/v1/b/{name}", missing=True)

    async def object_metadata(self, bucket: str, name: str) -> dict[str, Any] | None:
        """Return an object's resource, or None when there is no such object."""
        answer = await self._request("GET", _object_path(bucket, name), missing=True)
        return None if answer is None else cast(dict[str, Any], answer.json())

    async def upload(self, bucket: str, name: str, data: bytes, content_type: str) -> None:
        """Store an object, as a new version of one that is there."""
        await self._request(
            "POST",
            f"/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": name},
            content=data,
            headers={"content-type": content_type},
        )

    async def download(self, bucket: str, name: str) -> bytes:
        """Return an object's bytes. Raises ActorError when it is not there."""
        answer = await self._request("GET", _object_path(bucket, name), missing=True, params={"alt": "media"})
        if answer is None:
            raise ActorError(f"gs://{bucket}/{name} is not there; upload it before what is made of it")
        return answer.content

    async def delete_object(self, bucket: str, name: str, generation: str | None = None) -> None:
        """Delete an object or one version of it; one that is not there is no error."""
        params = {"generation": generation} if generation else {}
        await self._request("DELETE", _object_path(bucket, name), missing=True, params=params)

    async def ensure_notification(self, bucket: str, wanted: dict[str, Any]) -> None:
        """Make a notification of that content unless there is one."""
        if not await self._notifications(bucket, wanted):
            await self._request("POST", f"/storage/v1/b/{bucket}/notificationConfigs", json=wanted)

    async def delete_notification(self, bucket: str, unwanted: dict[str, Any]) -> None:
        """Delete the notifications of that content; none, or no bucket, is no error."""
        for number in await self._notifications(bucket, unwanted):
            await self._request("DELETE", f"/storage/v1/b/{bucket}/notificationConfigs/{number}", missing=True)

    async def _notifications(self, bucket: str, content: dict[str, Any]) -> list[str]:
        answer = await self._request("GET", f"/storage/v1/b/{bucket}/notificationConfigs", missing=True)
        items = [] if answer is None else answer.json().get("items") or []
        return [item["id"] for item in items if _content(item) == _content(content)]

    async def _versions(self, bucket: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        token = ""
        while True:
            params = {"versions": "true", "pageToken": token} if token else {"versions": "true"}
            page = cast(httpx.Response, await self._request("GET", f"/storage/v1/b/{bucket}/o", params=params)).json()
            found += [(item["name"], str(item["generation"])) for item in page.get("items") or []]
            token = page.get("nextPageToken") or ""
            if not token:
                return found

    async def _request(self, method: str, path: str, missing: bool = False, **options: Any) -> httpx.Response | None:
        """Call the API; `missing` turns 404 into None. Raises StorageUnreachableError or ActorError."""
        try:
            answer = await self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise StorageUnreachableError(
                f"{method} {path}: Cloud Storage at {self._address} does not answer"
                f" ({str(error) or type(error).__name__}); see whether the cloud is cut off: ./lifeboat local status"
            ) from error
        if missing and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise ActorError(f"{method} {path}: Cloud Storage answered {answer.status_code}: {answer.text.strip()}")
        return answer


def notification(resource: Resource) -> dict[str, Any]:
    """Return the API's form of a gcp.storage.Notification."""
    given = properties(resource)
    return notification_config(
        topic=str(required(resource, "topic")),
        event_types=[str(kind) for kind in given.get("eventTypes") or []],
        prefix=str(given.get("objectNamePrefix") or ""),
        payload_format=str(given.get("payloadFormat") or "JSON_API_V1"),
        attributes=dict(text_map(given.get("customAttributes"))),
    )


def notification_config(
    topic: str,
    event_types: list[str],
    prefix: str = "",
    payload_format: str = "JSON_API_V1",
    attributes: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return a notification as the API takes it; no event types means all of them."""
    full_topic = topic if topic.startswith(TOPIC_SERVICE) else f"{TOPIC_SERVICE}{topic.lstrip('/')}"
    return {
        "topic": full_topic,
        "event_types": event_types,
        "object_name_prefix": prefix,
        "payload_format": payload_format,
        "custom_attributes": attributes or {},
    }


def _content(item: dict[str, Any]) -> tuple[Any, ...]:
    return (
        item["topic"],
        frozenset(item.get("event_types") or ()),
        item.get("object_name_prefix") or "",
        item.get("payload_format") or "JSON_API_V1",
        frozenset((item.get("custom_attributes") or {}).items()),
    )


def _object_path(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


class BucketActor:
    """gcp.storage.Bucket."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def ensure(self, resource: Resource) -> None:
        """Create the bucket, or set its versioning."""
        versioning = properties(resource).get("versioning") or {}
        await self._storage.ensure_bucket(str(required(resource, "name")), bool(versioning.get("enabled")))

    async def remove(self, resource: Resource) -> None:
        """Delete the bucket; with forceDestroy all versions of its objects too."""
        force = bool(properties(resource).get("forceDestroy"))
        await self._storage.delete_bucket(str(required(resource, "name")), force)


class BucketObjectActor:
    """gcp.storage.BucketObject: a file or text that the program uploads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def ensure(self, resource: Resource) -> None:
        """Upload the content unless the bucket has it: a new version of equal bytes would only make an event."""
        bucket, name = str(required(resource, "bucket")), str(required(resource, "name"))
        data = _source(resource)
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        found = await self._storage.object_metadata(bucket, name)
        if found is None or found.get("md5Hash") != digest:
            content_type = str(properties(resource).get("contentType") or "application/octet-stream")
            await self._storage.upload(bucket, name, data, content_type)

    async def remove(self, resource: Resource) -> None:
        """Delete the object."""
        await self._storage.delete_object(str(required(resource, "bucket")), str(required(resource, "name")))


class NotificationActor:
    """gcp.storage.Notification."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def ensure(self, resource: Resource) -> None:
        """Make the notification; one of another content under the same resource is a replacement in the program."""
        await self._storage.ensure_notification(str(required(resource, "bucket")), notification(resource))

    async def remove(self, resource: Resource) -> None:
        """Delete the notification."""
        await self._storage.delete_notification(str(required(resource, "bucket")), notification(resource))


def _source(resource: Resource) -> bytes:
    given = resource.inputs
    content, source = given.get("content"), given.get("source")
    if isinstance(content, str):
        return content.encode()
    if isinstance(source, dict) and "archive" in source:
        path = Path(source["archive"])
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ActorError(
                f"object {resource.id}: cannot read {path}: {error.strerror}; run the update again"
            ) from error
        if hashlib.sha256(data).hexdigest() != source.get("sha256"):
            raise ActorError(f"object {resource.id}: {path} was changed since it was stored; run the update again")
        return data
    raise ActorError(f"object {resource.id} has neither content nor a source file; set one of them")
