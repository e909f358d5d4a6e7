"""What a deployed function asks for, read from its resource once and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.clouds.aws.arns import Arn
from local.clouds.errors import ActorError, UnsupportedError
from local.state import Resource

# docs.aws.amazon.com/lambda/latest/dg/configuration-function-common.html
TIMEOUT_SECONDS_DEFAULT = 3
MEMORY_MB_DEFAULT = 128
# The host has one interpreter; a function for another language cannot run here.
RUNTIME_PREFIX = "python"


@dataclass(frozen=True)
class FunctionSettings:
    """One version of a function; equal settings need no new processes."""

    name: str
    arn: str
    handler: str
    archive: Path
    sha256: str
    timeout_seconds: float
    memory_mb: int
    reserved_concurrency: int | None
    """None: bound by the host alone. 0: every invocation is throttled."""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def region(self) -> str:
        """Region of the function, from its ARN."""
        return Arn.parse(self.arn).region

    @classmethod
    def of(cls, resource: Resource) -> "FunctionSettings":
        """Read `aws:lambda/function:Function`. Raises ActorError or UnsupportedError naming the property."""
        inputs = resource.inputs
        name = function_name(resource)
        code = inputs.get("code")
        if not isinstance(code, Mapping) or "archive" not in code or "sha256" not in code:
            raise UnsupportedError(
                f"function {name} has no code archive; the local cloud runs `code=FileArchive(...)`, not images or S3 keys"
            )
        runtime = str(inputs.get("runtime") or "")
        if not runtime.startswith(RUNTIME_PREFIX):
            raise UnsupportedError(f"function {name} asks for runtime {runtime!r}; the local cloud runs python ones")
        if not inputs.get("handler"):
            raise ActorError(f"function {name} names no handler; set handler to module.function")
        reserved = inputs.get("reservedConcurrentExecutions")
        return cls(
            name=name,
            arn=str(resource.outputs.get("arn") or inputs.get("arn") or ""),
            handler=str(inputs["handler"]),
            archive=Path(str(code["archive"])),
            sha256=str(code["sha256"]),
            timeout_seconds=float(inputs.get("timeout") or TIMEOUT_SECONDS_DEFAULT),
            memory_mb=int(inputs.get("memorySize") or MEMORY_MB_DEFAULT),
            reserved_concurrency=None if reserved is None or int(reserved) < 0 else int(reserved),
            environment=_environment(inputs.get("environment")),
        )


def function_name(resource: Resource) -> str:
    """Return the function's name in its cloud."""
    return str(resource.outputs.get("name") or resource.inputs.get("name") or resource.id)


def _environment(block: Any) -> dict[str, str]:
    variables = block.get("variables") if isinstance(block, Mapping) else None
    return {str(key): str(value) for key, value in (variables or {}).items()}
