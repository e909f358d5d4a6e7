"""The network of the Google side: private hosts, reached by the balancer's proxies and health checkers only."""

from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

# Where Google's proxies and health checkers come from (Cloud Load Balancing documentation, firewall rules).
BALANCER_RANGES = ("130.211.0.0/22", "35.191.0.0/16")


@dataclass(frozen=True, kw_only=True)
class GoogleNetworkArgs:
    """`host_tag` marks the hosts that the balancer may reach on the service's port."""

    name: str
    region: str
    network_range: str
    service_port: int
    host_tag: str


class GoogleNetwork(pulumi.ComponentResource):
    """One subnet without public addresses, with a way out for image pulls and private access to Google's APIs."""

    def __init__(self, name: str, args: GoogleNetworkArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:network:GoogleNetwork", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        network = compute.Network(
            f"{name}-network", name=args.name, auto_create_subnetworks=False, routing_mode="REGIONAL", opts=child
        )
        subnet = compute.Subnetwork(
            f"{name}-subnet",
            name=args.name,
            region=args.region,
            network=network.id,
            ip_cidr_range=args.network_range,
            private_ip_google_access=True,
            opts=child,
        )
        router = compute.Router(f"{name}-router", name=args.name, region=args.region, network=network.id, opts=child)
        compute.RouterNat(
            f"{name}-out",
            name=args.name,
            region=args.region,
            router=router.name,
            nat_ip_allocate_option="AUTO_ONLY",
            source_subnetwork_ip_ranges_to_nat="ALL_SUBNETWORKS_ALL_IP_RANGES",
            opts=child,
        )
        compute.Firewall(
            f"{name}-balancer",
            name=f"{args.name}-balancer",
            network=network.id,
            direction="INGRESS",
            source_ranges=list(BALANCER_RANGES),
            target_tags=[args.host_tag],
            allows=[{"protocol": "tcp", "ports": [str(args.service_port)]}],
            opts=child,
        )
        self.network: pulumi.Output[str] = network.id
        self.subnet: pulumi.Output[str] = subnet.id
        self.register_outputs({"network": self.network, "subnet": self.subnet})
