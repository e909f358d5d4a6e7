"""Google Cloud: names, ids, self links, e-mails and URLs as the real provider reports them, and what forces a replacement.

Ids are the long resource names of the Google APIs. Addresses and numbers that Google makes up are hashes of the name.
"""

from typing import Any

from local.providers.behaviours.table import AutoName, Behaviour, Scope, behaviour, merged_tags
from local.providers.behaviours.table import OutputRule as Rule

# The platform's usual rule for resource names: 63 characters, lower case (RFC 1035).
NAME = AutoName(maximum=63, lowercase=True)

_PROJECT = "projects/{project,@project}"
_COMPUTE = "https://www.googleapis.com/compute/v1/"


def _outputs(labels: bool = False, **more: Rule) -> dict[str, Rule]:
    outputs: dict[str, Rule] = {"project": "{project,@project}"}
    if labels:
        outputs |= {"effectiveLabels": merged_tags("labels"), "pulumiLabels": merged_tags("labels")}
    return outputs | more


def _compute(
    token: str, collection: str, *, place: str = "global", replace: str = "", labels: bool = False, **more: Rule
) -> Behaviour:
    path = f"{_PROJECT}/{place}/{collection}/{{name}}"
    regional: dict[str, Rule] = {"region": "{region,@region}"} if place != "global" else {}
    return behaviour(
        f"gcp:compute/{token}",
        path,
        name=NAME,
        replace=f"name project {replace}" + (" region" if regional else ""),
        outputs=_outputs(labels, selfLink=_COMPUTE + path, **regional, **more),
    )


_REGION = "regions/{region,@region}"


def _member(token: str, parent: str, *, parents: str, **outputs: Rule) -> Behaviour:
    """Return a grant of one role to one member; any change makes another grant."""
    return behaviour(token, parent + "/{role}/{member}", replace=f"member role condition {parents}", outputs=outputs)


