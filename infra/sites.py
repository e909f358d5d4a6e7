"""The two sides as the program sees them: an address that exists early, and a fleet that is made when its turn comes.

Both classes have the same interface, so that the order of a shift (infra/program.py) is written once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

import functions.settings as names_of
from functions.settings import Site
from infra.components.artifact_access import Access
from infra.components.artifact_store import AwsArtifactStore, GoogleArtifactStore
from infra.components.aws_balancer import AwsBalancer, AwsBalancerArgs
from infra.components.aws_fleet import AwsFleet, AwsFleetArgs
from infra.components.aws_network import AwsNetwork, AwsNetworkArgs
from infra.components.feature_store import AwsFeatureStore, GoogleFeatureStore
from infra.components.google_balancer import GoogleAddress, GoogleBalancer, GoogleBalancerArgs
from infra.components.google_fleet import GoogleFleet, GoogleFleetArgs
from infra.components.google_network import GoogleNetwork, GoogleNetworkArgs
from infra.components.redis import PORT as REDIS_PORT
from infra.components.redis import AwsRedis, AwsRedisArgs, GoogleRedis, GoogleRedisArgs
from infra.naming import ALIASES, MANIFESTS, MODELS, Names
from infra.rights import Statement
from infra.settings import Settings
from infra.topology import SitePlan
from infra.user_data import cloud_config, registry_login

SERVICE_PORT = 8080
SERVED = (MODELS, MANIFESTS, ALIASES)


@dataclass(frozen=True)
class SiteParts:
    """What a site's fleet came out as; `serving` is what must exist before traffic is sent there."""

    fleet: pulumi.Output[str]
    size: pulumi.Output[int]
    address: pulumi.Output[str]
    serving: tuple[pulumi.Resource, ...]


