"""AWS: names, ids, ARNs and host names as the real provider reports them, and the properties that force a replacement.

Ids that AWS makes up are hashes of the resource's URN: stable for a stack, different between stacks.
"""

from typing import Any

from local.providers.behaviours.aws_rules import NAME, arn, regional, tagged
from local.providers.behaviours.aws_serving import SERVING
from local.providers.behaviours.table import AutoName, Behaviour, Scope, behaviour, merged_tags
from local.providers.wire import Asset


def _content(scope: Scope) -> Any:
    code = scope.inputs.get("code")
    return code.hash if isinstance(code, Asset) else scope.inputs.get("sourceCodeHash")


STORAGE = [
    behaviour(
        "aws:s3/bucket:Bucket",
        "{bucket}",
        name=AutoName("bucket", maximum=63, lowercase=True),
        replace="bucket bucketPrefix objectLockEnabled region",
        outputs=tagged(
            arn="arn:aws:s3:::{bucket}",
            bucketDomainName="{bucket}.s3.amazonaws.com",
            bucketRegion="{region,@region}",
            bucketRegionalDomainName="{bucket}.s3.{region,@region}.amazonaws.com",
            hostedZoneId="Z3BJ6K6RIION7M",
        ),
    ),
    *(
        behaviour(
            f"aws:s3/{module}:{module[0].upper()}{module[1:]}", "{bucket}", replace="bucket region", outputs=regional()
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
        outputs=tagged(
            arn=arn("dynamodb", "table/{name}"),
            streamLabel=lambda scope: STREAM_LABEL if scope.inputs.get("streamEnabled") else None,
            streamArn=lambda scope: (
                scope.render(arn("dynamodb", "table/{name}/stream/" + STREAM_LABEL))
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
        outputs=tagged(url=_QUEUE_URL, arn=arn("sqs", "{name}")),
    ),
    behaviour("aws:sqs/queuePolicy:QueuePolicy", "{queueUrl}", replace="queueUrl region", outputs=regional()),
    behaviour("aws:sqs/redrivePolicy:RedrivePolicy", "{queueUrl}", replace="queueUrl region", outputs=regional()),
    behaviour(
        "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy", "{queueUrl}", replace="queueUrl region", outputs=regional()
    ),
]

_FUNCTION = arn("lambda", "function:{name}")
_INVOKE = "arn:aws:apigateway:{region,@region}:lambda:path/2015-03-31/functions/"

FUNCTIONS = [
    behaviour(
        "aws:lambda/function:Function",
        "{name}",
        name=AutoName(maximum=64),
        replace="name packageType region",
        outputs=tagged(
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
        outputs=tagged(
            uuid="{@id}",
            arn=arn("lambda", "event-source-mapping:{@id}"),
            functionArn=lambda scope: (
                name
                if str(name := scope.get("functionName")).startswith("arn:")
                else scope.render(arn("lambda", "function:{functionName}"))
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
        outputs=regional(),
    ),
    behaviour(
        "aws:lambda/layerVersion:LayerVersion",
        arn("lambda", "layer:{layerName}:{@token|digits6}"),
        replace="code compatibleArchitectures compatibleRuntimes description layerName licenseInfo region s3Bucket"
        " s3Key s3ObjectVersion sourceCodeHash",
        outputs=regional(
            arn="{@id}",
            layerArn=arn("lambda", "layer:{layerName}"),
            version=lambda scope: str(scope.get("@id")).rpartition(":")[2],
            codeSha256=_content,
        ),
    ),
    behaviour(
        "aws:cloudwatch/logGroup:LogGroup",
        "{name}",
        name=AutoName(maximum=512),
        replace="name namePrefix logGroupClass region",
        outputs=tagged(arn=arn("logs", "log-group:{name}")),
    ),
    behaviour(
        "aws:cloudwatch/metricAlarm:MetricAlarm",
        "{name}",
        name=AutoName(maximum=255),
        replace="name region",
        outputs=tagged(arn=arn("cloudwatch", "alarm:{name}")),
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
        outputs=tagged(arn=arn("kms", "key/{@id}"), keyId="{@id}"),
    ),
    behaviour(
        "aws:kms/alias:Alias",
        "{name}",
        name=AutoName(maximum=250, prefix="alias/"),
        replace="name namePrefix region",
        outputs=regional(
            arn=arn("kms", "{name}"),
            targetKeyArn=lambda scope: (
                key
                if str(key := scope.get("targetKeyId")).startswith("arn:")
                else scope.render(arn("kms", "key/{targetKeyId}"))
            ),
        ),
    ),
]


def _master_secrets(scope: Scope) -> Any:
    if not scope.inputs.get("manageMasterUserPassword"):
        return None
    secret = scope.render(arn("secretsmanager", "secret:rds!cluster-{@token|uuid}-{@token|letters6}"))
    return [
        {
            "secretArn": secret,
            "secretStatus": "active",
            "kmsKeyId": scope.render(arn("kms", "alias/aws/secretsmanager")),
        }
    ]


DATABASES = [
    behaviour(
        "aws:rds/cluster:Cluster",
        "{clusterIdentifier}",
        name=AutoName("clusterIdentifier", maximum=63, lowercase=True),
        replace="clusterIdentifier engine databaseName masterUsername storageEncrypted dbSubnetGroupName region",
        outputs=tagged(
            arn=arn("rds", "cluster:{clusterIdentifier}"),
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
        outputs=tagged(
            arn=arn("rds", "db:{identifier}"),
            dbiResourceId="db-{@token|upper26}",
            engineVersionActual="{engineVersion}",
        ),
    ),
    behaviour(
        "aws:rds/subnetGroup:SubnetGroup",
        "{name}",
        name=AutoName(maximum=255, lowercase=True),
        replace="name region",
        outputs=tagged(arn=arn("rds", "subgrp:{name}")),
    ),
    behaviour(
        "aws:rds/clusterRoleAssociation:ClusterRoleAssociation",
        "{dbClusterIdentifier},{roleArn}",
        replace="dbClusterIdentifier featureName roleArn region",
        outputs=regional(),
    ),
    behaviour(
        "aws:scheduler/schedule:Schedule",
        "{groupName,=default}/{name}",
        name=AutoName(maximum=64),
        replace="name groupName region",
        outputs=regional(arn=arn("scheduler", "schedule/{groupName,=default}/{name}")),
    ),
    behaviour(
        "aws:lambda/invocation:Invocation",
        "{functionName}_{@token|hex32}",
        replace="functionName qualifier input triggers region lifecycleScope",
        # What a function answers is not known before it has run; the cloud's answer has it, and it stays.
        outputs=regional(result=lambda scope: scope.old_outputs.get("result") or (scope.get("@token") and "{}")),
    ),
]


def _address(role: str) -> Any:
    """Return a rule: an address that is not known before the server is there, and stays what its cloud revealed."""
    kept, form = f"{role}EndpointAddress", "{replicationGroupId}.{@token|letters6}." + role + ".cache.amazonaws.com"
    return lambda scope: scope.old_outputs.get(kept) or scope.render(form)


REDIS = [
    behaviour(
        "aws:elasticache/replicationGroup:ReplicationGroup",
        "{replicationGroupId}",
        name=AutoName("replicationGroupId", maximum=40, lowercase=True),
        replace="replicationGroupId atRestEncryptionEnabled globalReplicationGroupId kmsKeyId networkType port region"
        " securityGroupNames snapshotArns snapshotName subnetGroupName",
        outputs=tagged(
            arn=arn("elasticache", "replicationgroup:{replicationGroupId}"),
            engineVersionActual="{engineVersion}",
            port=lambda scope: scope.old_outputs.get("port") or scope.inputs.get("port", 6379),
            primaryEndpointAddress=_address("primary"),
            readerEndpointAddress=_address("reader"),
        ),
    ),
    behaviour(
        "aws:elasticache/user:User",
        "{userId}",
        name=AutoName("userId", maximum=40, lowercase=True),
        replace="userId userName region",
        outputs=tagged(arn=arn("elasticache", "user:{userId}")),
    ),
    behaviour(
        "aws:elasticache/userGroup:UserGroup",
        "{userGroupId}",
        name=AutoName("userGroupId", maximum=40, lowercase=True),
        replace="userGroupId region",
        outputs=tagged(arn=arn("elasticache", "usergroup:{userGroupId}")),
    ),
    behaviour(
        "aws:elasticache/subnetGroup:SubnetGroup",
        "{name}",
        name=AutoName(maximum=255, lowercase=True),
        replace="name region",
        outputs=tagged(arn=arn("elasticache", "subnetgroup:{name}")),
    ),
    behaviour(
        "aws:elasticache/parameterGroup:ParameterGroup",
        "{name}",
        name=AutoName(maximum=255, lowercase=True),
        replace="name family description region",
        outputs=tagged(arn=arn("elasticache", "parametergroup:{name}")),
    ),
]

BEHAVIOURS: list[Behaviour] = [*STORAGE, *MESSAGING, *FUNCTIONS, *DATABASES, *REDIS, *IDENTITY, *SERVING]
