"""AWS: names, ids, ARNs and host names as the real provider reports them, and the properties that force a replacement.

Forms are those of the AWS documentation (service authorization reference for ARNs). Ids that AWS makes up are hashes
of the resource's URN: stable for a stack, different between stacks.
"""

from typing import Any

from local.providers.behaviours.table import AutoName, Behaviour, Scope, behaviour, counter, merged_tags
from local.providers.behaviours.table import OutputRule as Rule
from local.providers.wire import Asset

NAME = AutoName()
_ARN = "arn:aws:{service}:{{region,@region}}:{{@account}}:"


def _arn(service: str, rest: str) -> str:
    return _ARN.format(service=service) + rest


def _ec2(kind: str, *, owned: bool = True) -> dict[str, Rule]:
    owner: dict[str, Rule] = {"ownerId": "{@account}"} if owned else {}
    return {"arn": _arn("ec2", kind + "/{@id}"), **owner, **_tagged()}


def _regional(**outputs: Rule) -> dict[str, Rule]:
    return {"region": "{region,@region}", **outputs}


def _tagged(**outputs: Rule) -> dict[str, Rule]:
    return {"region": "{region,@region}", "tagsAll": merged_tags("tags"), **outputs}


def _content(scope: Scope) -> Any:
    code = scope.inputs.get("code")
    return code.hash if isinstance(code, Asset) else scope.inputs.get("sourceCodeHash")


STORAGE = [
    behaviour(
        "aws:s3/bucket:Bucket",
        "{bucket}",
        name=AutoName("bucket", maximum=63, lowercase=True),
        replace="bucket bucketPrefix objectLockEnabled region",
        outputs=_tagged(
            arn="arn:aws:s3:::{bucket}",
            bucketDomainName="{bucket}.s3.amazonaws.com",
            bucketRegion="{region,@region}",
            bucketRegionalDomainName="{bucket}.s3.{region,@region}.amazonaws.com",
            hostedZoneId="Z3BJ6K6RIION7M",
        ),
    ),
    *(
        behaviour(
            f"aws:s3/{module}:{module[0].upper()}{module[1:]}", "{bucket}", replace="bucket region", outputs=_regional()
        )
        for module in (
            "bucketVersioning",
            "bucketServerSideEncryptionConfiguration",
            "bucketPublicAccessBlock",
            "bucketNotification",
            "bucketLifecycleConfiguration",
            "bucketOwnershipControls",
            "bucketPolicy",
        )
    ),
    behaviour(
        "aws:dynamodb/table:Table",
        "{name}",
        name=NAME,
        replace="name hashKey rangeKey localSecondaryIndexes region importTable",
        outputs=_tagged(
            arn=_arn("dynamodb", "table/{name}"),
            streamLabel=lambda scope: STREAM_LABEL if scope.inputs.get("streamEnabled") else None,
            streamArn=lambda scope: (
                scope.render(_arn("dynamodb", "table/{name}/stream/" + STREAM_LABEL))
                if scope.inputs.get("streamEnabled")
                else None
            ),
        ),
    ),
]

# DynamoDB labels a stream with the time it was switched on; a fixed label keeps previews and repeated runs equal.
STREAM_LABEL = "2026-01-01T00:00:00.000"

_QUEUE_URL = "https://sqs.{region,@region}.amazonaws.com/{@account}/{name}"

MESSAGING = [
    behaviour(
        "aws:sqs/queue:Queue",
        _QUEUE_URL,
        name=AutoName(maximum=80),
        replace="name namePrefix fifoQueue region",
        outputs=_tagged(url=_QUEUE_URL, arn=_arn("sqs", "{name}")),
    ),
    behaviour("aws:sqs/queuePolicy:QueuePolicy", "{queueUrl}", replace="queueUrl region", outputs=_regional()),
    behaviour("aws:sqs/redrivePolicy:RedrivePolicy", "{queueUrl}", replace="queueUrl region", outputs=_regional()),
    behaviour(
        "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy", "{queueUrl}", replace="queueUrl region", outputs=_regional()
    ),
]

_FUNCTION = _arn("lambda", "function:{name}")
_INVOKE = "arn:aws:apigateway:{region,@region}:lambda:path/2015-03-31/functions/"

