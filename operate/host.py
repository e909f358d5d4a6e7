"""The machine that figures were measured on."""

import os
import platform
from pathlib import Path

import psutil

from operate.report.result import Host


def host() -> Host:
    """Return the machine that this runs on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return Host(cpu=model, cores=os.cpu_count() or 1, memory=f"{psutil.virtual_memory().total / 2**30:.0f} GiB")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
