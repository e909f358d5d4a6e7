"""The Google side's hosts: what they are made of, what they may do and how many there are."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute, projects, serviceaccount

from infra.user_data import is_accelerated

HEALTH_PATH = "/health"
PORT_NAME = "http"
# From launch to alive: driver, container and weights. Until then a host is not judged.
BOOT_GRACE_SECONDS = 600
ROOT_DISK_GB = 200
# What every host of the project needs besides its data: writing logs and metrics, pulling its image.
HOST_ROLES: Mapping[str, str] = {
    "logs": "roles/logging.logWriter",
    "metrics": "roles/monitoring.metricWriter",
    "images": "roles/artifactregistry.reader",
}


@dataclass(frozen=True, kw_only=True)
class GoogleFleetArgs:
    """`after` is what must be done before the group changes: a site that no longer serves shrinks after the shift."""

    name: str
    project: str
    region: str
    zones: Sequence[str]
    image: str
    machine_type: str
    user_data: pulumi.Output[str]
    reservation: str
    subnet: pulumi.Input[str]
    host_tag: str
    service_port: int
    size: int
    after: Sequence[pulumi.Resource]


class GoogleFleet(pulumi.ComponentResource):
    """A regional managed instance group.

    Hosts are healed by /health (dead or hung: make a new one) and get requests by /ready (infra/components/google_balancer.py):
    a host that waits for its model is not replaced by one that would have to wait as well.
    """

    def __init__(self, name: str, args: GoogleFleetArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:fleet:GoogleFleet", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        account = serviceaccount.Account(
            f"{name}-account", account_id=args.name, display_name="Hosts of the service", opts=child
        )
        for purpose, role in HOST_ROLES.items():
            projects.IAMMember(f"{name}-{purpose}", project=args.project, role=role, member=account.member, opts=child)
        accelerated = is_accelerated(args.machine_type)
        # Templates are immutable: another content is another template, so the content is in the name.
        fixed = [args.image, args.machine_type, args.reservation]
        template_name = args.user_data.apply(lambda user_data: f"{args.name}-{_digest([*fixed, user_data])}")
        template = compute.RegionInstanceTemplate(
            f"{name}-template",
            name=template_name,
            region=args.region,
            machine_type=args.machine_type,
            disks=[
                {
                    "source_image": args.image,
                    "boot": True,
                    "auto_delete": True,
                    "disk_type": "pd-ssd",
                    "disk_size_gb": ROOT_DISK_GB,
                }
            ],
            network_interfaces=[{"subnetwork": args.subnet}],
            tags=[args.host_tag],
            metadata={"user-data": args.user_data, "enable-oslogin": "TRUE"},
            service_account={"email": account.email, "scopes": ["cloud-platform"]},
            # Machines with GPUs cannot be moved live.
            scheduling={
                "on_host_maintenance": "TERMINATE" if accelerated else "MIGRATE",
                "automatic_restart": True,
                "provisioning_model": "STANDARD",
            },
            reservation_affinity=(
                {
                    "type": "SPECIFIC_RESERVATION",
                    "specific_reservation": {
                        "key": "compute.googleapis.com/reservation-name",
                        "values": [args.reservation],
                    },
                }
                if args.reservation
                else {"type": "ANY_RESERVATION"}
            ),
            shielded_instance_config={"enable_vtpm": True, "enable_integrity_monitoring": True},
            opts=child,
        )
        alive = compute.HealthCheck(
            f"{name}-alive",
            name=f"{args.name}-alive",
            check_interval_sec=10,
            timeout_sec=5,
            healthy_threshold=1,
            unhealthy_threshold=3,
            http_health_check={"port": args.service_port, "request_path": HEALTH_PATH},
            opts=child,
        )
        group = compute.RegionInstanceGroupManager(
            f"{name}-group",
            name=args.name,
            region=args.region,
            base_instance_name=args.name,
            versions=[{"instance_template": template.self_link}],
            target_size=args.size,
            distribution_policy_zones=list(args.zones),
            # Take GPUs where there are some; an even spread would wait for a zone that has none.
            distribution_policy_target_shape="ANY",
            named_ports=[{"name": PORT_NAME, "port": args.service_port}],
            auto_healing_policies={"health_check": alive.id, "initial_delay_sec": BOOT_GRACE_SECONDS},
            update_policy={
                "type": "PROACTIVE",
                "minimal_action": "REPLACE",
                "instance_redistribution_type": "NONE",
                # A regional group takes no smaller surge than one host a zone.
                "max_surge_fixed": len(args.zones),
                "max_unavailable_fixed": 0,
            },
            # Waiting for hosts would hang a failover on GPUs that may not come; the gate asks what serves instead.
            wait_for_instances=False,
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        self.fleet: pulumi.Output[str] = group.name
        self.size: pulumi.Output[int] = group.target_size
        self.instance_group: pulumi.Output[str] = group.instance_group
        self.member: pulumi.Output[str] = account.member
        self.register_outputs({"fleet": self.fleet, "size": self.size})


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
