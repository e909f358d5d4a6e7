"""The only reader of a function's or service's environment, and the names that the program and the handlers share."""

from enum import StrEnum

SITE = "LIFEBOAT_SITE"
ARTIFACT_BUCKETS = "LIFEBOAT_ARTIFACT_BUCKETS"
FEATURE_TABLES = "LIFEBOAT_FEATURE_TABLES"
ARTIFACT_JOBS_QUEUE = "LIFEBOAT_ARTIFACT_JOBS_QUEUE"
REBUILD_TOPIC = "LIFEBOAT_REBUILD_TOPIC"
DEAD_TOPIC = "LIFEBOAT_DEAD_TOPIC"
CHUNK_BYTES = "LIFEBOAT_CHUNK_BYTES"
GOOGLE_CREDENTIALS = "LIFEBOAT_GOOGLE_CREDENTIALS"
METRICS_NAMESPACE = "LIFEBOAT_METRICS_NAMESPACE"
MODEL = "LIFEBOAT_MODEL"
ALIAS = "LIFEBOAT_ALIAS"

# Layout of a feature row, the same names in the program (tables) and the handlers (reads and writes).
FEATURE_KEY = "entity"
FEATURE_VERSION = "v"
FEATURE_ENVELOPE = "e"
FEATURE_EXPIRES = "expires"
FEATURE_FAMILY = "row"


class Site(StrEnum):
    """One side of the service. Maps are keyed by it; roles (active, standby) change, sites do not."""

    AWS = "aws"
    GCP = "gcp"

    @property
    def peer(self) -> "Site":
        """Return the other side."""
        return Site.GCP if self is Site.AWS else Site.AWS
