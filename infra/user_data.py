"""What a host does at its first boot: one cloud-config for both clouds, so that a site differs in values only. Pure.

It is written for images that carry Docker and, where the machine has GPUs, their driver and container toolkit; nothing
is installed at boot, because a failover must not wait for a package mirror.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

ENVIRONMENT_PATH = "/etc/lifeboat/service.env"
UNIT_PATH = "/etc/systemd/system/lifeboat.service"

# First letters of the machine types with NVIDIA GPUs (EC2 accelerated computing; Compute Engine GPU machine types).
ACCELERATED = ("p2", "p3", "p4", "p5", "p6", "g4", "g5", "g6", "a2-", "a3-", "a4-", "g2-")


def is_accelerated(machine_type: str) -> bool:
    """Say whether a machine type has GPUs that the container should see."""
    return machine_type.startswith(ACCELERATED)


def registry_login(image: str) -> str | None:
    """Return the command that lets Docker pull an image, None for a registry that needs none."""
    host = image.partition("/")[0]
    if ".dkr.ecr." in host:
        region = host.split(".dkr.ecr.")[1].split(".")[0]
        return (
            f"aws ecr get-login-password --region {shlex.quote(region)}"
            f" | docker login --username AWS --password-stdin {shlex.quote(host)}"
        )
    if host.endswith("-docker.pkg.dev"):
        return f"docker-credential-gcr configure-docker --registries={shlex.quote(host)}"
    return None


def cloud_config(image: str, machine_type: str, environment: Mapping[str, str], port: int) -> str:
    """Return the cloud-config that writes the service's environment and starts its container, again if it ends.

    Raises ValueError for a value with a line break, which an environment file cannot hold.
    """
    broken = [key for key, value in environment.items() if "\n" in value]
    if broken:
        raise ValueError(f"the values of {broken} hold line breaks")
    lines = [f"{key}={value}" for key, value in sorted(environment.items())]
    document: dict[str, Any] = {
        "write_files": [
            {"path": ENVIRONMENT_PATH, "permissions": "0644", "content": "\n".join(lines) + "\n"},
            {"path": UNIT_PATH, "permissions": "0644", "content": _unit(image, machine_type, port)},
        ],
        "runcmd": [["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", "lifeboat.service"]],
    }
    # JSON is YAML, and one writer less to depend on.
    return "#cloud-config\n" + json.dumps(document, indent=2) + "\n"


def _unit(image: str, machine_type: str, port: int) -> str:
    login = registry_login(image)
    run = ["/usr/bin/docker", "run", "--rm", "--name", "lifeboat", "--env-file", ENVIRONMENT_PATH]
    run += ["--env", f"PORT={port}", "--env", "LIFEBOAT_LISTEN=0.0.0.0", "--env", "LIFEBOAT_INSTANCE=%H"]
    run += ["--publish", f"{port}:{port}"]
    if is_accelerated(machine_type):
        run += ["--gpus", "all"]
    lines = ["[Unit]", "Description=Lifeboat service", "Wants=network-online.target"]
    lines += ["After=network-online.target docker.service", "", "[Service]"]
    if login is not None:
        lines.append(f"ExecStartPre=/bin/sh -c {shlex.quote(login)}")
    lines += ["ExecStartPre=-/usr/bin/docker rm --force lifeboat", f"ExecStart={' '.join([*run, image])}"]
    lines += ["Restart=always", "RestartSec=2", "", "[Install]", "WantedBy=multi-user.target", ""]
    return "\n".join(lines)
