"""Where resources go: onto record only, or to the control plane of a running local cloud.

Both have the same four verbs. What they raise is for the user: which cloud, which operation, which resource, and what
to do next.
"""

import http.client
import json
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from local.names import Cloud
from local.providers.errors import AlreadyExistsError, CloudRefusedError, CloudUnreachableError, NotFoundError
from local.providers.wire import Properties
from local.state import Resource, ResourceExistsError, ResourceGoneError, ResourceStore

CONNECT_SECONDS = 2.0
# A control plane that hangs is found out by asking for its health first: the operation itself may take its time,
# as functions and instances really start.
HEALTH_SECONDS = 2.0
OPERATION_SECONDS = 600.0


class CloudClient(Protocol):
    """The control plane of one cloud, as a provider plugin sees it."""

    def reach(self, purpose: str) -> None:
        """Return when the control plane answers. Raises CloudUnreachableError naming the purpose."""
        ...

    def create(self, resource: Resource) -> Properties:
        """Create a resource and return its outputs. Raises AlreadyExistsError; a failure leaves nothing behind."""
        ...

    def read(self, resource: Resource) -> Resource | None:
        """Return the resource as the cloud holds it, or None when it holds none."""
        ...

    def update(self, resource: Resource, old_inputs: Properties) -> Properties:
        """Replace inputs and outputs and return the outputs. Raises NotFoundError."""
        ...

    def delete(self, resource: Resource) -> None:
        """Delete a resource; one that is not there is no error."""
        ...


class RecordCloud:
    """Keeps resources in the ground's state and does nothing else with them."""

    def __init__(self, cloud: Cloud, folder: Path) -> None:
        self._cloud = cloud
        self._store = ResourceStore(folder)

    def reach(self, purpose: str) -> None:
        """A record is always within reach."""

    def create(self, resource: Resource) -> Properties:
        """Keep a new resource."""
        try:
            self._store.create(resource)
        except ResourceExistsError as error:
            raise AlreadyExistsError(_exists(resource)) from error
        return resource.outputs

    def read(self, resource: Resource) -> Resource | None:
        """Return what is kept."""
        try:
            return self._store.read(resource.cloud, resource.type, resource.id)
        except ResourceGoneError:
            return None

    def update(self, resource: Resource, old_inputs: Properties) -> Properties:
        """Replace what is kept."""
        try:
            self._store.update(resource)
        except ResourceGoneError as error:
            raise NotFoundError(_gone("update", resource)) from error
        return resource.outputs

    def delete(self, resource: Resource) -> None:
        """Forget a resource."""
        self._store.delete(resource.cloud, resource.type, resource.id)


class GroundCloud:
    """Talks to the control plane of a cloud of the local ground."""

    def __init__(self, cloud: Cloud, address: str, folder: Path) -> None:
        parts = urlsplit(address)
        self._cloud = cloud
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._store = ResourceStore(folder)

    def reach(self, purpose: str) -> None:
        """Ask the control plane for its health."""
        self._request("GET", "/health", None, purpose, HEALTH_SECONDS)

    def create(self, resource: Resource) -> Properties:
        """Have a resource created."""
        status, body = self._operate("create", resource)
        if status == http.client.CONFLICT:
            raise AlreadyExistsError(_exists(resource))
        return self._outputs("create", resource, status, body)

    def read(self, resource: Resource) -> Resource | None:
        """Ask for a resource; the answer has its outputs, the ground's state its inputs."""
        status, body = self._operate("read", resource)
        if status == http.client.NOT_FOUND:
            return None
        outputs = self._outputs("read", resource, status, body)
        try:
            stored = self._store.read(resource.cloud, resource.type, resource.id)
        except ResourceGoneError:
            return None
        return Resource(**{**asdict(stored), "outputs": outputs})

    def update(self, resource: Resource, old_inputs: Properties) -> Properties:
        """Have a resource brought in line."""
        status, body = self._operate("update", resource, {"old_inputs": old_inputs})
        if status == http.client.NOT_FOUND:
            raise NotFoundError(_gone("update", resource))
        return self._outputs("update", resource, status, body)

    def delete(self, resource: Resource) -> None:
        """Have a resource taken away."""
        status, body = self._operate("delete", resource)
        if status != http.client.NOT_FOUND:
            self._outputs("delete", resource, status, body)

    def _operate(self, verb: str, resource: Resource, more: Properties | None = None) -> tuple[int, Properties]:
        purpose = f'{verb} of {resource.type} "{resource.name}"'
        self.reach(purpose)
        fields = ("type", "id", "name", "urn", "inputs", "outputs")
        body = {name: getattr(resource, name) for name in fields} | (more or {})
        return self._request("POST", f"/resources/{verb}", body, purpose, OPERATION_SECONDS)

    def _request(
        self, method: str, path: str, body: Properties | None, purpose: str, answer_seconds: float
    ) -> tuple[int, Properties]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
            connection.sock.settimeout(answer_seconds)
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise CloudUnreachableError(self._unreachable(purpose, error)) from error
        finally:
            connection.close()
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {"error": content.decode(errors="replace")[:500]}
        return response.status, answer if isinstance(answer, dict) else {}

    def _outputs(self, verb: str, resource: Resource, status: int, body: Properties) -> Properties:
        if status != http.client.OK:
            raise CloudRefusedError(
                f'{self._cloud} refused {verb} of {resource.type} "{resource.name}" ({resource.id}):'
                f" {body.get('error') or f'status {status}'}"
            )
        outputs: Any = body.get("outputs", {})
        return dict(outputs)

    def _unreachable(self, purpose: str, error: Exception) -> str:
        cause = "no answer in time" if isinstance(error, socket.timeout) else str(error) or type(error).__name__
        # Only a site can be deployed around; the edge carries the traffic of both.
        around = (
            "" if self._cloud is Cloud.CLOUDFLARE else f"; to deploy without it, set lifeboat:lost to {self._cloud}"
        )
        return f"{self._cloud} does not answer ({purpose}): {cause}. See ./lifeboat local status{around}"


def _exists(resource: Resource) -> str:
    return (
        f'{resource.cloud} holds {resource.type} {resource.id} already, so "{resource.name}" was not created:'
        " give it another name, or bring the existing one into the stack with pulumi import"
    )


def _gone(verb: str, resource: Resource) -> str:
    return (
        f'{verb} of {resource.type} "{resource.name}" failed: {resource.cloud} has no {resource.id} any more;'
        " run pulumi refresh, then deploy again"
    )
