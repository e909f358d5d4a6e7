"""The stores of a deployed stack, as its outputs name them: what the command line reads and writes directly."""

import json
from collections.abc import Mapping
from typing import Any

from functions.settings import ARTIFACT_BUCKETS, FEATURE_TABLES, SITE, Site, read
from functions.stores.clients import Clients

# boto3 refuses to make a client without a region; the local servers take any, real ones come from the user's environment.
AWS_REGION = "AWS_DEFAULT_REGION"


def clients(outputs: Mapping[str, Any], environment: Mapping[str, str]) -> Clients:
    """Return the clients of both sites' stores for a stack with these outputs."""
    sites = outputs["sites"]
    settings = read(
        {
            SITE: Site.AWS,
            ARTIFACT_BUCKETS: json.dumps({site: sites[site]["artifactBucket"] for site in Site}),
            FEATURE_TABLES: json.dumps({site: sites[site]["featureTable"] for site in Site}),
        }
    )
    return Clients(settings, environment)