FUNCTIONS = [
    behaviour(
        "aws:lambda/function:Function",
        "{name}",
        name=AutoName(maximum=64),
        replace="name packageType region",
        outputs=_tagged(
            arn=_FUNCTION,
            version="$LATEST",
            qualifiedArn=_FUNCTION + ":$LATEST",
            invokeArn=_INVOKE + _FUNCTION + "/invocations",
            qualifiedInvokeArn=_INVOKE + _FUNCTION + ":$LATEST/invocations",
            codeSha256=_content,
            sourceCodeHash=_content,
        ),
    ),
    behaviour(
        "aws:lambda/eventSourceMapping:EventSourceMapping",
        "{@token|uuid}",
        replace="eventSourceArn startingPosition startingPositionTimestamp selfManagedEventSource queues region",
        outputs=_tagged(
            uuid="{@id}",
            arn=_arn("lambda", "event-source-mapping:{@id}"),
            functionArn=lambda scope: (
                name
                if str(name := scope.get("functionName")).startswith("arn:")
                else scope.render(_arn("lambda", "function:{functionName}"))
            ),
            state="Enabled",
        ),
    ),
    behaviour(
        "aws:lambda/permission:Permission",
        "{statementId}",
        name=AutoName("statementId", maximum=100),
        replace="action eventSourceToken function functionUrlAuthType principal principalOrgId qualifier region"
        " sourceAccount sourceArn statementId statementIdPrefix",
        outputs=_regional(),
    ),
    behaviour(
        "aws:lambda/layerVersion:LayerVersion",
        _arn("lambda", "layer:{layerName}:{@token|digits6}"),
        replace="code compatibleArchitectures compatibleRuntimes description layerName licenseInfo region s3Bucket"
        " s3Key s3ObjectVersion sourceCodeHash",
        outputs=_regional(
            arn="{@id}",
            layerArn=_arn("lambda", "layer:{layerName}"),
            version=lambda scope: str(scope.get("@id")).rpartition(":")[2],
            codeSha256=_content,
        ),
    ),
    behaviour(
        "aws:cloudwatch/logGroup:LogGroup",
        "{name}",
        name=AutoName(maximum=512),
        replace="name namePrefix logGroupClass region",
        outputs=_tagged(arn=_arn("logs", "log-group:{name}")),
    ),
]

IDENTITY = [
    behaviour(
        "aws:iam/role:Role",
        "{name}",
        name=AutoName(maximum=64),
        replace="name namePrefix path",
        outputs={
            "arn": lambda scope: scope.render(
                "arn:aws:iam::{@account}:role" + str(scope.inputs.get("path", "/")) + "{name}"
            ),
            "uniqueId": "AROA{@token|upper17}",
            "path": lambda scope: scope.inputs.get("path", "/"),
            "tagsAll": merged_tags("tags"),
        },
    ),
    behaviour(
        "aws:iam/rolePolicy:RolePolicy",
        "{role}:{name}",
        name=AutoName(maximum=128),
        replace="name namePrefix role",
    ),
    behaviour("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "{role}/{policyArn}", replace="role policyArn"),
    behaviour(
        "aws:iam/instanceProfile:InstanceProfile",
        "{name}",
        name=AutoName(maximum=128),
        replace="name namePrefix path",
        outputs={
            "arn": "arn:aws:iam::{@account}:instance-profile/{name}",
            "uniqueId": "AIPA{@token|upper17}",
            "tagsAll": merged_tags("tags"),
        },
    ),
    behaviour(
        "aws:kms/key:Key",
        "{@token|uuid}",
        replace="customKeyStoreId customerMasterKeySpec keyUsage multiRegion region xksKeyId",
        outputs=_tagged(arn=_arn("kms", "key/{@id}"), keyId="{@id}"),
    ),
    behaviour(
        "aws:kms/alias:Alias",
        "{name}",
        name=AutoName(maximum=250, prefix="alias/"),
        replace="name namePrefix region",
        outputs=_regional(
            arn=_arn("kms", "{name}"),
            targetKeyArn=lambda scope: (
                key
                if str(key := scope.get("targetKeyId")).startswith("arn:")
                else scope.render(_arn("kms", "key/{targetKeyId}"))
            ),
        ),
    ),
]

_RULE = "cidrIpv4 cidrIpv6 fromPort ipProtocol prefixListId referencedSecurityGroupId toPort"

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
        outputs=_regional(origin="CreateRoute", state="active"),
    ),
    behaviour(
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "rtbassoc-0{@token|hex16}",
        replace="subnetId gatewayId region",
        outputs=_regional(),
    ),
    behaviour(
        "aws:ec2/eip:Eip",
        "eipalloc-0{@token|hex16}",
        replace="address customerOwnedIpv4Pool domain ipamPoolId networkBorderGroup publicIpv4Pool region",
        outputs={
            "arn": _arn("ec2", "elastic-ip/{@id}"),
            "allocationId": "{@id}",
            "publicIp": "{@token|address}",
            **_tagged(),
        },
    ),
    behaviour(
        "aws:ec2/natGateway:NatGateway",
        "nat-0{@token|hex16}",
        replace="allocationId availabilityMode connectivityType privateIp region subnetId vpcId",
        outputs=_tagged(),
    ),
    behaviour(
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "vpce-0{@token|hex16}",
        replace="resourceConfigurationArn serviceName serviceNetworkArn serviceRegion vpcEndpointType vpcId region",
        outputs={**_ec2("vpc-endpoint"), "state": "available"},
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
        outputs=_regional(
            arn=_arn("autoscaling", "autoScalingGroup:{@token|uuid}:autoScalingGroupName/{name}"),
            desiredCapacity=lambda scope: scope.inputs.get("desiredCapacity", scope.inputs.get("minSize")),
        ),
    ),
    behaviour(
        "aws:lb/loadBalancer:LoadBalancer",
        _arn("elasticloadbalancing", "loadbalancer/" + _BALANCER),
        name=AutoName(maximum=32),
        replace="customerOwnedIpv4Pool internal loadBalancerType name namePrefix region",
        outputs=_tagged(
            arn="{@id}",
            arnSuffix=_BALANCER,
            dnsName="{name}-{@token|digits10}.{region,@region}.elb.amazonaws.com",
            zoneId="Z1H1FL5HABSF5",
        ),
    ),
    behaviour(
        "aws:lb/targetGroup:TargetGroup",
        _arn("elasticloadbalancing", "targetgroup/{name}/{@token|hex16}"),
        name=AutoName(maximum=32),
        replace="ipAddressType name namePrefix port protocol protocolVersion region targetType vpcId",
        outputs=_tagged(arn="{@id}", arnSuffix="targetgroup/{name}/{@token|hex16}"),
    ),
    behaviour(
        "aws:lb/listener:Listener",
        _arn("elasticloadbalancing", "listener/{loadBalancerArn|tail}/{@token|hex16}"),
        replace="loadBalancerArn region",
        outputs=_tagged(arn="{@id}"),
    ),
]


