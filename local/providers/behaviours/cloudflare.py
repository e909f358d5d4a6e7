"""Cloudflare: ids are 32 hexadecimal digits that Cloudflare makes up, except for R2, where the name is the id.

The real provider makes no names up, so none are made up here.
"""

from local.providers.behaviours.table import Behaviour, behaviour

_ID = "{@token|hex32}"

BEHAVIOURS: list[Behaviour] = [
    behaviour("cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor", _ID, replace="accountId"),
    behaviour("cloudflare:index/loadBalancerPool:LoadBalancerPool", _ID, replace="accountId"),
    behaviour("cloudflare:index/loadBalancer:LoadBalancer", _ID, replace="zoneId"),
    behaviour("cloudflare:index/dnsRecord:DnsRecord", _ID, replace="zoneId", outputs={"proxiable": lambda _: True}),
    behaviour("cloudflare:index/r2Bucket:R2Bucket", "{name}", replace="accountId jurisdiction location name"),
    behaviour(
        "cloudflare:index/r2BucketLifecycle:R2BucketLifecycle",
        "{bucketName}",
        replace="accountId bucketName jurisdiction",
    ),
]
