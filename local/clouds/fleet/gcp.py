"""Regional managed instance groups and the global external Application Load Balancer, read from the program's resources.

A changed template replaces running instances only when the update policy is PROACTIVE, as on Google Cloud. With no
healthy backend the load balancer answers 503.
"""

import secrets
import string
from typing import Any

from starlette.routing import BaseRoute

from local.clouds.actor import Actor
from local.clouds.context import CloudContext
from local.clouds.fleet.balancer import BalancerSettings
from local.clouds.fleet.errors import FleetError
from local.clouds.fleet.health import HealthRules
from local.clouds.fleet.probe import Check, StatusCodes
from local.clouds.fleet.site import BalancerWish, FleetWish, Rows, Site, SiteWish, of_type, properties
from local.clouds.fleet.template import MachineTemplate, read_cloud_config
from local.clouds.fleet.upstream import Timeouts
from local.state import Resource

GROUP = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"
REGION_TEMPLATE = "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate"
TEMPLATE = "gcp:compute/instanceTemplate:InstanceTemplate"
HEALTH_CHECK = "gcp:compute/healthCheck:HealthCheck"
BACKEND = "gcp:compute/backendService:BackendService"
URL_MAP = "gcp:compute/uRLMap:URLMap"
HTTP_PROXY = "gcp:compute/targetHttpProxy:TargetHttpProxy"
HTTPS_PROXY = "gcp:compute/targetHttpsProxy:TargetHttpsProxy"
ADDRESS = "gcp:compute/globalAddress:GlobalAddress"
RULE = "gcp:compute/globalForwardingRule:GlobalForwardingRule"

# Defaults of the provider's own documentation for a health check and a backend service.
INTERVAL_SECONDS = 5.0
TIMEOUT_SECONDS = 5.0
THRESHOLD = 2
BACKEND_SECONDS = 30.0
# Google states no time to connect; a TCP connection inside a site that takes longer than this has failed.
CONNECT_SECONDS = 5.0
SUFFIX_LETTERS = string.ascii_lowercase + string.digits
SUFFIX_LENGTH = 4


def site(context: CloudContext) -> Site:
    """Return the site of a Google cloud process; `context.part(site)` is the one object of a process."""
    return Site(context, read_site)


def actors(context: CloudContext) -> dict[str, Actor]:
    """Return the actors of the types that make up fleets and their balancers."""
    actor = context.part(site).actor()
    tokens = (
        *(REGION_TEMPLATE, TEMPLATE, HEALTH_CHECK, BACKEND, URL_MAP, HTTP_PROXY, HTTPS_PROXY, ADDRESS, RULE),
        GROUP,
    )
    return dict.fromkeys(tokens, actor)


def routes(context: CloudContext) -> list[BaseRoute]:
    """Return GET /fleets and GET /balancers."""
    return context.part(site).routes()


async def stop(context: CloudContext) -> None:
    """Stop all instances and balancers."""
    await context.part(site).stop()


def read_site(rows: Rows) -> SiteWish:
    """Turn resources into a wish. Raises FleetError for what the local host cannot carry out."""
    groups = of_type(rows, GROUP)
    balancers = [_balancer(rows, rule, groups) for rule in of_type(rows, RULE)]
    return SiteWish(
        tuple(_fleet(rows, properties(group)) for group in groups), tuple(wish for wish in balancers if wish)
    )


def refers(reference: object, resource: Resource) -> bool:
    """Say whether a reference (self link, id or name) means a resource; API hosts and versions are not compared."""
    known = properties(resource)
    names = (resource.id, known.get("selfLink"), known.get("selfLinkUnique"), known.get("name"))
    return reference is not None and _path(reference) in {_path(name) for name in names if name}


def _path(reference: object) -> str:
    text = str(reference)
    return text[text.index("projects/") :] if "projects/" in text else text


def _find(rows: Rows, reference: object, *tokens: str) -> dict[str, Any] | None:
    for token in tokens:
        for row in of_type(rows, token):
            if refers(reference, row):
                return properties(row)
    return None