def _default_version(inputs: dict[str, object], latest: object) -> object:
    return latest if inputs.get("updateDefaultVersion") else inputs.get("defaultVersion", 1)


def _master_secrets(scope: Scope) -> Any:
    if not scope.inputs.get("manageMasterUserPassword"):
        return None
    secret = scope.render(_arn("secretsmanager", "secret:rds!cluster-{@token|uuid}-{@token|letters6}"))
    return [
        {
            "secretArn": secret,
            "secretStatus": "active",
            "kmsKeyId": scope.render(_arn("kms", "alias/aws/secretsmanager")),
        }
    ]


DATABASES = [
    behaviour(
        "aws:rds/cluster:Cluster",
        "{clusterIdentifier}",
        name=AutoName("clusterIdentifier", maximum=63, lowercase=True),
        replace="clusterIdentifier engine databaseName masterUsername storageEncrypted dbSubnetGroupName region",
        outputs=_tagged(
            arn=_arn("rds", "cluster:{clusterIdentifier}"),
            clusterResourceId="cluster-{@token|upper26}",
            endpoint="{clusterIdentifier}.cluster-{@token|letters12}.{region,@region}.rds.amazonaws.com",
            readerEndpoint="{clusterIdentifier}.cluster-ro-{@token|letters12}.{region,@region}.rds.amazonaws.com",
            engineVersionActual="{engineVersion}",
            masterUserSecrets=_master_secrets,
        ),
    ),
    behaviour(
        "aws:rds/clusterInstance:ClusterInstance",
        "{identifier}",
        name=AutoName("identifier", maximum=63, lowercase=True),
        replace="identifier clusterIdentifier engine publiclyAccessible region",
        outputs=_tagged(
            arn=_arn("rds", "db:{identifier}"),
            dbiResourceId="db-{@token|upper26}",
            engineVersionActual="{engineVersion}",
        ),
    ),
    behaviour(
        "aws:rds/subnetGroup:SubnetGroup",
        "{name}",
        name=AutoName(maximum=255, lowercase=True),
        replace="name region",
        outputs=_tagged(arn=_arn("rds", "subgrp:{name}")),
    ),
    behaviour(
        "aws:rds/clusterRoleAssociation:ClusterRoleAssociation",
        "{dbClusterIdentifier},{roleArn}",
        replace="dbClusterIdentifier featureName roleArn region",
        outputs=_regional(),
    ),
    behaviour(
        "aws:scheduler/schedule:Schedule",
        "{groupName,=default}/{name}",
        name=AutoName(maximum=64),
        replace="name groupName region",
        outputs=_regional(arn=_arn("scheduler", "schedule/{groupName,=default}/{name}")),
    ),
    behaviour(
        "aws:lambda/invocation:Invocation",
        "{functionName}_{@token|hex32}",
        replace="functionName qualifier input triggers region lifecycleScope",
        # What a function answers is not known before it has run; the cloud's answer has it, and it stays.
        outputs=_regional(result=lambda scope: scope.old_outputs.get("result") or (scope.get("@token") and "{}")),
    ),
]

BEHAVIOURS: list[Behaviour] = [*STORAGE, *MESSAGING, *FUNCTIONS, *DATABASES, *IDENTITY, *NETWORK, *FLEET]