STORAGE = [
    behaviour(
        "gcp:storage/bucket:Bucket",
        "{name}",
        name=NAME,
        replace="name location project customPlacementConfig enableObjectRetention hierarchicalNamespace",
        outputs=_outputs(
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
    _member("gcp:storage/bucketIAMMember:BucketIAMMember", "b/{bucket}", parents="bucket"),
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
        "gcp:pubsub/topic:Topic",
        _PROJECT + "/topics/{name}",
        name=AutoName(maximum=255),
        replace="name project tags",
        outputs=_outputs(labels=True),
    ),
    behaviour(
        "gcp:pubsub/subscription:Subscription",
        _PROJECT + "/subscriptions/{name}",
        name=AutoName(maximum=255),
        replace="name project topic filter enableMessageOrdering tags",
        outputs=_outputs(labels=True),
    ),
    _member(
        "gcp:pubsub/topicIAMMember:TopicIAMMember",
        _PROJECT + "/topics/{topic|last}",
        parents="topic project",
        project="{project,@project}",
    ),
    _member(
        "gcp:pubsub/subscriptionIAMMember:SubscriptionIAMMember",
        _PROJECT + "/subscriptions/{subscription|last}",
        parents="subscription project",
        project="{project,@project}",
    ),
]

SECRETS = [
    _member(
        "gcp:secretmanager/secretIamMember:SecretIamMember",
        _PROJECT + "/secrets/{secretId|last}",
        parents="secretId project",
        project="{project,@project}",
    ),
]

_INSTANCE = _PROJECT + "/instances/{instance|last}"
_INSTANCE_NAME = _PROJECT + "/instances/{instanceName|last}"

BIGTABLE = [
    behaviour(
        "gcp:bigtable/instance:Instance",
        _PROJECT + "/instances/{name}",
        name=AutoName(maximum=33, lowercase=True),
        replace="name project",
        outputs=_outputs(labels=True, displayName="{displayName,name}"),
    ),
    behaviour(
        "gcp:bigtable/table:Table",
        _INSTANCE_NAME + "/tables/{name}",
        name=AutoName(maximum=50),
        replace="name instanceName project splitKeys",
        outputs=_outputs(),
    ),
    behaviour(
        "gcp:bigtable/appProfile:AppProfile",
        _INSTANCE + "/appProfiles/{appProfileId}",
        replace="appProfileId instance project",
        outputs=_outputs(name=_INSTANCE + "/appProfiles/{appProfileId}"),
    ),
    behaviour(
        "gcp:bigtable/gCPolicy:GCPolicy",
        _INSTANCE_NAME + "/tables/{table|last}/columnFamilies/{columnFamily}/gcPolicy",
        replace="columnFamily instanceName table project maxAge maxVersions mode",
        outputs=_outputs(),
    ),
    _member(
        "gcp:bigtable/tableIamMember:TableIamMember",
        _INSTANCE_NAME + "/tables/{table|last}",
        parents="instanceName table project",
        project="{project,@project}",
    ),
    _member(
        "gcp:bigtable/instanceIamMember:InstanceIamMember",
        _INSTANCE,
        parents="instance project",
        project="{project,@project}",
    ),
]

# Cloud Run's deterministic form of a service's URL: https://SERVICE-PROJECT_NUMBER.REGION.run.app.
_RUN_URL = "https://{name}-{@number}.{location}.run.app"
_LOCATION = _PROJECT + "/locations/{location,@region}"

FUNCTIONS = [
    behaviour(
        "gcp:cloudfunctionsv2/function:Function",
        _PROJECT + "/locations/{location}/functions/{name}",
        name=NAME,
        replace="name location project",
        outputs=_outputs(
            labels=True,
            url=_RUN_URL,
            state="ACTIVE",
            environment="GEN_2",
            **{
                "serviceConfig.uri": _RUN_URL,
                "serviceConfig.service": _PROJECT + "/locations/{location}/services/{name}",
            },
        ),
    ),
    _member(
        "gcp:cloudfunctionsv2/functionIamMember:FunctionIamMember",
        _LOCATION + "/functions/{cloudFunction|last}",
        parents="cloudFunction location project",
        project="{project,@project}",
        location="{location,@region}",
    ),
    _member(
        "gcp:cloudrunv2/serviceIamMember:ServiceIamMember",
        _LOCATION + "/services/{name|last}",
        parents="name location project",
        project="{project,@project}",
        location="{location,@region}",
    ),
    _member(
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
        outputs=_outputs(labels=True, state="READY"),
    ),
    behaviour(
        "gcp:spanner/database:Database",
        _SPANNER,
        name=AutoName(maximum=30, lowercase=True),
        replace="name project instance databaseDialect encryptionConfig",
        outputs=_outputs(state="READY"),
    ),
    _member(
        "gcp:spanner/databaseIAMMember:DatabaseIAMMember",
        "{project,@project}/{instance|last}/{database|last}",
        parents="instance database project",
        project="{project,@project}",
    ),
]

DATAFLOW = [
    behaviour(
        "gcp:dataflow/flexTemplateJob:FlexTemplateJob",
        "{@token|digits20}",
        name=NAME,
        replace="project region",
        outputs=_outputs(
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
        _PROJECT + "/serviceAccounts/" + _EMAIL,
        name=AutoName("accountId", maximum=30, lowercase=True),
        replace="accountId project",
        outputs=_outputs(
            email=_EMAIL,
            member="serviceAccount:" + _EMAIL,
            name=_PROJECT + "/serviceAccounts/" + _EMAIL,
            uniqueId="{accountId|digits21}",
        ),
    ),
    _member("gcp:serviceaccount/iAMMember:IAMMember", "{serviceAccountId}", parents="serviceAccountId"),
    _member("gcp:projects/iAMMember:IAMMember", "{project}", parents="project"),
    behaviour(
        "gcp:projects/iAMCustomRole:IAMCustomRole",
        _PROJECT + "/roles/{roleId}",
        replace="roleId project",
        outputs=_outputs(name=_PROJECT + "/roles/{roleId}", deleted=lambda _: False),
    ),
    behaviour(
        "gcp:projects/service:Service", "{project,@project}/{service}", replace="project service", outputs=_outputs()
    ),
    behaviour(
        "gcp:iam/workloadIdentityPool:WorkloadIdentityPool",
        _PROJECT + _POOL,
        replace="workloadIdentityPoolId project mode",
        outputs=_outputs(name="projects/{@number}" + _POOL, state="ACTIVE"),
    ),
    behaviour(
        "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider",
        _PROJECT + _POOL_PROVIDER,
        replace="workloadIdentityPoolId workloadIdentityPoolProviderId project",
        outputs=_outputs(name="projects/{@number}" + _POOL_PROVIDER, state="ACTIVE"),
    ),
    behaviour(
        "gcp:kms/keyRing:KeyRing",
        _PROJECT + "/locations/{location}/keyRings/{name}",
        name=NAME,
        replace="name location project",
        outputs=_outputs(),
    ),
    behaviour(
        "gcp:kms/cryptoKey:CryptoKey",
        "{keyRing}/cryptoKeys/{name}",
        name=NAME,
        replace="name keyRing purpose importOnly skipInitialVersionCreation destroyScheduledDuration cryptoKeyBackend",
        outputs={"effectiveLabels": merged_tags("labels"), "pulumiLabels": merged_tags("labels")},
    ),
    _member("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember", "{cryptoKeyId}", parents="cryptoKeyId"),
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
        _PROJECT + "/locations/{region,@region}/jobs/{name}",
        name=NAME,
        replace="name project region",
        outputs=_outputs(region="{region,@region}", state="ENABLED"),
    ),
]

NETWORK = [
    _compute(
        "network:Network",
        "networks",
        replace="autoCreateSubnetworks description enableUlaInternalIpv6 internalIpv6Range mtu networkProfile",
        networkId="{name|digits19}",
    ),
    _compute(
        "subnetwork:Subnetwork",
        "subnetworks",
        place=_REGION,
        replace="network description purpose reservedInternalRange",
        gatewayAddress="{name|address}",
    ),
    _compute("firewall:Firewall", "firewalls", replace="network direction"),
    _compute("router:Router", "routers", place=_REGION, replace="network encryptedInterconnectRouter"),
    behaviour(
        "gcp:compute/routerNat:RouterNat",
        "{project,@project}/{region,@region}/{router|last}/{name}",
        name=NAME,
        replace="name project region router endpointTypes type autoNetworkTier",
        outputs=_outputs(region="{region,@region}"),
    ),
    _compute(
        "globalAddress:GlobalAddress",
        "addresses",
        replace="address addressType description ipVersion network prefixLength purpose",
        labels=True,
        address="{address,name|address}",
    ),
    _compute("healthCheck:HealthCheck", "healthChecks"),
]


def _address(scope: Scope) -> Any:
    return scope.inputs.get("ipAddress") or scope.render("{name|address}")


_TEMPLATE = (
    "advancedMachineFeatures canIpForward confidentialInstanceConfig description disks enableDisplay guestAccelerators"
    " instanceDescription keyRevocationActionType labels machineType metadata metadataStartupScript minCpuPlatform"
    " namePrefix networkInterfaces networkPerformanceConfig partnerMetadata reservationAffinity resourceManagerTags"
    " resourcePolicies scheduling serviceAccount shieldedInstanceConfig tags workloadIdentityConfig"
)

FLEET = [
    _compute(
        "regionInstanceTemplate:RegionInstanceTemplate",
        "instanceTemplates",
        place=_REGION,
        replace=_TEMPLATE,
        labels=True,
    ),
    _compute(
        "regionInstanceGroupManager:RegionInstanceGroupManager",
        "instanceGroupManagers",
        place=_REGION,
        replace="description distributionPolicyZones params",
        instanceGroup=_COMPUTE + _PROJECT + "/" + _REGION + "/instanceGroups/{name}",
        instanceGroupManagerId="{name|digits19}",
    ),
    _compute("regionAutoscaler:RegionAutoscaler", "autoscalers", place=_REGION),
    _compute("backendService:BackendService", "backendServices", replace="loadBalancingScheme"),
    _compute("uRLMap:URLMap", "urlMaps", mapId="{name|digits19}"),
    _compute(
        "targetHttpProxy:TargetHttpProxy", "targetHttpProxies", replace="description proxyBind httpKeepAliveTimeoutSec"
    ),
    _compute(
        "targetHttpsProxy:TargetHttpsProxy",
        "targetHttpsProxies",
        replace="description proxyBind httpKeepAliveTimeoutSec",
    ),
    _compute(
        "globalForwardingRule:GlobalForwardingRule",
        "forwardingRules",
        replace="description ipAddress ipProtocol ipVersion loadBalancingScheme metadataFilters network networkTier"
        " portRange sourceIpRanges subnetwork",
        labels=True,
        ipAddress=_address,
    ),
    _compute("managedSslCertificate:ManagedSslCertificate", "sslCertificates", replace="description managed type"),
]


def _records(scope: Scope) -> Any:
    domain = scope.get("domain")
    data = scope.render("{name|uuid}.{name|digits2}.authorize.certificatemanager.goog.")
    return [{"name": f"_acme-challenge.{domain}.", "type": "CNAME", "data": data}]


_CERTIFICATES = _PROJECT + "/locations/{location,=global}"

CERTIFICATES = [
    behaviour(
        "gcp:certificatemanager/dnsAuthorization:DnsAuthorization",
        _CERTIFICATES + "/dnsAuthorizations/{name}",
        name=NAME,
        replace="name domain location project type",
        outputs=_outputs(labels=True, dnsResourceRecords=_records),
    ),
    behaviour(
        "gcp:certificatemanager/certificate:Certificate",
        _CERTIFICATES + "/certificates/{name}",
        name=NAME,
        replace="name location project scope managed",
        outputs=_outputs(labels=True),
    ),
    behaviour(
        "gcp:certificatemanager/certificateMap:CertificateMap",
        _PROJECT + "/locations/global/certificateMaps/{name}",
        name=NAME,
        replace="name project",
        outputs=_outputs(labels=True),
    ),
    behaviour(
        "gcp:certificatemanager/certificateMapEntry:CertificateMapEntry",
        _PROJECT + "/locations/global/certificateMaps/{map|last}/certificateMapEntries/{name}",
        name=NAME,
        replace="name map hostname matcher project",
        outputs=_outputs(labels=True, state="ACTIVE"),
    ),
]

BEHAVIOURS: list[Behaviour] = [
    *STORAGE,
    *MESSAGING,
    *SECRETS,
    *BIGTABLE,
    *FUNCTIONS,
    *SPANNER,
    *DATAFLOW,
    *IDENTITY,
    *NETWORK,
    *FLEET,
    *CERTIFICATES,
]
