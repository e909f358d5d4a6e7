"""How much processor time each process of a local ground took: a cost that holds where the clock tells of other work."""

import contextlib
from collections.abc import Mapping

import psutil

# What a command line holds, and what its process is; the first that fits counts.
NAMES: tuple[tuple[str, str], ...] = (
    ("sealed.py lambda", "function, aws to gcp"),
    ("sealed.py function", "function, gcp to aws"),
    ("local.clouds aws", "aws: streams, mappings"),
    ("local.clouds gcp", "gcp: change stream, pushes"),
    ("local.clouds cloudflare", "cloudflare"),
    ("local.faults", "fault proxy"),
    ("local.ground.moto", "S3, SQS and R2 (moto)"),
    ("local.ground", "ground"),
    ("dynamodb", "DynamoDB Local"),
    ("bigtabled", "Bigtable emulator"),
    ("pubsubd", "Pub/Sub emulator"),
    ("fake-gcs-server", "Cloud Storage emulator"),
    ("emulator_main", "Spanner emulator"),
    ("postgres", "PostgreSQL"),
)
OTHER = "other"


def name_of(command: str) -> str:
    """Return what the process with this command line is."""
    return next((name for part, name in NAMES if part in command), OTHER)


def cpu_seconds(root: int) -> dict[int, tuple[str, float]]:
    """Return name and processor seconds until now of a process and all its descendants, by process id."""
    found: dict[int, tuple[str, float]] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(root)
        for process in [top, *top.children(recursive=True)]:
            # A process may end while it is looked at.
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = process.cpu_times()
                found[process.pid] = (name_of(" ".join(process.cmdline())), times.user + times.system)
    return found


def spent(before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]]) -> dict[str, float]:
    """Return the processor seconds between two looks by name, the largest first; what ended in between is not seen."""
    found: dict[str, float] = {}
    for pid, (name, seconds) in after.items():
        found[name] = found.get(name, 0.0) + seconds - before.get(pid, (name, 0.0))[1]
    return {name: found[name] for name in sorted(found, key=lambda name: -found[name]) if found[name] > 0}
