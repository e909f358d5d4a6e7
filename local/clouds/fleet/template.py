"""What a machine of a fleet runs, read out of the cloud-config that its template carries.

The container's environment file is the only part of a machine image that the local host can honour: it runs the
container's entry point as a process. The rest (packages, units, users) is a real machine's business.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import yaml

from local.clouds.fleet.errors import FleetError

ENVIRONMENT_FILE = "/etc/lifeboat/service.env"
# `docker run --env-file` reads the file: names as the shell has them, no quotes around values.
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class MachineTemplate:
    """The environment of the service on a machine, and a digest that tells one template from another."""

    digest: str
    environment: dict[str, str]


def read_base64_user_data(name: str, user_data: str) -> MachineTemplate:
    """Read the userData of a launch template. Raises FleetError."""
    try:
        return read_cloud_config(name, base64.b64decode(user_data, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError) as error:
        raise FleetError(
            f"{name}: userData is not base64 of UTF-8 text ({error}); a launch template takes it encoded"
        ) from error


def read_cloud_config(name: str, text: str) -> MachineTemplate:
    """Read a cloud-config. Raises FleetError when it is none or lacks the environment file."""
    if not text.startswith("#cloud-config"):
        raise FleetError(f"{name}: the user data does not begin with #cloud-config, so cloud-init would not read it")
    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FleetError(f"{name}: the cloud-config is no YAML: {error}") from error
    files = document.get("write_files", []) if isinstance(document, dict) else []
    for file in files:
        if file.get("path") == ENVIRONMENT_FILE:
            content = str(file.get("content", ""))
            if file.get("encoding") in ("b64", "base64"):
                content = base64.b64decode(content).decode()
            return MachineTemplate(hashlib.sha256(text.encode()).hexdigest()[:16], _environment(name, content))
    raise FleetError(f"{name}: the cloud-config writes no {ENVIRONMENT_FILE}; the service's settings are read from it")


def _environment(name: str, content: str) -> dict[str, str]:
    environment = {}
    for number, line in enumerate(content.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.partition("=")
        if not equals or not VARIABLE_NAME.fullmatch(key):
            raise FleetError(f"{name}: line {number} of {ENVIRONMENT_FILE} is not NAME=value: {stripped[:40]!r}")
        environment[key] = value
    return environment
