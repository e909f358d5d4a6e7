"""The network of the AWS side: the balancer in public subnets, hosts in private ones, stores reached without the internet."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2

# Subnets of 1,022 addresses: a fleet at its limit fits into one zone. Private ones come second so that zones can be added.
SUBNET_BITS = 22
PRIVATE_OFFSET = 16


@dataclass(frozen=True)
class ZoneRanges:
    """One zone's two address ranges."""

    public: str
    private: str


def zone_ranges(network_range: str, zones: Sequence[str]) -> Mapping[str, ZoneRanges]:
    """Cut a network into one public and one private subnet a zone."""
    subnets = list(ipaddress.IPv4Network(network_range).subnets(new_prefix=SUBNET_BITS))
    return {
        zone: ZoneRanges(str(subnets[index]), str(subnets[PRIVATE_OFFSET + index])) for index, zone in enumerate(zones)
    }


@dataclass(frozen=True, kw_only=True)
class AwsNetworkArgs:
    """`listen_port` is the balancer's, `service_port` the hosts'."""

    region: str
    zones: Sequence[str]
    network_range: str
    listen_port: int
    service_port: int
    name: str
    # Ports inside the network that hosts call beside HTTPS, such as that of Redis.
    inner_ports: Sequence[int] = ()


class AwsNetwork(pulumi.ComponentResource):
    """Subnets in every zone, each zone with its own way out, and gateways to S3 and DynamoDB."""

    def __init__(self, name: str, args: AwsNetworkArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:network:AwsNetwork", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        vpc = ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.network_range,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={"Name": args.name},
            opts=child,
        )
        gateway = ec2.InternetGateway(f"{name}-gateway", vpc_id=vpc.id, opts=child)
        public_routes = ec2.RouteTable(
            f"{name}-public",
            vpc_id=vpc.id,
            routes=[{"cidr_block": "0.0.0.0/0", "gateway_id": gateway.id}],
            opts=child,
        )
        private_tables = []
        self.public_subnets: list[pulumi.Output[str]] = []
        self.private_subnets: list[pulumi.Output[str]] = []
        for zone, ranges in zone_ranges(args.network_range, args.zones).items():
            public = ec2.Subnet(
                f"{name}-public-{zone}",
                vpc_id=vpc.id,
                availability_zone=zone,
                cidr_block=ranges.public,
                opts=child,
            )
            ec2.RouteTableAssociation(
                f"{name}-public-{zone}", subnet_id=public.id, route_table_id=public_routes.id, opts=child
            )
            address = ec2.Eip(f"{name}-out-{zone}", domain="vpc", opts=child)
            # One way out a zone: hosts of a zone must not lose theirs with another zone.
            way_out = ec2.NatGateway(
                f"{name}-out-{zone}",
                allocation_id=address.id,
                subnet_id=public.id,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[gateway]),
            )
            private = ec2.Subnet(
                f"{name}-private-{zone}",
                vpc_id=vpc.id,
                availability_zone=zone,
                cidr_block=ranges.private,
                opts=child,
            )
            private_routes = ec2.RouteTable(
                f"{name}-private-{zone}",
                vpc_id=vpc.id,
                routes=[{"cidr_block": "0.0.0.0/0", "nat_gateway_id": way_out.id}],
                opts=child,
            )
            ec2.RouteTableAssociation(
                f"{name}-private-{zone}", subnet_id=private.id, route_table_id=private_routes.id, opts=child
            )
            private_tables.append(private_routes)
            self.public_subnets.append(public.id)
            self.private_subnets.append(private.id)
        gateways = {
            service: ec2.VpcEndpoint(
                f"{name}-{service}",
                vpc_id=vpc.id,
                service_name=f"com.amazonaws.{args.region}.{service}",
                vpc_endpoint_type="Gateway",
                route_table_ids=[table.id for table in private_tables],
                opts=child,
            )
            for service in ("s3", "dynamodb")
        }
        balancer = ec2.SecurityGroup(
            f"{name}-balancer",
            name=f"{args.name}-balancer",
            description="The balancer: the public port from anywhere, hosts on the service port",
            vpc_id=vpc.id,
            ingress=[
                {
                    "protocol": "tcp",
                    "from_port": args.listen_port,
                    "to_port": args.listen_port,
                    "cidr_blocks": ["0.0.0.0/0"],
                    "description": "front door and gate probes",
                }
            ],
            egress=[
                {
                    "protocol": "tcp",
                    "from_port": args.service_port,
                    "to_port": args.service_port,
                    "cidr_blocks": [args.network_range],
                    "description": "hosts",
                }
            ],
            opts=child,
        )
        inner: list[ec2.SecurityGroupEgressArgsDict] = [
            {
                "protocol": "tcp",
                "from_port": port,
                "to_port": port,
                "cidr_blocks": [args.network_range],
                "description": "inside the network",
            }
            for port in args.inner_ports
        ]
        hosts = ec2.SecurityGroup(
            f"{name}-hosts",
            name=f"{args.name}-hosts",
            description="Hosts: the service port from the balancer only, HTTPS to registries and APIs",
            vpc_id=vpc.id,
            ingress=[
                {
                    "protocol": "tcp",
                    "from_port": args.service_port,
                    "to_port": args.service_port,
                    "security_groups": [balancer.id],
                    "description": "balancer",
                }
            ],
            egress=[
                {
                    "protocol": "tcp",
                    "from_port": 443,
                    "to_port": 443,
                    "cidr_blocks": ["0.0.0.0/0"],
                    "description": "registries and APIs",
                },
                *inner,
            ],
            opts=child,
        )
        # The addresses of DynamoDB in this region, for rules of who may go nowhere else.
        self.dynamodb_addresses: pulumi.Output[str] = gateways["dynamodb"].prefix_list_id
        self.vpc_id: pulumi.Output[str] = vpc.id
        self.balancer_group: pulumi.Output[str] = balancer.id
        self.host_group: pulumi.Output[str] = hosts.id
        self.register_outputs({"vpcId": self.vpc_id})
