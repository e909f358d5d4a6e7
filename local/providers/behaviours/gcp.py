"""Google Cloud: names, ids, self links, e-mails and URLs as the real provider reports them, and what forces a replacement.

Ids are the long resource names of the Google APIs. Addresses and numbers that Google makes up are hashes of the name.
"""

from typing import Any

from local.providers.behaviours.gcp_rules import NAME, PROJECT, member, outputs_of
from local.providers.behaviours.gcp_serving import SERVING
from local.providers.behaviours.table import AutoName, Behaviour, Scope, behaviour, merged_tags

STORAGE = [
    behaviour(
        "gcp:storage/bucket:Bucket",
        "{name}",
        name=NAME,
        replace="name location project customPlacementConfig enableObjectRetention hierarchicalNamespace",
        outputs=outputs_of(
            labels=True,
            url="gs://{name}",
            selfLink="https://www.googleapis.com/storage/v1/b/{name}",
            projectNumber=lambda scope: int(scope.get("@number")),
        ),
    ),
    behaviour(
        "gcp:storage/bucketObject:BucketObject",
        "{bucket}-{name}",
        name=AutoName(maximum=1024),
        replace="bucket name kmsKeyName customerEncryption",
        outputs={
            "outputName": "{name}",
            "selfLink": "https://www.googleapis.com/storage/v1/b/{bucket}/o/{name}",
            "mediaLink": "https://storage.googleapis.com/download/storage/v1/b/{bucket}/o/{name}?alt=media",
        },
    ),
    member("gcp:storage/bucketIAMMember:BucketIAMMember", "b/{bucket}", parents="bucket"),
    behaviour(
        "gcp:storage/notification:Notification",
        "{bucket}/notificationConfigs/{@token|digits8}",
        replace="bucket customAttributes eventTypes objectNamePrefix payloadFormat topic",
        outputs={
            "notificationId": lambda scope: scope.get("@id").rpartition("/")[2],
            "selfLink": "https://www.googleapis.com/storage/v1/b/{@id}",
        },
    ),
]

MESSAGING = [
    behaviour(
        "gcp:logging/metric:Metric", "{name}", name=AutoName(maximum=100), replace="name project", outputs=outputs_of()
    ),
    behaviour(
        "gcp:monitoring/alertPolicy:AlertPolicy",
        PROJECT + "/alertPolicies/{@token|digits19}",
        replace="project",
        outputs=outputs_of(name="{@id}"),
    ),
    behaviour(
        "gcp:pubsub/topic:Topic",
        PROJECT + "/topics/{name}",
        name=AutoName(maximum=255),
        replace="name project tags",
        outputs=outputs_of(labels=True),
    ),
    behaviour(
        "gcp:pubsub/subscription:Subscription",
        PROJECT + "/subscriptions/{name}",
        name=AutoName(maximum=255),
        replace="name project topic filter enableMessageOrdering tags",
        outputs=outputs_of(labels=True),
    ),
    member(
        "gcp:pubsub/topicIAMMember:TopicIAMMember",
        PROJECT + "/topics/{topic|last}",
        parents="topic project",
        project="{project,@project}",
    ),
    member(
        "gcp:pubsub/subscriptionIAMMember:SubscriptionIAMMember",
        PROJECT + "/subscriptions/{subscription|last}",
        parents="subscription project",
        project="{project,@project}",
    ),
]

SECRETS = [
    member(
        "gcp:secretmanager/secretIamMember:SecretIamMember",
        PROJECT + "/secrets/{secretId|last}",
        parents="secretId project",
        project="{project,@project}",
    ),
]

_INSTANCE = PROJECT + "/instances/{instance|last}"
_INSTANCE_NAME = PROJECT + "/instances/{instanceName|last}"

