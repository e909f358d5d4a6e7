"""The AWS side's entrance: a balancer in all zones, its target group and its listener."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import lb

from infra.settings import Scheme

READY_PATH = "/ready"
# TLS 1.2 and 1.3 only (Elastic Load Balancing, security policies).
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"


@dataclass(frozen=True, kw_only=True)
class AwsBalancerArgs:
    """`certificate_arn` is read for https only."""

    name: str
    scheme: Scheme
    certificate_arn: str
    subnets: Sequence[pulumi.Input[str]]
    security_group: pulumi.Input[str]
    vpc_id: pulumi.Input[str]
    service_port: int
    protect: bool


class AwsBalancer(pulumi.ComponentResource):
    """An application load balancer.

    Hosts are asked for /ready, not for mere life: a host without its model must get no request. The price is that an
    unready host counts as unhealthy for its group too; the group therefore starts the replacement before it takes the
    old host away (infra/components/aws_fleet.py).
    """

    def __init__(self, name: str, args: AwsBalancerArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:network:AwsBalancer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        balancer = lb.LoadBalancer(
            f"{name}-balancer",
            name=args.name,
            load_balancer_type="application",
            subnets=list(args.subnets),
            security_groups=[args.security_group],
            drop_invalid_header_fields=True,
            enable_deletion_protection=args.protect,
            opts=child,
        )
        group = lb.TargetGroup(
            f"{name}-hosts",
            name=args.name,
            port=args.service_port,
            protocol="HTTP",
            target_type="instance",
            vpc_id=args.vpc_id,
            deregistration_delay=30,
            load_balancing_algorithm_type="least_outstanding_requests",
            health_check={
                "path": READY_PATH,
                "matcher": "200",
                "interval": 5,
                "timeout": 2,
                "healthy_threshold": 2,
                "unhealthy_threshold": 2,
            },
            opts=child,
        )
        secure = args.scheme is Scheme.HTTPS
        lb.Listener(
            f"{name}-listener",
            load_balancer_arn=balancer.arn,
            port=args.scheme.port,
            protocol="HTTPS" if secure else "HTTP",
            certificate_arn=args.certificate_arn if secure else None,
            ssl_policy=TLS_POLICY if secure else None,
            default_actions=[{"type": "forward", "target_group_arn": group.arn}],
            opts=child,
        )
        self.address: pulumi.Output[str] = balancer.dns_name
        self.target_group_arn: pulumi.Output[str] = group.arn
        self.register_outputs({"address": self.address})
