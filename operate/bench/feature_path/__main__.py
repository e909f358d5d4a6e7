"""The two feature stores and their replication both ways, made of the program's own components, settings and archives.

The whole program on one machine keeps up to half a core busy with fleets, databases, schedules and heartbeats, so a figure taken
beside it tells of the machine as much as of the path. Everything that a row passes is here, echoes included.
"""

import pulumi

from functions.settings import Site
from infra import config, liveness
from infra.components.artifact_queues import ArtifactQueues
from infra.components.feature_replication import FeatureReplication, FeatureReplicationArgs
from infra.components.feature_replication_google import GoogleFeatureReplication, GoogleFeatureReplicationArgs
from infra.components.federation import GooglePool, GooglePoolArgs
from infra.program import FEDERATED_FUNCTIONS, Builder
from infra.settings import Settings
from infra.topology import topology

# The Dataflow workers' network is recorded and never looked at here.
SUBNET = "regions/us-west1/subnetworks/bench"


class FeaturePath(Builder):
    """The program's builder, stopped before everything that is no part of the path."""

    def build_path(self) -> None:
        """Make the stores, the functions and what lies between them; export what the bench opens."""
        settings, names = self._settings, self._names
        shared = self._function_settings()
        roles = [names.named(purpose) for purpose in FEDERATED_FUNCTIONS]
        self._first.append(GooglePool("identity", GooglePoolArgs(names=names, roles=roles), self._on_gcp()))
        stores = self._artifact_stores(ArtifactQueues("artifact-queues", names, shared, self._on_both()))
        tables = self._feature_stores()
        FeatureReplication(
            "features",
            FeatureReplicationArgs(
                names=names,
                source_store=tables[0],
                target_store=tables[1],
                parking_store=stores[0],
                shared=shared,
                protect=False,
            ),
            self._on_both(),
        )
        GoogleFeatureReplication(
            "google-features",
            GoogleFeatureReplicationArgs(
                names=names,
                project=settings.sites.gcp.project,
                location=settings.sites.gcp.region,
                source_store=tables[1],
                target_store=tables[0],
                parking_store=stores[1],
                shared=shared,
                workers=settings.sites.gcp.dataflow,
                subnet=SUBNET,
                aws_region=settings.sites.aws.region,
            ),
            self._on_both(),
        )
        pulumi.export("tables", names.feature_tables())
        pulumi.export("buckets", {site.value: names.artifact_bucket(site) for site in Site})


def main(settings: Settings) -> None:
    """Build the path of a stack's settings."""
    liveness.freeze(liveness.lost_sites(settings))
    FeaturePath(settings, topology(settings), pulumi.get_stack()).build_path()


main(config.load())