BIGTABLE = [
    behaviour(
        "gcp:bigtable/instance:Instance",
        PROJECT + "/instances/{name}",
        name=AutoName(maximum=33, lowercase=True),
        replace="name project",
        outputs=outputs_of(labels=True, displayName="{displayName,name}"),
    ),
    behaviour(
        "gcp:bigtable/table:Table",
        _INSTANCE_NAME + "/tables/{name}",
        name=AutoName(maximum=50),
        replace="name instanceName project splitKeys",
        outputs=outputs_of(),
    ),
    behaviour(
        "gcp:bigtable/appProfile:AppProfile",
        _INSTANCE + "/appProfiles/{appProfileId}",
        replace="appProfileId instance project",
        outputs=outputs_of(name=_INSTANCE + "/appProfiles/{appProfileId}"),
    ),
    behaviour(
        "gcp:bigtable/gCPolicy:GCPolicy",
        _INSTANCE_NAME + "/tables/{table|last}/columnFamilies/{columnFamily}/gcPolicy",
        replace="columnFamily instanceName table project maxAge maxVersions mode",
        outputs=outputs_of(),
    ),
    member(
        "gcp:bigtable/tableIamMember:TableIamMember",
        _INSTANCE_NAME + "/tables/{table|last}",
        parents="instanceName table project",
        project="{project,@project}",
    ),
    member(
        "gcp:bigtable/instanceIamMember:InstanceIamMember",
        _INSTANCE,
        parents="instance project",
        project="{project,@project}",
    ),
]

# Cloud Run's deterministic form of a service's URL: https://SERVICE-PROJECT_NUMBER.REGION.run.app.
_RUN_URL = "https://{name}-{@number}.{location}.run.app"
_LOCATION = PROJECT + "/locations/{location,@region}"

FUNCTIONS = [
    behaviour(
        "gcp:cloudfunctionsv2/function:Function",
        PROJECT + "/locations/{location}/functions/{name}",
        name=NAME,
        replace="name location project",
        outputs=outputs_of(
            labels=True,
            url=_RUN_URL,
            state="ACTIVE",
            environment="GEN_2",
            **{
                "serviceConfig.uri": _RUN_URL,
                "serviceConfig.service": PROJECT + "/locations/{location}/services/{name}",
            },
        ),
    ),
    member(
        "gcp:cloudfunctionsv2/functionIamMember:FunctionIamMember",
        _LOCATION + "/functions/{cloudFunction|last}",
        parents="cloudFunction location project",
        project="{project,@project}",
        location="{location,@region}",
    ),
    member(
        "gcp:cloudrunv2/serviceIamMember:ServiceIamMember",
        _LOCATION + "/services/{name|last}",
        parents="name location project",
        project="{project,@project}",
        location="{location,@region}",
    ),
    member(
        "gcp:cloudrun/iamMember:IamMember",
        "v1/" + _LOCATION + "/services/{service|last}",
        parents="service location project",
        project="{project,@project}",
        location="{location,@region}",
    ),
]

_SPANNER = "{project,@project}/{instance|last}/{name}"

SPANNER = [
    behaviour(
        "gcp:spanner/instance:Instance",
        "{project,@project}/{name}",
        name=AutoName(maximum=30, lowercase=True),
        replace="name project config",
        outputs=outputs_of(labels=True, state="READY"),
    ),
    behaviour(
        "gcp:spanner/database:Database",
        _SPANNER,
        name=AutoName(maximum=30, lowercase=True),
        replace="name project instance databaseDialect encryptionConfig",
        outputs=outputs_of(state="READY"),
    ),
    member(
        "gcp:spanner/databaseIAMMember:DatabaseIAMMember",
        "{project,@project}/{instance|last}/{database|last}",
        parents="instance database project",
        project="{project,@project}",
    ),
]

_REDIS = "projects/{project,@project}/locations/{location}/instances/{instanceId}"


def _endpoints(scope: Scope) -> Any:
    """Return an address that is not known before the server is there, and stays what its cloud revealed."""
    if kept := scope.old_outputs.get("endpoints"):
        return kept
    address = scope.render("{@token|address}")
    primary = {"connectionType": "CONNECTION_TYPE_PRIMARY", "ipAddress": address, "port": 6379}
    return [{"connections": [{"pscAutoConnection": primary}]}]


REDIS = [
    behaviour(
        "gcp:memorystore/instance:Instance",
        _REDIS,
        name=AutoName("instanceId", maximum=63, lowercase=True),
        replace="instanceId location project authorizationMode transitEncryptionMode mode kmsKey desiredAutoCreatedEndpoints"
        " desiredPscAutoConnections gcsSource managedBackupSource zoneDistributionConfig",
        outputs=outputs_of(
            labels=True, name=_REDIS, state="ACTIVE", endpoints=_endpoints, managedServerCas=lambda scope: []
        ),
    ),
    behaviour(
        "gcp:networkconnectivity/serviceConnectionPolicy:ServiceConnectionPolicy",
        "projects/{project,@project}/locations/{location}/serviceConnectionPolicies/{name}",
        name=NAME,
        replace="name location project network serviceClass",
        outputs=outputs_of(labels=True),
    ),
]

