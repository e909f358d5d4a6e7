"""The table from resource type to behaviour. A type that is not in it is refused: a fake must not accept on trust."""

from functools import cache

from local.names import Cloud
from local.providers.behaviours import aws, cloudflare, gcp
from local.providers.behaviours.table import Behaviour
from local.providers.errors import UnknownTypeError

TABLES: dict[Cloud, list[Behaviour]] = {
    Cloud.AWS: aws.BEHAVIOURS,
    Cloud.GCP: gcp.BEHAVIOURS,
    Cloud.CLOUDFLARE: cloudflare.BEHAVIOURS,
}


@cache
def _index(cloud: Cloud) -> dict[str, Behaviour]:
    return {entry.token: entry for entry in TABLES[cloud]}


def find(cloud: Cloud, token: str) -> Behaviour:
    """Return the behaviour of a type. Raises UnknownTypeError naming it."""
    found = _index(cloud).get(token)
    if found is None:
        raise UnknownTypeError(
            f"the local {cloud} provider has no behaviour for {token}:"
            f" add an entry for it to local/providers/behaviours/{cloud}.py or a file beside it that it takes in"
        )
    return found
