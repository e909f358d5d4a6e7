"""Parts of Amazon Resource Names (docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html)."""

from dataclasses import dataclass

from local.clouds.errors import ActorError
from local.state import Resource


@dataclass(frozen=True)
class Arn:
    """`arn:partition:service:region:account:resource`."""

    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> "Arn":
        """Take an ARN apart. Raises ActorError for any other text."""
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn":
            raise ActorError(f"{text!r} is not an ARN; expected arn:aws:service:region:account:resource")
        return cls(service=parts[2], region=parts[3], account=parts[4], resource=parts[5])


def region_of(resource: Resource, default: str) -> str:
    """Return the region that a resource lives in: its own property, else the one in its ARN, else `default`."""
    for values in (resource.outputs, resource.inputs):
        if values.get("region"):
            return str(values["region"])
    arn = resource.outputs.get("arn")
    return (Arn.parse(arn).region if isinstance(arn, str) and arn else "") or default
