"""Names, tags and labels, computed from the prefix, the site and the purpose; no random suffix, no Pulumi.

A name that other parts must know before the resource exists (a policy, a function's environment) is taken from here, so
the two sites never wait for each other in the dependency graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from functions.settings import Site
from infra.settings import Settings

# What lies where in an artifact bucket; functions/artifacts/paths.py names the objects, a test holds the two together.
MODELS = "models/"
MANIFESTS = "manifests/"
ALIASES = "aliases/"
CHAIN = "chain/"
VERDICTS = "verdicts/"
TOMBSTONES = "tombstones/"
AUDITS = "audits/"
# Where tools that can only copy files leave a model, and the file that says it is whole.
INBOX = "inbox/"
INBOX_DONE = "/_DONE"
PENDING = "pending/"
PACKS = "packs/"
PARTS = "parts/"
RECEIPTS = "receipts/"
TRANSFERS = "transfers/"
PARKED = "parked/"
# What comparisons of the feature tables keep, and what each of them leaves.
RECONCILE = "reconcile/"
RECONCILE_RUNS = "reconcile/runs/"
# Files of jobs that Google runs: staging, temporary files, dead letters.
JOBS = "jobs/"
# Needed while a version is on its way, and by nobody after it.
TRANSIENT = (PENDING, PACKS, PARTS, RECONCILE_RUNS)

FEATURE_TABLE = "features"
REPLICATION_PROFILE = "replication"
IDENTITY_PROVIDER = "aws"


@dataclass(frozen=True)
class Names:
    """Every name that one stack gives, and the addresses that follow from them."""

    prefix: str
    aws_account: str
    aws_region: str
    google_project: str
    google_project_number: str

    @classmethod
    def of(cls, settings: Settings) -> "Names":
        """Return the names of a stack."""
        aws, gcp = settings.sites.aws, settings.sites.gcp
        return cls(settings.prefix, aws.account_id, aws.region, gcp.project, gcp.project_number)

    def named(self, purpose: str) -> str:
        """Return the name of the thing with that purpose."""
        return f"{self.prefix}-{purpose}"

    def artifact_bucket(self, holder: str) -> str:
        """Return the artifact bucket of a site or of r2; bucket names are global, so the holder is in them."""
        return self.named(f"artifacts-{holder}")

    @property
    def bigtable_instance(self) -> str:
        """Return the Bigtable instance that holds the features."""
        return self.prefix

    @property
    def bigtable_cluster(self) -> str:
        """Return the instance's one cluster: 6 to 30 characters (Bigtable, cluster settings)."""
        return self.named("features")

    def topic(self, purpose: str) -> str:
        """Return the full name of a Pub/Sub topic."""
        return f"projects/{self.google_project}/topics/{self.named(purpose)}"

    def service_account(self, purpose: str) -> str:
        """Return the id of a service account: 30 characters at most, which the prefix's limit leaves room for."""
        return self.named(purpose)

    def role_arn(self, role: str) -> str:
        """Return the ARN of a role by its full name."""
        return f"arn:aws:iam::{self.aws_account}:role/{role}"

    def service_agent(self, service: str) -> str:
        """Return the member that a Google service acts as in this project, such as gs-project-accounts."""
        return f"serviceAccount:service-{self.google_project_number}@{service}.iam.gserviceaccount.com"

    @property
    def identity_pool(self) -> str:
        """Return the full name of the workload identity pool that AWS roles come in by."""
        return f"projects/{self.google_project_number}/locations/global/workloadIdentityPools/{self.named('aws')}"

    def federated_member(self, role: str) -> str:
        """Return the IAM member that an AWS role is in Google's eyes (cloud.google.com/iam/docs/principal-identifiers)."""
        return f"principalSet://iam.googleapis.com/{self.identity_pool}/attribute.aws_role/{role}"

    def queue_url(self, purpose: str) -> str:
        """Return the URL of an SQS queue (SQS developer guide, queue identifiers)."""
        return f"https://sqs.{self.aws_region}.amazonaws.com/{self.aws_account}/{self.named(purpose)}"

    def memorystore_instance(self, location: str) -> str:
        """Return the full name of the Redis that is a source of features on Google, as conditions on grants compare it."""
        return f"projects/{self.google_project}/locations/{location}/instances/{self.named('redis')}"

    def artifact_queues(self) -> dict[str, dict[str, str]]:
        """Return the queues of the artifact path by site, as functions read them."""
        purposes = {"jobs": "artifact-jobs", "rebuilds": "artifact-rebuild"}
        return {
            Site.AWS.value: {use: self.queue_url(purpose) for use, purpose in purposes.items()},
            Site.GCP.value: {use: self.topic(purpose) for use, purpose in purposes.items()},
        }

    def artifact_buckets(self) -> dict[str, str]:
        """Return the artifact buckets by site, as functions and service read them."""
        return {site.value: self.artifact_bucket(site) for site in Site}

    def feature_tables(self) -> dict[str, dict[str, str]]:
        """Return the feature tables by site, as functions and service read them."""
        return {
            Site.AWS.value: {"table": self.named("features")},
            Site.GCP.value: {
                "project": self.google_project,
                "instance": self.bigtable_instance,
                "table": FEATURE_TABLE,
                "app_profile": REPLICATION_PROFILE,
            },
        }


def marks(settings: Settings, stack: str) -> Mapping[str, str]:
    """Return what every taggable resource carries: legal as AWS tags and as Google labels."""
    return {"project": "lifeboat", "stack": stack, "prefix": settings.prefix, "managed-by": "pulumi"}
