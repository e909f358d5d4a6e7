"""The AWS side's hosts: what they are made of, what they may do and how many there are."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import autoscaling, ec2, iam

from infra.rights import Statement, assumed_by, policy

# From launch to ready: driver, container and weights. Until then a host is not judged.
BOOT_GRACE_SECONDS = 600
ROOT_DISK_GB = 200


@dataclass(frozen=True, kw_only=True)
class AwsFleetArgs:
    """`after` is what must be done before the group changes: a site that no longer serves shrinks after the shift."""

    name: str
    image_id: str
    instance_type: str
    user_data: pulumi.Output[str]
    capacity_reservation_id: str
    subnets: Sequence[pulumi.Input[str]]
    security_group: pulumi.Input[str]
    target_group_arn: pulumi.Input[str]
    size: int
    limit: int
    rights: Sequence[Statement]
    after: Sequence[pulumi.Resource]


class AwsFleet(pulumi.ComponentResource):
    """An Auto Scaling group behind the site's balancer."""

    def __init__(self, name: str, args: AwsFleetArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:fleet:AwsFleet", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        role = iam.Role(f"{name}-role", name=args.name, assume_role_policy=assumed_by("ec2.amazonaws.com"), opts=child)
        iam.RolePolicy(f"{name}-rights", name="rights", role=role.name, policy=policy(*args.rights), opts=child)
        profile = iam.InstanceProfile(f"{name}-profile", name=args.name, role=role.name, opts=child)
        reserved = args.capacity_reservation_id
        template = ec2.LaunchTemplate(
            f"{name}-template",
            name=args.name,
            image_id=args.image_id,
            instance_type=args.instance_type,
            user_data=args.user_data.apply(lambda text: base64.b64encode(text.encode()).decode()),
            update_default_version=True,
            iam_instance_profile={"arn": profile.arn},
            vpc_security_group_ids=[args.security_group],
            # Two hops, because the service asks for its credentials from inside a container.
            metadata_options={
                "http_endpoint": "enabled",
                "http_tokens": "required",
                "http_put_response_hop_limit": 2,
            },
            capacity_reservation_specification=(
                {"capacity_reservation_target": {"capacity_reservation_id": reserved}}
                if reserved
                else {"capacity_reservation_preference": "open"}
            ),
            block_device_mappings=[
                {
                    "device_name": "/dev/sda1",
                    "ebs": {
                        "volume_size": ROOT_DISK_GB,
                        "volume_type": "gp3",
                        "encrypted": "true",
                        "delete_on_termination": "true",
                    },
                }
            ],
            opts=child,
        )
        group = autoscaling.Group(
            f"{name}-group",
            name=args.name,
            min_size=args.size,
            desired_capacity=args.size,
            max_size=args.limit,
            vpc_zone_identifiers=list(args.subnets),
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            target_group_arns=[args.target_group_arn],
            health_check_type="ELB",
            health_check_grace_period=BOOT_GRACE_SECONDS,
            # A replacement must be healthy before the host it replaces goes: when what all hosts depend on is away and
            # none is ready, warm hosts are not traded for cold ones.
            instance_maintenance_policy={"min_healthy_percentage": 100, "max_healthy_percentage": 200},
            instance_refresh={"strategy": "Rolling", "preferences": {"min_healthy_percentage": 100}},
            # Waiting for capacity would hang a failover on GPUs that may not come; the gate asks what serves instead.
            wait_for_capacity_timeout="0",
            tags=[{"key": "Name", "value": args.name, "propagate_at_launch": True}],
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        self.fleet: pulumi.Output[str] = group.name
        self.size: pulumi.Output[int] = group.desired_capacity
        self.register_outputs({"fleet": self.fleet, "size": self.size})
