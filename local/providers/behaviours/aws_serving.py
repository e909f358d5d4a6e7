"""AWS, what serves users: networks, balancers, fleets."""

from local.providers.behaviours.aws_rules import NAME, arn, regional, tagged
from local.providers.behaviours.table import AutoName, Behaviour, behaviour, counter
from local.providers.behaviours.table import OutputRule as Rule


def _ec2(kind: str, *, owned: bool = True) -> dict[str, Rule]:
    owner: dict[str, Rule] = {"ownerId": "{@account}"} if owned else {}
    return {"arn": arn("ec2", kind + "/{@id}"), **owner, **tagged()}


def _default_version(inputs: dict[str, object], latest: object) -> object:
    return latest if inputs.get("updateDefaultVersion") else inputs.get("defaultVersion", 1)


NETWORK = [
    behaviour(
        "aws:ec2/vpc:Vpc",
        "vpc-0{@token|hex16}",
        replace="cidrBlock instanceTenancy ipv4IpamPoolId ipv4NetmaskLength region",
        outputs={
            **_ec2("vpc"),
            "defaultNetworkAclId": "acl-0{@token|hex16}",
            "defaultRouteTableId": "rtb-0{@token|hex16}",
            "defaultSecurityGroupId": "sg-0{@token|hex16}",
            "mainRouteTableId": "rtb-0{@token|hex16}",
            "dhcpOptionsId": "dopt-0{@token|hex16}",
        },
    ),
    behaviour(
        "aws:ec2/subnet:Subnet",
        "subnet-0{@token|hex16}",
        replace="availabilityZone availabilityZoneId cidrBlock ipv6Native outpostArn region vpcId",
        outputs=_ec2("subnet"),
    ),
    behaviour(
        "aws:ec2/internetGateway:InternetGateway",
        "igw-0{@token|hex16}",
        replace="region",
        outputs=_ec2("internet-gateway"),
    ),
    behaviour(
        "aws:ec2/routeTable:RouteTable", "rtb-0{@token|hex16}", replace="vpcId region", outputs=_ec2("route-table")
    ),
    behaviour(
        "aws:ec2/route:Route",
        "r-{routeTableId}{destinationCidrBlock,destinationIpv6CidrBlock,destinationPrefixListId|digits10}",
        replace="routeTableId destinationCidrBlock destinationIpv6CidrBlock destinationPrefixListId region",
        outputs=regional(origin="CreateRoute", state="active"),
    ),
    behaviour(
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "rtbassoc-0{@token|hex16}",
        replace="subnetId gatewayId region",
        outputs=regional(),
    ),
    behaviour(
        "aws:ec2/eip:Eip",
        "eipalloc-0{@token|hex16}",
        replace="address customerOwnedIpv4Pool domain ipamPoolId networkBorderGroup publicIpv4Pool region",
        outputs={
            "arn": arn("ec2", "elastic-ip/{@id}"),
            "allocationId": "{@id}",
            "publicIp": "{@token|address}",
            **tagged(),
        },
    ),
    behaviour(
        "aws:ec2/natGateway:NatGateway",
        "nat-0{@token|hex16}",
        replace="allocationId availabilityMode connectivityType privateIp region subnetId vpcId",
        outputs=tagged(),
    ),
    behaviour(
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "vpce-0{@token|hex16}",
        replace="resourceConfigurationArn serviceName serviceNetworkArn serviceRegion vpcEndpointType vpcId region",
        outputs={**_ec2("vpc-endpoint"), "state": "available", "prefixListId": "pl-{@token|hex8}"},
    ),
    behaviour(
        "aws:ec2/securityGroup:SecurityGroup",
        "sg-0{@token|hex16}",
        name=NAME,
        replace="description name namePrefix region vpcId",
        outputs=_ec2("security-group"),
    ),
    behaviour(
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "sgr-0{@token|hex16}",
        replace="securityGroupId region",
        outputs={**_ec2("security-group-rule", owned=False), "securityGroupRuleId": "{@id}"},
    ),
    behaviour(
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
        "sgr-0{@token|hex16}",
        replace="securityGroupId region",
        outputs={**_ec2("security-group-rule", owned=False), "securityGroupRuleId": "{@id}"},
    ),
]

_BALANCER = "app/{name}/{@token|hex16}"

FLEET = [
    behaviour(
        "aws:ec2/launchTemplate:LaunchTemplate",
        "lt-0{@token|hex16}",
        name=AutoName(maximum=128),
        replace="name namePrefix region",
        outputs={
            **_ec2("launch-template", owned=False),
            "latestVersion": counter("latestVersion"),
            "defaultVersion": lambda scope: _default_version(scope.inputs, scope.get("latestVersion")),
        },
    ),
    behaviour(
        "aws:autoscaling/group:Group",
        "{name}",
        name=NAME,
        replace="name namePrefix placementGroup region",
        outputs=regional(
            arn=arn("autoscaling", "autoScalingGroup:{@token|uuid}:autoScalingGroupName/{name}"),
            desiredCapacity=lambda scope: scope.inputs.get("desiredCapacity", scope.inputs.get("minSize")),
        ),
    ),
    behaviour(
        "aws:lb/loadBalancer:LoadBalancer",
        arn("elasticloadbalancing", "loadbalancer/" + _BALANCER),
        name=AutoName(maximum=32),
        replace="customerOwnedIpv4Pool internal loadBalancerType name namePrefix region",
        outputs=tagged(
            arn="{@id}",
            arnSuffix=_BALANCER,
            dnsName="{name}-{@token|digits10}.{region,@region}.elb.amazonaws.com",
            zoneId="Z1H1FL5HABSF5",
        ),
    ),
    behaviour(
        "aws:lb/targetGroup:TargetGroup",
        arn("elasticloadbalancing", "targetgroup/{name}/{@token|hex16}"),
        name=AutoName(maximum=32),
        replace="ipAddressType name namePrefix port protocol protocolVersion region targetType vpcId",
        outputs=tagged(arn="{@id}", arnSuffix="targetgroup/{name}/{@token|hex16}"),
    ),
    behaviour(
        "aws:lb/listener:Listener",
        arn("elasticloadbalancing", "listener/{loadBalancerArn|tail}/{@token|hex16}"),
        replace="loadBalancerArn region",
        outputs=tagged(arn="{@id}"),
    ),
]


SERVING: list[Behaviour] = [*NETWORK, *FLEET]
