"""The Google side's entrance: a global external balancer before the regional fleet."""

from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from infra.components.google_fleet import PORT_NAME
from infra.settings import Scheme

READY_PATH = "/ready"
SCHEME = "EXTERNAL_MANAGED"


class GoogleAddress(pulumi.ComponentResource):
    """The public address, apart from the balancer: the front door names it before the fleet behind it exists."""

    def __init__(self, name: str, address_name: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:network:GoogleAddress", name, None, opts)
        address = compute.GlobalAddress(f"{name}-address", name=address_name, opts=pulumi.ResourceOptions(parent=self))
        self.address: pulumi.Output[str] = address.address
        self.register_outputs({"address": self.address})


@dataclass(frozen=True, kw_only=True)
class GoogleBalancerArgs:
    """`certificate` is the self link of a certificate for the public name, read for https only."""

    name: str
    scheme: Scheme
    certificate: str
    address: pulumi.Input[str]
    instance_group: pulumi.Input[str]
    service_port: int


class GoogleBalancer(pulumi.ComponentResource):
    """Health check, backend service, URL map, proxy and forwarding rule."""

    def __init__(self, name: str, args: GoogleBalancerArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:network:GoogleBalancer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        ready = compute.HealthCheck(
            f"{name}-ready",
            name=f"{args.name}-ready",
            check_interval_sec=5,
            timeout_sec=2,
            healthy_threshold=2,
            unhealthy_threshold=2,
            http_health_check={"port": args.service_port, "request_path": READY_PATH},
            opts=child,
        )
        backend = compute.BackendService(
            f"{name}-backend",
            name=args.name,
            load_balancing_scheme=SCHEME,
            protocol="HTTP",
            port_name=PORT_NAME,
            timeout_sec=30,
            connection_draining_timeout_sec=30,
            health_checks=ready.id,
            backends=[{"group": args.instance_group, "balancing_mode": "UTILIZATION", "capacity_scaler": 1.0}],
            opts=child,
        )
        url_map = compute.URLMap(f"{name}-urls", name=args.name, default_service=backend.id, opts=child)
        proxy: compute.TargetHttpsProxy | compute.TargetHttpProxy
        if args.scheme is Scheme.HTTPS:
            proxy = compute.TargetHttpsProxy(
                f"{name}-proxy", name=args.name, url_map=url_map.id, ssl_certificates=[args.certificate], opts=child
            )
        else:
            proxy = compute.TargetHttpProxy(f"{name}-proxy", name=args.name, url_map=url_map.id, opts=child)
        compute.GlobalForwardingRule(
            f"{name}-rule",
            name=args.name,
            load_balancing_scheme=SCHEME,
            ip_address=args.address,
            ip_protocol="TCP",
            port_range=str(args.scheme.port),
            target=proxy.id,
            opts=child,
        )
        self.register_outputs({})
