"""The emulators: which server stands in for which service, how it is started and when it is ready.

They keep everything in memory, so none is started again by itself: an emulator that came back empty would look like a
cloud that lost its data. Losing a cloud is done at the fault proxy, and here everything lives on.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from local.ground import user_data
from local.ground.record import DynamodbKind
from local.names import Cloud
from local.paths import ROOT
from local.supervisor import HttpProbe, ProcessSpec, Supervisor, TcpProbe
from local.supervisor.ports import LOOPBACK
from local.toolchain import dynamodb_local, find

logger = logging.getLogger(__name__)

# Java starts in 1 to 2 s on an idle machine; several of everything may start at once on a small one.
READY_SECONDS = 60.0


def dynamodb_kind() -> DynamodbKind:
    """Return which server stands in for DynamoDB on this machine: moto's where DynamoDB Local cannot run."""
    return DynamodbKind.LOCAL if dynamodb_local() else DynamodbKind.MOTO


async def start_emulators(
    cloud: Cloud, supervisor: Supervisor, folder: Path, storage_public_port: int
) -> Mapping[str, int]:
    """Start a cloud's emulators at once; return the private port behind each of its endpoints.

    They run in `folder`, as some leave files where they are started.

    Raises the error of the first that fails; the supervisor still owns the others.
    """
    folder.mkdir(exist_ok=True)
    try:
        async with asyncio.TaskGroup() as group:
            match cloud:
                case Cloud.AWS:
                    command = dynamodb_local()
                    aws = group.create_task(_start(supervisor, _moto("aws")))
                    dynamodb = group.create_task(_start(supervisor, _dynamodb(command, folder))) if command else aws
                    tasks = {"aws": aws, "dynamodb": dynamodb}
                    if not user_data.missing():
                        tasks["postgres"] = group.create_task(user_data.start_postgres(supervisor, folder))
                        tasks["rds_data"] = group.create_task(_start_rds_data(supervisor, tasks["postgres"]))
                case Cloud.GCP:
                    pubsub = group.create_task(_start(supervisor, _pubsubd))
                    storage = group.create_task(_start_storage(supervisor, storage_public_port, pubsub))
                    bigtable = group.create_task(_start(supervisor, _bigtabled))
                    tasks = {"storage": storage, "pubsub": pubsub, "bigtable": bigtable}
                    if not user_data.missing():
                        tasks["spanner"] = group.create_task(_start(supervisor, user_data.spanner))
                case Cloud.CLOUDFLARE:
                    tasks = {"r2": group.create_task(_start(supervisor, _moto("r2")))}
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return {endpoint: task.result() for endpoint, task in tasks.items()}


async def _start_storage(supervisor: Supervisor, public_port: int, pubsub: asyncio.Task[int]) -> int:
    # It publishes its notifications there, straight and not through the fault proxy: inside one cloud nothing is cut.
    return await _start(supervisor, _fake_gcs_server(public_port, await pubsub))


async def _start_rds_data(supervisor: Supervisor, postgres: asyncio.Task[int]) -> int:
    return await _start(supervisor, user_data.rds_data(await postgres))


async def _start(supervisor: Supervisor, make: Callable[[int], ProcessSpec]) -> int:
    begun = time.monotonic()
    process, port = await supervisor.start_on_free_port(make)
    logger.info("%s ready on port %d after %.2f s", process.name, port, time.monotonic() - begun)
    return port


def _moto(name: str) -> Callable[[int], ProcessSpec]:
    def spec(port: int) -> ProcessSpec:
        return ProcessSpec(
            name=f"moto-{name}",
            command=(sys.executable, "-m", "local.ground.moto", "-H", LOOPBACK, "-p", str(port)),
            ready=HttpProbe(f"http://{LOOPBACK}:{port}/moto-api/data.json"),
            ready_seconds=READY_SECONDS,
            cwd=ROOT,
        )

    return spec


def _dynamodb(command: tuple[str, ...], folder: Path) -> Callable[[int], ProcessSpec]:
    def spec(port: int) -> ProcessSpec:
        return ProcessSpec(
            name="dynamodb-local",
            # -sharedDb: one set of tables for every region and key. Telemetry would leave the machine.
            command=(*command, "-port", str(port), "-sharedDb", "-inMemory", "-disableTelemetry"),
            # It has no health page; an unsigned request is refused with 400 as soon as it serves.
            ready=HttpProbe(f"http://{LOOPBACK}:{port}/", frozenset({400})),
            ready_seconds=READY_SECONDS,
            cwd=folder,
        )

    return spec


def _pubsubd(port: int) -> ProcessSpec:
    return ProcessSpec(
        name="pubsubd",
        command=(str(find("pubsubd")), "-port", str(port)),
        ready=TcpProbe(port),
        ready_seconds=READY_SECONDS,
    )


def _bigtabled(port: int) -> ProcessSpec:
    return ProcessSpec(
        name="bigtabled",
        command=(str(find("bigtabled")), "-port", str(port)),
        ready=TcpProbe(port),
        ready_seconds=READY_SECONDS,
    )


def _fake_gcs_server(public_port: int, pubsub_port: int) -> Callable[[int], ProcessSpec]:
    # Upload sessions are answered with the address to go on at: it must be the one that passes the fault proxy.
    public = f"{LOOPBACK}:{public_port}"

    def spec(port: int) -> ProcessSpec:
        return ProcessSpec(
            name="fake-gcs-server",
            command=(
                *(str(find("fake-gcs-server")), "-backend", "memory", "-log-level", "warn"),
                *("-scheme", "http", "-host", LOOPBACK, "-port", str(port)),
                *("-public-host", public, "-external-url", f"http://{public}"),
            ),
            ready=HttpProbe(f"http://{LOOPBACK}:{port}/_internal/healthcheck"),
            ready_seconds=READY_SECONDS,
            env={"PUBSUB_EMULATOR_HOST": f"{LOOPBACK}:{pubsub_port}"},
        )

    return spec