def _fleet(rows: Rows, group: dict[str, Any]) -> FleetWish:
    name = str(group["name"])
    base = str(group.get("baseInstanceName") or name)
    policy = group.get("updatePolicy") or {}
    project = group.get("project")

    def new_id(predecessor: str | None) -> str:
        # Autohealing re-creates an instance under its name.
        return predecessor or f"{base}-{''.join(secrets.choice(SUFFIX_LETTERS) for _ in range(SUFFIX_LENGTH))}"

    return FleetWish(
        name=name,
        asked=int(group.get("targetSize") or 0),
        template=_template(rows, name, group),
        roll=policy.get("type") == "PROACTIVE",
        environment=(("GOOGLE_CLOUD_PROJECT", str(project)),) if project else (),
        new_id=new_id,
    )


def _template(rows: Rows, name: str, group: dict[str, Any]) -> MachineTemplate:
    versions = group.get("versions") or []
    if len(versions) != 1:
        raise FleetError(f"instance group {name} has {len(versions)} versions; the local host runs exactly one")
    reference = versions[0].get("instanceTemplate")
    template = _find(rows, reference, REGION_TEMPLATE, TEMPLATE)
    if template is None:
        raise FleetError(f"instance group {name} names template {reference}, which does not exist")
    user_data = (template.get("metadata") or {}).get("user-data")
    if user_data is None:
        raise FleetError(f"template {template.get('name')} of group {name} has no user-data in its metadata")
    return read_cloud_config(f"instance template {template.get('name')}", str(user_data))


def _balancer(rows: Rows, rule: Resource, groups: list[Resource]) -> BalancerWish | None:
    """Follow a forwarding rule down to its groups; None while a link is missing or the rule forwards to no backend."""
    known = properties(rule)
    proxy = _find(rows, known.get("target"), HTTP_PROXY, HTTPS_PROXY)
    url_map = _find(rows, proxy.get("urlMap"), URL_MAP) if proxy else None
    backend = _find(rows, url_map.get("defaultService"), BACKEND) if url_map else None
    address = _address(rows, known.get("ipAddress"))
    if backend is None or address is None:
        return None
    checks = backend.get("healthChecks")
    first = checks[0] if isinstance(checks, list) and checks else checks
    check = _find(rows, first, HEALTH_CHECK)
    if check is None:
        raise FleetError(f"backend service {backend.get('name')} names health check {first}, which does not exist")
    links = {_path(item.get("group")) for item in backend.get("backends") or []}
    secure = _find(rows, known.get("target"), HTTPS_PROXY) is not None
    return BalancerWish(
        name=str(known["name"]),
        hostnames=(address,),
        settings=_settings(check, backend, known, secure),
        fleets=tuple(
            str(group["name"]) for group in map(properties, groups) if _path(group.get("instanceGroup")) in links
        ),
    )


def _address(rows: Rows, reference: object) -> str | None:
    if not reference:
        return None
    reserved = _find(rows, reference, ADDRESS)
    return str(reserved["address"]) if reserved else str(reference)


def _settings(check: dict[str, Any], backend: dict[str, Any], rule: dict[str, Any], secure: bool) -> BalancerSettings:
    http = check.get("httpHealthCheck") or check.get("httpsHealthCheck") or check.get("http2HealthCheck")
    if http is None:
        raise FleetError(f"health check {check.get('name')} is not over HTTP; the local balancer checks by HTTP only")
    host = http.get("host")
    return BalancerSettings(
        check=Check(
            path=str(http.get("requestPath") or "/"),
            # cloud.google.com/load-balancing/docs/health-check-concepts: a pass is 200, and nothing else.
            expected=StatusCodes.parse("200"),
            timeout_seconds=float(check.get("timeoutSec") or TIMEOUT_SECONDS),
            headers=(("host", str(host)),) if host else (),
            expected_body=str(http.get("response") or ""),
        ),
        interval_seconds=float(check.get("checkIntervalSec") or INTERVAL_SECONDS),
        rules=HealthRules(
            consecutive_up=(up := int(check.get("healthyThreshold") or THRESHOLD)),
            consecutive_down=int(check.get("unhealthyThreshold") or THRESHOLD),
            first_up=up,
        ),
        fail_open=False,
        timeouts=Timeouts(connect=CONNECT_SECONDS, read=float(backend.get("timeoutSec") or BACKEND_SECONDS)),
        protocol="HTTPS" if secure else "HTTP",
        port=int(str(rule.get("portRange") or "80").split("-")[0]),
    )
