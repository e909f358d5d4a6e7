"""The whole stack: settings in, resources made in the order that a failover needs.

Order of a shift, held by the dependency graph: the fleet that will serve grows, the front door's gate is asked, traffic
moves, the public name is checked, and only then the fleet that no longer serves shrinks. So the standby's group depends
on the load balancer and the load balancer on the serving fleets: a red gate leaves the serving site at its full size.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

import functions.settings as names_of
from functions.settings import Site
from infra import options
from infra.archives import function_archive, layer_archives
from infra.components.artifact_access import DUTIES
from infra.components.artifact_alarms import ArtifactAlarms, ArtifactAlarmsArgs
from infra.components.artifact_queues import ArtifactQueues
from infra.components.artifact_replication import ArtifactReplication, ArtifactReplicationArgs
from infra.components.artifact_store import (
    AwsArtifactStore,
    AwsArtifactStoreArgs,
    EdgeArtifactStore,
    EdgeArtifactStoreArgs,
    GoogleArtifactStore,
    GoogleArtifactStoreArgs,
)
from infra.components.aws_layer import AwsLayer
from infra.components.bridge import Bridge
from infra.components.feature_reconciliation import PURPOSE as RECONCILE
from infra.components.feature_reconciliation import FeatureReconciliation, FeatureReconciliationArgs
from infra.components.feature_replication import FeatureReplication, FeatureReplicationArgs
from infra.components.feature_replication_google import GoogleFeatureReplication, GoogleFeatureReplicationArgs
from infra.components.feature_store import (
    AwsFeatureStore,
    AwsFeatureStoreArgs,
    GoogleFeatureStore,
    GoogleFeatureStoreArgs,
)
from infra.components.federation import (
    GooglePool,
    GooglePoolArgs,
    google_credentials,
)
from infra.components.front_door import FrontDoor, FrontDoorArgs
from infra.components.function_settings import FunctionSettings
from infra.components.google_function import GoogleFunctionSource, GoogleFunctionSourceArgs
from infra.components.redis_source import RedisSource
from infra.components.signing_keys import READER, SigningKeys, SigningKeysArgs
from infra.components.third_copy import ThirdCopyDisposal, ThirdCopyDisposalArgs
from infra.components.user_replication import UserReplication
from infra.hooks import Guard
from infra.naming import Names, marks
from infra.ordering import after
from infra.providers import Providers, providers
from infra.settings import FunctionDependencies, Settings
from infra.sites import AwsSide, GoogleSide, SiteParts
from infra.topology import Role, Topology

FEDERATED_FUNCTIONS = (
    *(f"artifact-{step}" for step, duties in DUTIES.items() if duties.crosses),
    READER,
    "features-apply",
    RECONCILE,
)


# Where a service answers whether it can serve a version (functions/artifacts/golden.py).
GOLDEN_PATH = "/golden"


@dataclass(frozen=True)
class System:
    """What was made, for the stack's outputs."""

    settings: Settings
    topology: Topology
    names: Names
    sites: Mapping[Site, SiteParts]
    artifacts: ArtifactReplication
    keys: SigningKeys
    features: FeatureReplication
    google_features: GoogleFeatureReplication
    bridge: Bridge | None
    user_data: UserReplication | None
    redis_source: RedisSource | None