DATAFLOW = [
    behaviour(
        "gcp:dataflow/flexTemplateJob:FlexTemplateJob",
        "{@token|digits20}",
        name=NAME,
        replace="project region",
        outputs=outputs_of(
            labels=True,
            region="{region,@region}",
            jobId="{@id}",
            state="JOB_STATE_RUNNING",
            type="JOB_TYPE_STREAMING",
        ),
    ),
]

_EMAIL = "{accountId}@{project,@project}.iam.gserviceaccount.com"
_POOL = "/locations/global/workloadIdentityPools/{workloadIdentityPoolId}"
_POOL_PROVIDER = _POOL + "/providers/{workloadIdentityPoolProviderId}"

IDENTITY = [
    behaviour(
        "gcp:serviceaccount/account:Account",
        PROJECT + "/serviceAccounts/" + _EMAIL,
        name=AutoName("accountId", maximum=30, lowercase=True),
        replace="accountId project",
        outputs=outputs_of(
            email=_EMAIL,
            member="serviceAccount:" + _EMAIL,
            name=PROJECT + "/serviceAccounts/" + _EMAIL,
            uniqueId="{accountId|digits21}",
        ),
    ),
    member("gcp:serviceaccount/iAMMember:IAMMember", "{serviceAccountId}", parents="serviceAccountId"),
    member("gcp:projects/iAMMember:IAMMember", "{project}", parents="project"),
    behaviour(
        "gcp:projects/iAMCustomRole:IAMCustomRole",
        PROJECT + "/roles/{roleId}",
        replace="roleId project",
        outputs=outputs_of(name=PROJECT + "/roles/{roleId}", deleted=lambda _: False),
    ),
    behaviour(
        "gcp:projects/service:Service", "{project,@project}/{service}", replace="project service", outputs=outputs_of()
    ),
    behaviour(
        "gcp:iam/workloadIdentityPool:WorkloadIdentityPool",
        PROJECT + _POOL,
        replace="workloadIdentityPoolId project mode",
        outputs=outputs_of(name="projects/{@number}" + _POOL, state="ACTIVE"),
    ),
    behaviour(
        "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider",
        PROJECT + _POOL_PROVIDER,
        replace="workloadIdentityPoolId workloadIdentityPoolProviderId project",
        outputs=outputs_of(name="projects/{@number}" + _POOL_PROVIDER, state="ACTIVE"),
    ),
    behaviour(
        "gcp:kms/keyRing:KeyRing",
        PROJECT + "/locations/{location}/keyRings/{name}",
        name=NAME,
        replace="name location project",
        outputs=outputs_of(),
    ),
    behaviour(
        "gcp:kms/cryptoKey:CryptoKey",
        "{keyRing}/cryptoKeys/{name}",
        name=NAME,
        replace="name keyRing purpose importOnly skipInitialVersionCreation destroyScheduledDuration cryptoKeyBackend",
        outputs={"effectiveLabels": merged_tags("labels"), "pulumiLabels": merged_tags("labels")},
    ),
    member("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember", "{cryptoKeyId}", parents="cryptoKeyId"),
    behaviour(
        "gcp:kms/cryptoKeyVersion:CryptoKeyVersion",
        # Google numbers the versions of a key; here a version is told by the resource that makes it.
        "{cryptoKey}/cryptoKeyVersions/{@token|digits6}",
        replace="cryptoKey externalProtectionLevelOptions",
        outputs={
            "name": "{@id}",
            "algorithm": "EC_SIGN_P256_SHA256",
            "protectionLevel": "SOFTWARE",
        },
    ),
    behaviour(
        "gcp:cloudscheduler/job:Job",
        PROJECT + "/locations/{region,@region}/jobs/{name}",
        name=NAME,
        replace="name project region",
        outputs=outputs_of(region="{region,@region}", state="ENABLED"),
    ),
]

BEHAVIOURS: list[Behaviour] = [
    *STORAGE,
    *MESSAGING,
    *SECRETS,
    *BIGTABLE,
    *FUNCTIONS,
    *SPANNER,
    *REDIS,
    *DATAFLOW,
    *IDENTITY,
    *SERVING,
]