class AwsSide:
    """Network, balancer and fleet on AWS."""

    def __init__(
        self,
        settings: Settings,
        names: Names,
        artifacts: AwsArtifactStore,
        features: AwsFeatureStore,
        trusted: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        site = settings.sites.aws
        self._settings, self._names, self._opts = settings, names, opts
        self._artifacts, self._features, self._trusted = artifacts, features, trusted
        self._network = AwsNetwork(
            "network-aws",
            AwsNetworkArgs(
                name=names.named("service"),
                region=site.region,
                zones=site.zones,
                network_range=site.network_range,
                listen_port=settings.public_scheme.port,
                service_port=SERVICE_PORT,
                inner_ports=(REDIS_PORT,) if settings.redis_source else (),
            ),
            opts,
        )
        self.redis = self._redis() if settings.redis_source else None
        self._balancer = AwsBalancer(
            "balancer-aws",
            AwsBalancerArgs(
                name=names.named("service"),
                scheme=settings.public_scheme,
                certificate_arn=site.certificate_arn,
                subnets=self._network.public_subnets,
                security_group=self._network.balancer_group,
                vpc_id=self._network.vpc_id,
                service_port=SERVICE_PORT,
                protect=settings.protect_data,
            ),
            opts,
        )
        self.address = self._balancer.address
        self.network = self._network

    def fleet(self, plan: SitePlan, after: Sequence[pulumi.Resource]) -> SiteParts:
        """Make the fleet at the size of its role."""
        site, names = self._settings.sites.aws, self._names
        image = self._settings.service_images.aws
        fleet = AwsFleet(
            "fleet-aws",
            AwsFleetArgs(
                name=names.named("service"),
                image_id=site.image_id,
                instance_type=site.instance_type,
                user_data=first_boot(
                    image, site.instance_type, service_environment(self._settings, names, Site.AWS), self._trusted
                ),
                capacity_reservation_id=site.capacity_reservation_id,
                subnets=self._network.private_subnets,
                security_group=self._network.host_group,
                target_group_arn=self._balancer.target_group_arn,
                size=plan.fleet_size,
                limit=plan.fleet_limit,
                rights=self._rights(image),
                after=after,
            ),
            self._opts,
        )
        return SiteParts(fleet.fleet, fleet.size, self.address, (fleet, self._balancer))

    def _redis(self) -> AwsRedis:
        site, network = self._settings.sites.aws, self._network
        return AwsRedis(
            "redis-aws",
            AwsRedisArgs(
                cache=self._names.named("redis"),
                node_type=site.redis_node_type,
                vpc_id=network.vpc_id,
                network_range=site.network_range,
                subnets=network.private_subnets,
                host_group=network.host_group,
                dynamodb_addresses=network.dynamodb_addresses,
                protect=self._settings.protect_data,
            ),
            self._opts,
        )

    def _rights(self, image: str) -> Sequence[Statement]:
        rights = [
            *self._artifacts.rights(Access(reads=SERVED)),
            Statement(
                actions=[
                    "dynamodb:GetItem",
                    "dynamodb:BatchGetItem",
                    "dynamodb:PutItem",
                    "dynamodb:UpdateItem",
                    "dynamodb:DeleteItem",
                ],
                resources=[self._features.arn],
            ),
        ]
        if self.redis is not None:
            rights.append(self.redis.writer())
        if registry_login(image) is not None:
            repository = image.partition("/")[2].rpartition(":")[0]
            site = self._settings.sites.aws
            rights += [
                Statement(actions=["ecr:GetAuthorizationToken"], resources=["*"]),
                Statement(
                    actions=["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"],
                    resources=[f"arn:aws:ecr:{site.region}:{site.account_id}:repository/{repository}"],
                ),
            ]
        return rights


class GoogleSide:
    """Network, address, fleet and balancer on Google Cloud."""

    def __init__(
        self,
        settings: Settings,
        names: Names,
        artifacts: GoogleArtifactStore,
        features: GoogleFeatureStore,
        trusted: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        site = settings.sites.gcp
        self._settings, self._names, self._opts = settings, names, opts
        self._artifacts, self._features, self._trusted = artifacts, features, trusted
        self._network = GoogleNetwork(
            "network-gcp",
            GoogleNetworkArgs(
                name=names.named("service"),
                region=site.region,
                network_range=site.network_range,
                service_port=SERVICE_PORT,
                host_tag=names.named("service"),
            ),
            opts,
        )
        self.subnet = self._network.subnet
        self.redis = self._redis() if settings.redis_source else None
        self.address = GoogleAddress("address-gcp", names.named("service"), opts).address

    def fleet(self, plan: SitePlan, after: Sequence[pulumi.Resource]) -> SiteParts:
        """Make the fleet at the size of its role, and the balancer before it."""
        site, names = self._settings.sites.gcp, self._names
        fleet = GoogleFleet(
            "fleet-gcp",
            GoogleFleetArgs(
                name=names.named("service"),
                project=site.project,
                region=site.region,
                zones=site.zones,
                image=site.image,
                machine_type=site.machine_type,
                user_data=first_boot(
                    self._settings.service_images.gcp,
                    site.machine_type,
                    service_environment(self._settings, names, Site.GCP),
                    self._trusted,
                ),
                reservation=site.reservation,
                subnet=self._network.subnet,
                host_tag=names.named("service"),
                service_port=SERVICE_PORT,
                size=plan.fleet_size,
                after=after,
            ),
            self._opts,
        )
        self._grant(fleet)
        balancer = GoogleBalancer(
            "balancer-gcp",
            GoogleBalancerArgs(
                name=names.named("service"),
                scheme=self._settings.public_scheme,
                certificate=site.certificate,
                address=self.address,
                instance_group=fleet.instance_group,
                service_port=SERVICE_PORT,
            ),
            self._opts,
        )
        return SiteParts(fleet.fleet, fleet.size, self.address, (fleet, balancer))

    def _redis(self) -> GoogleRedis:
        site, names = self._settings.sites.gcp, self._names
        return GoogleRedis(
            "redis-gcp",
            GoogleRedisArgs(
                instance=names.named("redis"),
                full_name=names.memorystore_instance(site.region),
                project=site.project,
                location=site.region,
                node_type=site.redis_node_type,
                network=self._network.network,
                subnet=self._network.subnet,
                protect=self._settings.protect_data,
            ),
            self._opts,
        )

    def _grant(self, fleet: GoogleFleet) -> None:
        self._artifacts.grant("fleet-gcp-reads", fleet.member, "roles/storage.objectViewer", SERVED)
        self._artifacts.grant_list("fleet-gcp-lists", fleet.member)
        self._features.writer("fleet-gcp-features", fleet.member)
        if self.redis is not None:
            self.redis.writer("fleet-gcp-redis", fleet.member)


def first_boot(
    image: str, machine_type: str, environment: Mapping[str, str], trusted: pulumi.Input[str]
) -> pulumi.Output[str]:
    """Return a host's cloud-config, with the public keys of both sites among the service's settings.

    They are in the stack's state (components/signing_keys.py): neither a boot nor a failover asks a key service for them.
    """
    return pulumi.Output.from_input(trusted).apply(
        lambda keys: cloud_config(image, machine_type, {**environment, names_of.SIGNING_KEYS: keys}, SERVICE_PORT)
    )


def service_environment(settings: Settings, names: Names, site: Site) -> dict[str, str]:
    """Return what the service is told on every host of a site, but for the public keys (first_boot)."""
    # An instance tells its region by its metadata service only, which the SDK does not ask for it.
    region = {"AWS_DEFAULT_REGION": settings.sites.aws.region} if site is Site.AWS else {}
    return {
        **region,
        names_of.SITE: site.value,
        names_of.ARTIFACT_BUCKETS: json.dumps(names.artifact_buckets(), sort_keys=True),
        names_of.FEATURE_TABLES: json.dumps(names.feature_tables(), sort_keys=True),
        names_of.MODEL: settings.model,
        names_of.ALIAS: names_of.DEFAULT_ALIAS,
    }