class Builder:
    """Makes the stack's parts, each from the ones before it."""

    def __init__(self, settings: Settings, topology: Topology, stack: str) -> None:
        self._settings = settings
        self._topology = topology
        self._names = Names.of(settings)
        self._providers: Providers = providers(settings, marks(settings, stack))
        # What all the rest waits for that has to do with Google.
        self._first: list[pulumi.Resource] = []

    def build(self) -> System:
        """Make everything and return what the outputs need."""
        settings, names = self._settings, self._names
        shared = self._function_settings()
        pool = GooglePool(
            "identity",
            GooglePoolArgs(
                names=names,
                roles=[names.named(purpose) for purpose in (*FEDERATED_FUNCTIONS, *options.federated(settings))],
            ),
            self._on_gcp(),
        )
        # Google refuses grants to roles of a pool that is not there.
        self._first.append(pool)
        queues = ArtifactQueues("artifact-queues", names, shared, self._on_both())
        stores, third = self._artifact_stores(queues), self._third_copy(shared)
        tables = self._feature_stores()
        keys = SigningKeys(
            "signing",
            SigningKeysArgs(
                names=names,
                location=settings.sites.gcp.region,
                generations=settings.signing_key_generations,
                shared=shared,
                protect=settings.protect_data,
            ),
            self._on_both(),
        )
        google = GoogleSide(settings, names, stores[1], tables[1], keys.public, self._on_gcp())
        aws = AwsSide(settings, names, stores[0], tables[0], keys.public, self._on_aws())
        sides: dict[Site, AwsSide | GoogleSide] = {
            Site.AWS: aws,
            Site.GCP: google,
        }
        artifacts = ArtifactReplication(
            "artifacts",
            ArtifactReplicationArgs(
                names=names,
                project=settings.sites.gcp.project,
                location=settings.sites.gcp.region,
                aws_region=settings.sites.aws.region,
                queues=queues,
                aws_store=stores[0],
                google_store=stores[1],
                third_copy_keys=settings.third_copy_keys,
                shared=shared,
                keys=keys,
                golden={
                    site: pulumi.Output.concat(settings.public_scheme.value, "://", side.address, GOLDEN_PATH)
                    for site, side in sides.items()
                },
                hostname=settings.hostname,
                retention=settings.retention,
            ),
            pulumi.ResourceOptions.merge(self._on_both(), after(third)),
        )
        ArtifactAlarms(
            "artifact-alarms",
            ArtifactAlarmsArgs(names=names, project=settings.sites.gcp.project, alarms=settings.alarms),
            self._on_both(),
        )
        features = FeatureReplication(
            "features",
            FeatureReplicationArgs(
                names=names,
                source_store=tables[0],
                target_store=tables[1],
                parking_store=stores[0],
                shared=shared,
                protect=settings.protect_data,
            ),
            self._on_both(),
        )
        google_features = GoogleFeatureReplication(
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
                subnet=google.subnet,
                aws_region=settings.sites.aws.region,
            ),
            self._on_both(),
        )
        FeatureReconciliation(
            "features-reconcile",
            FeatureReconciliationArgs(
                names=names,
                project=settings.sites.gcp.project,
                location=settings.sites.gcp.region,
                aws_region=settings.sites.aws.region,
                aws_table=tables[0],
                google_table=tables[1],
                aws_files=stores[0],
                google_files=stores[1],
                shared=shared,
            ),
            self._on_both(),
        )
        bridge = options.bridge(settings, names, shared, self._on_both())
        user_data = options.user_data(settings, names, shared, aws.network, google.subnet, self._on_both())
        redis = options.redis_source(settings, names, shared, (aws.redis, google.redis), tables, self._on_both())
        options.feast(settings, names, shared, tables[1], stores[0], self._on_both())
        parts = self._serve(sides)
        return System(
            settings=settings,
            topology=self._topology,
            names=names,
            sites=parts,
            artifacts=artifacts,
            keys=keys,
            features=features,
            google_features=google_features,
            bridge=bridge,
            user_data=user_data,
            redis_source=redis,
        )

    def _serve(self, sides: Mapping[Site, AwsSide | GoogleSide]) -> Mapping[Site, SiteParts]:
        """Make fleets and front door in the order of a shift."""
        settings, topology = self._settings, self._topology
        by_role: dict[Role, list[Site]] = {
            role: [s for s, p in topology.sites.items() if p.role is role] for role in Role
        }
        parts: dict[Site, SiteParts] = {}
        for site in by_role[Role.ACTIVE]:
            parts[site] = sides[site].fleet(topology.sites[site], after=())
        door = FrontDoor(
            "front-door",
            FrontDoorArgs(
                account_id=settings.cloudflare_account_id,
                zone_id=settings.cloudflare_zone_id,
                hostname=settings.hostname,
                scheme=settings.public_scheme,
                pool_prefix=settings.prefix,
                monitor_seconds=settings.monitor_seconds,
                topology=topology,
                addresses={site: side.address for site, side in sides.items()},
                after=[resource for part in parts.values() for resource in part.serving],
            ),
            self._on_edge(),
        )
        guard = Guard(settings, topology, {site: side.address for site, side in sides.items()}, door.pools)
        balancer = door.open(guard.binding())
        for site in by_role[Role.STANDBY]:
            parts[site] = sides[site].fleet(topology.sites[site], after=(balancer,))
        return {site: parts[site] for site in Site}

    def _third_copy(self, shared: FunctionSettings) -> list[pulumi.Resource]:
        """Make the bucket of the third copy, and return what everything that writes to it depends on."""
        settings, names = self._settings, self._names
        store = EdgeArtifactStore(
            "artifacts-r2",
            EdgeArtifactStoreArgs(
                account_id=settings.cloudflare_account_id,
                bucket=names.artifact_bucket("r2"),
                protect=settings.protect_data,
            ),
            self._on_edge(),
        )
        keys = settings.third_copy_keys
        if keys is None:
            return [store]
        args = ThirdCopyDisposalArgs(names=names, store=store, keys=keys, shared=shared, protect=settings.protect_data)
        return [ThirdCopyDisposal("artifacts-r2-disposal", args, self._on_aws())]

    def _artifact_stores(self, queues: ArtifactQueues) -> tuple[AwsArtifactStore, GoogleArtifactStore]:
        settings, names = self._settings, self._names
        return (
            AwsArtifactStore(
                "artifacts-aws",
                AwsArtifactStoreArgs(
                    bucket=names.artifact_bucket(Site.AWS),
                    events=queues.events,
                    inbox=queues.inbox,
                    protect=settings.protect_data,
                ),
                self._on_aws(),
            ),
            GoogleArtifactStore(
                "artifacts-gcp",
                GoogleArtifactStoreArgs(
                    bucket=names.artifact_bucket(Site.GCP),
                    location=settings.sites.gcp.region,
                    events=queues.arrivals,
                    inbox=queues.drops,
                    protect=settings.protect_data,
                ),
                self._on_gcp(),
            ),
        )

    def _feature_stores(self) -> tuple[AwsFeatureStore, GoogleFeatureStore]:
        settings, names = self._settings, self._names
        return (
            AwsFeatureStore(
                "features-aws",
                AwsFeatureStoreArgs(table=names.named("features"), protect=settings.protect_data),
                self._on_aws(),
            ),
            GoogleFeatureStore(
                "features-gcp",
                GoogleFeatureStoreArgs(
                    instance=names.bigtable_instance,
                    cluster=names.bigtable_cluster,
                    zone=settings.sites.gcp.zones[0],
                    nodes=settings.sites.gcp.bigtable_nodes,
                    protect=settings.protect_data,
                ),
                self._on_gcp(),
            ),
        )

    def _function_settings(self) -> FunctionSettings:
        settings, names = self._settings, self._names
        common = {
            names_of.ARTIFACT_BUCKETS: json.dumps(names.artifact_buckets(), sort_keys=True),
            names_of.ARTIFACT_QUEUES: json.dumps(names.artifact_queues(), sort_keys=True),
            names_of.FEATURE_TABLES: json.dumps(names.feature_tables(), sort_keys=True),
        }
        if settings.artifact_bytes_per_second:
            common[names_of.BYTES_PER_SECOND] = str(settings.artifact_bytes_per_second)
        keys, third = settings.third_copy_keys, dict[Site, dict[str, str]]()
        for site in Site:
            third[site] = (
                {
                    names_of.R2_ACCOUNT: settings.cloudflare_account_id,
                    names_of.R2_BUCKET: names.artifact_bucket("r2"),
                    names_of.R2_KEY: keys.aws if site is Site.AWS else keys.gcp,
                }
                if keys
                else {}
            )
        layers = []
        if settings.function_dependencies is FunctionDependencies.LAYER:
            layers += [
                AwsLayer(layer, names.named(f"functions-{layer}"), archive, self._on_aws()).arn
                for layer, archive in layer_archives().items()
            ]
        return FunctionSettings(
            aws_archive=function_archive(Site.AWS),
            layers=layers,
            source=GoogleFunctionSource(
                "function-source",
                GoogleFunctionSourceArgs(
                    project=settings.sites.gcp.project,
                    location=settings.sites.gcp.region,
                    bucket=names.named("function-source-gcp"),
                    builder=names.service_account("builder"),
                    archive=function_archive(Site.GCP),
                ),
                self._on_gcp(),
            ),
            environment={
                Site.AWS: {
                    names_of.SITE: Site.AWS.value,
                    names_of.GOOGLE_CREDENTIALS: google_credentials(names),
                    **common,
                    **third[Site.AWS],
                },
                Site.GCP: {names_of.SITE: Site.GCP.value, **common, **third[Site.GCP]},
            },
            redelivery_seconds=settings.redelivery_seconds,
        )

    def _on_aws(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(providers=[self._providers.aws])

    def _on_gcp(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions.merge(pulumi.ResourceOptions(providers=[self._providers.gcp]), after(self._first))

    def _on_both(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions.merge(self._on_aws(), self._on_gcp())

    def _on_edge(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(providers=[self._providers.edge])
