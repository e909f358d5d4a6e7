"""Redis as a service of a cloud: a Valkey of its own for every instance, at an address under the cloud's faults.

It keeps its data on disk and comes back with it, where the other emulators forget: a source of changes that lost some would look
like a fault of what carries them. It asks nobody to sign in, and speaks without TLS.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from local.clouds.context import CloudContext
from local.ground.valkey import valkey
from local.state import Resource
from local.supervisor.ports import LOOPBACK
from local.toolchain.pins import Tool
from local.toolchain.places import locate

logger = logging.getLogger(__name__)

AWS_TYPE = "aws:elasticache/replicationGroup:ReplicationGroup"
GCP_TYPE = "gcp:memorystore/instance:Instance"

Outputs = Callable[[int], Mapping[str, Any]]


class RedisActor:
    """The servers of one cloud's instances. `outputs` says how the cloud's provider reports a port."""

    def __init__(self, context: CloudContext, outputs: Outputs) -> None:
        self._context = context
        self._outputs = outputs
        self._ports: dict[str, int] = {}

    async def ensure(self, resource: Resource) -> None:
        """Start the instance's server; one that runs is left alone."""
        if resource.id in self._ports:
            return
        if locate(Tool.VALKEY) is None:
            logger.warning("%s is only recorded: nothing stands for Redis here (see ./lifeboat doctor)", resource.id)
            return
        name = _name(resource)
        folder = self._context.folder / name
        folder.mkdir(exist_ok=True)
        make = valkey(folder, keep=True)
        _, port = await self._context.supervisor.start_on_free_port(lambda port: replace(make(port), name=name))
        self._ports[resource.id] = await asyncio.to_thread(
            self._context.ground.route, self._route(name), self._context.cloud, port
        )

    async def remove(self, resource: Resource) -> None:
        """Stop the server and forget its data."""
        if self._ports.pop(resource.id, None) is None:
            return
        name = _name(resource)
        await self._context.supervisor.stop(name)
        await asyncio.to_thread(self._context.ground.remove_route, self._route(name))
        shutil.rmtree(self._context.folder / name, ignore_errors=True)

    async def reveal(self, resource: Resource) -> Mapping[str, Any]:
        """Return the address."""
        port = self._ports.get(resource.id)
        return self._outputs(port) if port is not None else {}

    def _route(self, name: str) -> str:
        return f"{self._context.cloud.value}-{name}"


def on_aws(port: int) -> Mapping[str, Any]:
    """Return what ElastiCache reports of an address."""
    return {"primaryEndpointAddress": LOOPBACK, "readerEndpointAddress": LOOPBACK, "port": port}


def on_gcp(port: int) -> Mapping[str, Any]:
    """Return what Memorystore reports of an address."""
    primary = {"connectionType": "CONNECTION_TYPE_PRIMARY", "ipAddress": LOOPBACK, "port": port}
    return {"endpoints": [{"connections": [{"pscAutoConnection": primary}]}]}


def _name(resource: Resource) -> str:
    return f"redis-{resource.id.rpartition('/')[2]}"
