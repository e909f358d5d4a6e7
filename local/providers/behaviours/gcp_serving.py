"""Google Cloud, what serves users: networks, fleets, balancers, certificates."""

from typing import Any

from local.providers.behaviours.gcp_rules import COMPUTE, NAME, PROJECT, REGION, compute, outputs_of
from local.providers.behaviours.table import Behaviour, Scope, behaviour

NETWORK = [
    compute(
        "network:Network",
        "networks",
        replace="autoCreateSubnetworks description enableUlaInternalIpv6 internalIpv6Range mtu networkProfile",
        networkId="{name|digits19}",
    ),
    compute(
        "subnetwork:Subnetwork",
        "subnetworks",
        place=REGION,
        replace="network description purpose reservedInternalRange",
        gatewayAddress="{name|address}",
    ),
    compute("firewall:Firewall", "firewalls", replace="network direction"),
    compute("router:Router", "routers", place=REGION, replace="network encryptedInterconnectRouter"),
    behaviour(
        "gcp:compute/routerNat:RouterNat",
        "{project,@project}/{region,@region}/{router|last}/{name}",
        name=NAME,
        replace="name project region router endpointTypes type autoNetworkTier",
        outputs=outputs_of(region="{region,@region}"),
    ),
    compute(
        "globalAddress:GlobalAddress",
        "addresses",
        replace="address addressType description ipVersion network prefixLength purpose",
        labels=True,
        address="{address,name|address}",
    ),
    compute("healthCheck:HealthCheck", "healthChecks"),
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
    compute(
        "regionInstanceTemplate:RegionInstanceTemplate",
        "instanceTemplates",
        place=REGION,
        replace=_TEMPLATE,
        labels=True,
    ),
    compute(
        "regionInstanceGroupManager:RegionInstanceGroupManager",
        "instanceGroupManagers",
        place=REGION,
        replace="description distributionPolicyZones params",
        instanceGroup=COMPUTE + PROJECT + "/" + REGION + "/instanceGroups/{name}",
        instanceGroupManagerId="{name|digits19}",
    ),
    compute("regionAutoscaler:RegionAutoscaler", "autoscalers", place=REGION),
    compute("backendService:BackendService", "backendServices", replace="loadBalancingScheme"),
    compute("uRLMap:URLMap", "urlMaps", mapId="{name|digits19}"),
    compute(
        "targetHttpProxy:TargetHttpProxy", "targetHttpProxies", replace="description proxyBind httpKeepAliveTimeoutSec"
    ),
    compute(
        "targetHttpsProxy:TargetHttpsProxy",
        "targetHttpsProxies",
        replace="description proxyBind httpKeepAliveTimeoutSec",
    ),
    compute(
        "globalForwardingRule:GlobalForwardingRule",
        "forwardingRules",
        replace="description ipAddress ipProtocol ipVersion loadBalancingScheme metadataFilters network networkTier"
        " portRange sourceIpRanges subnetwork",
        labels=True,
        ipAddress=_address,
    ),
    compute("managedSslCertificate:ManagedSslCertificate", "sslCertificates", replace="description managed type"),
]


def _records(scope: Scope) -> Any:
    domain = scope.get("domain")
    data = scope.render("{name|uuid}.{name|digits2}.authorize.certificatemanager.goog.")
    return [{"name": f"_acme-challenge.{domain}.", "type": "CNAME", "data": data}]


_CERTIFICATES = PROJECT + "/locations/{location,=global}"

CERTIFICATES = [
    behaviour(
        "gcp:certificatemanager/dnsAuthorization:DnsAuthorization",
        _CERTIFICATES + "/dnsAuthorizations/{name}",
        name=NAME,
        replace="name domain location project type",
        outputs=outputs_of(labels=True, dnsResourceRecords=_records),
    ),
    behaviour(
        "gcp:certificatemanager/certificate:Certificate",
        _CERTIFICATES + "/certificates/{name}",
        name=NAME,
        replace="name location project scope managed",
        outputs=outputs_of(labels=True),
    ),
    behaviour(
        "gcp:certificatemanager/certificateMap:CertificateMap",
        PROJECT + "/locations/global/certificateMaps/{name}",
        name=NAME,
        replace="name project",
        outputs=outputs_of(labels=True),
    ),
    behaviour(
        "gcp:certificatemanager/certificateMapEntry:CertificateMapEntry",
        PROJECT + "/locations/global/certificateMaps/{map|last}/certificateMapEntries/{name}",
        name=NAME,
        replace="name map hostname matcher project",
        outputs=outputs_of(labels=True, state="ACTIVE"),
    ),
]

SERVING: list[Behaviour] = [*NETWORK, *FLEET, *CERTIFICATES]
