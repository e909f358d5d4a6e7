"""The stores of a deployed stack, as its outputs name them: what the command line reads and writes directly."""

import json
import os
from collections.abc import Mapping
from typing import Any

from functions.settings import (
    ARTIFACT_BUCKETS,
    FEATURE_TABLES,
    GOLDEN_URL,
    HOSTNAME,
    PROBE_PROXY,
    R2_ACCOUNT,
    R2_BUCKET,
    R2_KEY,
    SIGNING_KEY,
    SIGNING_KEYS,
    SITE,
    USER_DATABASES,
    Site,
    read,
)
from functions.stores.clients import Clients
from functions.stores.protocols import ObjectStore
from local.paths import ROOT
from operate.errors import LifeboatError
from operate.stacks import Stack

# boto3 refuses to make a client without a region; the local servers take any, real ones come from the user's environment.
AWS_REGION = "AWS_DEFAULT_REGION"
# What the copy that no site holds is called beside the sites' own names.
THIRD = "r2"


def of_stack(name: str, environment: Mapping[str, str]) -> Clients:
    """Return the clients of a deployed stack of this repository. Raises LifeboatError when it was never deployed.

    The SDKs take endpoints and credentials from this process's environment, which is brought in line.
    """
    os.environ.update(environment)
    os.environ.setdefault(AWS_REGION, "us-west-2")
    outputs = Stack(ROOT, name, environment).outputs()
    if "sites" not in outputs:
        raise LifeboatError(f"stack {name} has no outputs: deploy it first with ./lifeboat up -s {name}")
    return clients(outputs, environment)


def places(found: Clients) -> dict[str, ObjectStore]:
    """Return every place that holds models, by name: both sites, and the third copy where the stack has one."""
    stores: dict[str, ObjectStore] = {site.value: found.objects(site) for site in Site}
    return stores | ({THIRD: found.third} if found.third is not None else {})


def clients(outputs: Mapping[str, Any], environment: Mapping[str, str]) -> Clients:
    """Return the clients of both sites' stores for a stack with these outputs."""
    sites = outputs["sites"]
    users = {USER_DATABASES: json.dumps(outputs["userData"]["databases"])} if "userData" in outputs else {}
    third = outputs.get("thirdCopy")
    copy = {R2_ACCOUNT: third["account"], R2_BUCKET: third["bucket"], R2_KEY: third["key"]} if third else {}
    settings = read(
        {
            **users,
            **copy,
            SITE: Site.AWS,
            ARTIFACT_BUCKETS: json.dumps({site: sites[site]["artifactBucket"] for site in Site}),
            FEATURE_TABLES: json.dumps({site: sites[site]["featureTable"] for site in Site}),
            SIGNING_KEY: json.dumps(outputs["signing"]["keys"]),
            SIGNING_KEYS: outputs["signing"]["public"],
            GOLDEN_URL: json.dumps({site: f"{sites[site]['url']}/golden" for site in Site}),
            HOSTNAME: str(outputs["publicUrl"]).partition("://")[2],
            PROBE_PROXY: environment.get(PROBE_PROXY, ""),
        }
    )
    return Clients(settings, environment)
