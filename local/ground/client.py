"""How every other process finds and steers the local ground."""

import http.client
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from local.errors import GroundNotRunningError, GroundRequestError
from local.ground.lifecycle import launch, wait_until_gone
from local.ground.record import DynamodbKind, Endpoints, GroundRecord, read_record
from local.names import Cloud, FaultMode

__all__ = ["DynamodbKind", "Endpoints", "GroundClient", "GroundStatus", "ProcessStatus", "start_ground"]

TOKEN_HEADER = "X-Lifeboat-Token"  # noqa: S105 - the name of a header
# Restoring a cloud starts its process, which brings back every function and instance that the cloud runs.
REQUEST_SECONDS = 180.0


@dataclass(frozen=True)
class ProcessStatus:
    """One process of the ground: its state, restarts so far, and the last exit code it had."""

    name: str
    pid: int | None
    state: str
    restarts: int
    exit_code: int | None


@dataclass(frozen=True)
class GroundStatus:
    """The ground as it is now."""

    pid: int
    ready: bool
    dynamodb: DynamodbKind
    processes: tuple[ProcessStatus, ...]
    faults: Mapping[Cloud, FaultMode]
    names: Mapping[str, int]


class GroundClient:
    """A running ground. Cheap to make; every call is one request on its own connection, from any thread or process."""

    def __init__(self, folder: Path, record: GroundRecord) -> None:
        self.folder = folder
        self._record = record

    @classmethod
    def open(cls, folder: Path) -> "GroundClient":
        """Return the ground of the folder, which may still be starting. Raises GroundNotRunningError."""
        folder = folder.resolve()
        return cls(folder, read_record(folder))

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        return self._record.pid

    @property
    def endpoints(self) -> Endpoints:
        """Public addresses; they do not change while the ground lives, nor when it starts again in the same folder."""
        return self._record.endpoints

    @property
    def dynamodb(self) -> DynamodbKind:
        """Which server stands in for DynamoDB."""
        return self._record.dynamodb

    def environment(self) -> dict[str, str]:
        """Return what the SDKs need to reach this ground, and nothing else."""
        endpoints = self.endpoints
        return {
            "AWS_ENDPOINT_URL": endpoints.aws,
            "AWS_ENDPOINT_URL_DYNAMODB": endpoints.dynamodb,
            "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": endpoints.dynamodb,
            "AWS_ENDPOINT_URL_RDS_DATA": endpoints.rds_data,
            # Letters and digits only: DynamoDB Local refuses other keys.
            "AWS_ACCESS_KEY_ID": "lifeboat",
            "AWS_SECRET_ACCESS_KEY": "local",
            # Else boto3 looks for an instance's role on a link-local address, and waits for it.
            "AWS_EC2_METADATA_DISABLED": "true",
            "STORAGE_EMULATOR_HOST": endpoints.storage,
            "PUBSUB_EMULATOR_HOST": endpoints.pubsub,
            "BIGTABLE_EMULATOR_HOST": endpoints.bigtable,
            "SPANNER_EMULATOR_HOST": endpoints.spanner,
            # With multiplexed sessions the emulator loses transactions of the official client.
            "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS": "false",
            "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS_FOR_RW": "false",
            # The name by which Google's own tools are told of another address of this API.
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS": endpoints.gcp_api,
            "LIFEBOAT_R2_ENDPOINT": endpoints.r2,
            "LIFEBOAT_PROBE_PROXY": endpoints.probe_proxy,
            # What stands for Redis asks nobody to sign in and speaks without TLS.
            "LIFEBOAT_REDIS_PLAIN": "true",
        }

    def fault(self, cloud: Cloud, mode: FaultMode, latency_ms: int = 0) -> None:
        """Put a cloud into a fault mode and return when it is in force; `latency_ms` is for SLOW, each way."""
        self._request("PUT", f"/faults/{cloud.value}", {"mode": mode.value, "latency_ms": latency_ms})

    def restore(self, cloud: Cloud) -> None:
        """End a cloud's fault and return when the cloud answers again."""
        self._request("DELETE", f"/faults/{cloud.value}")

    def route(self, name: str, cloud: Cloud, port: int) -> int:
        """Return a public loopback port that forwards to `port` under the cloud's faults.

        The same name keeps its public port, also over a restart of the ground; its target is replaced.
        """
        answer = self._request("PUT", f"/routes/{quote(name)}", {"cloud": cloud.value, "port": port})
        return int(answer["public_port"])

    def remove_route(self, name: str) -> None:
        """Close a public port made by `route`; one that is not there is no error."""
        self._request("DELETE", f"/routes/{quote(name)}")

    def publish_name(self, hostname: str, port: int) -> None:
        """Point a hostname of the ground's internet at a public loopback port."""
        self._request("PUT", f"/names/{quote(hostname)}", {"port": port})

    def withdraw_name(self, hostname: str) -> None:
        """Take a hostname off the ground's internet; one that is not there is no error."""
        self._request("DELETE", f"/names/{quote(hostname)}")

    def names(self) -> dict[str, int]:
        """Return the hostnames of the ground's internet and the ports they point at."""
        return dict(self.status().names)

    def status(self) -> GroundStatus:
        """Return the ground as it is now."""
        answer = self._request("GET", "/status")
        return GroundStatus(
            pid=self.pid,
            ready=bool(answer["ready"]),
            dynamodb=self.dynamodb,
            processes=tuple(ProcessStatus(**process) for process in answer["processes"]),
            faults={Cloud(cloud): FaultMode(mode) for cloud, mode in answer["faults"].items()},
            names={str(name): int(port) for name, port in answer["names"].items()},
        )

    def stop(self) -> None:
        """Stop the ground and return when all of it is gone."""
        self._request("POST", "/stop")
        wait_until_gone(self.folder, self._record)

    def _request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        address = urlsplit(self.endpoints.control)
        assert address.hostname is not None
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=REQUEST_SECONDS)
        try:
            headers = {TOKEN_HEADER: self._record.token, "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read().decode()
        except ConnectionRefusedError as error:
            raise GroundNotRunningError(self.folder, f"process {self.pid} no longer answers") from error
        except (OSError, http.client.HTTPException) as error:
            raise GroundRequestError(
                f"ground {self.folder}: {method} {path} got no answer ({error or type(error).__name__});"
                f" see {self.folder / 'logs' / 'ground.log'}"
            ) from error
        finally:
            connection.close()
        answer: dict[str, Any] = json.loads(text) if text else {}
        if response.status >= http.client.BAD_REQUEST:
            raise GroundRequestError(f"ground {self.folder}: {method} {path}: {answer.get('error', text)}")
        return answer


def start_ground(
    folder: Path,
    progress: Callable[[str], None] | None = None,
    *,
    owned: bool = False,
    clouds: Collection[Cloud] = tuple(Cloud),
) -> GroundClient:
    """Start the ground of the folder and return when it is ready; one that runs already is taken as it is.

    `owned`: it ends with this process, however that ends; else it runs until it is stopped. `clouds` are the cloud processes
    to run; the emulators and their ports are always there. Raises GroundBusyError when a ground to be owned runs already,
    GroundStartError when it cannot start.
    """
    folder = folder.resolve()
    return GroundClient(folder, launch(folder, progress, owned=owned, clouds=clouds))
