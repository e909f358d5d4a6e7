"""The ground's record of itself, `ground.json`: written by the daemon, read by everybody who wants to reach it.

It is written twice: when all public ports are known, so that the cloud processes can find the emulators, and once more with
`ready` set when everything answers. A record may outlive its daemon; `read_record` tells.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from local.errors import GroundNotRunningError

RECORD_NAME = "ground.json"
# psutil derives the start time from the boot time, which moves when the clock is set.
START_TOLERANCE_SECONDS = 2.0


class DynamodbKind(StrEnum):
    """Which server stands in for DynamoDB."""

    LOCAL = "local"
    MOTO = "moto"


@dataclass(frozen=True)
class Endpoints:
    """Public addresses of the ground; all but `probe_proxy` and `control` pass the fault proxy.

    `pubsub`, `bigtable`, `postgres` and `spanner` are host:port, everything else is a URL without a slash at its end. Where
    nothing stands for user data on this machine, nobody answers at `rds_data`, `postgres` and `spanner`.
    """

    aws_api: str
    aws: str
    dynamodb: str
    rds_data: str
    postgres: str
    gcp_api: str
    storage: str
    pubsub: str
    bigtable: str
    spanner: str
    cloudflare_api: str
    r2: str
    probe_proxy: str
    control: str


@dataclass(frozen=True)
class GroundRecord:
    """What ground.json holds."""

    pid: int
    started: float
    """Start time of the daemon's process in epoch seconds: with the pid it identifies the process."""
    ready: bool
    dynamodb: DynamodbKind
    token: str
    """Sent with every control request, so that a web page that guesses the port cannot steer the ground."""
    endpoints: Endpoints

    def alive(self) -> bool:
        """Say whether the daemon that wrote this still lives; a process that only took over its pid does not count."""
        try:
            process = psutil.Process(self.pid)
            same: bool = abs(process.create_time() - self.started) < START_TOLERANCE_SECONDS
            return same and str(process.status()) != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def write(self, folder: Path) -> None:
        """Replace the record in one step; readable by its owner only."""
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=RECORD_NAME, delete=False) as file:
            json.dump(asdict(self), file, indent=2)
        Path(file.name).replace(folder / RECORD_NAME)


def own_start_time() -> float:
    """Return the start time of this process as `GroundRecord.started` wants it."""
    return float(psutil.Process(os.getpid()).create_time())


def read_record(folder: Path) -> GroundRecord:
    """Return the record of the ground that runs in the folder. Raises GroundNotRunningError, also for a stale record."""
    path = folder / RECORD_NAME
    try:
        fields = json.loads(path.read_text())
        fields["endpoints"] = Endpoints(**fields["endpoints"])
        fields["dynamodb"] = DynamodbKind(fields["dynamodb"])
        record = GroundRecord(**fields)
    except FileNotFoundError:
        raise GroundNotRunningError(folder, "it has no ground.json") from None
    except (ValueError, TypeError, KeyError) as error:
        raise GroundNotRunningError(folder, f"its ground.json was not written by this version ({error})") from error
    if not record.alive():
        raise GroundNotRunningError(folder, f"its ground.json is stale, process {record.pid} has ended")
    return record
