"""Auto Scaling groups and Application Load Balancers, read from the program's resources.

A group's new launch template version reaches running instances only with an `instanceRefresh` block, as on AWS. A load
balancer with none but unhealthy targets sends to all of them, as an Application Load Balancer does
(docs.aws.amazon.com, "Health checks for Application Load Balancer target groups").
"""

import secrets
from typing import Any

from starlette.routing import BaseRoute

from local.clouds.actor import Actor
from local.clouds.context import CloudContext
from local.clouds.fleet.balancer import BalancerSettings
from local.clouds.fleet.errors import FleetError
from local.clouds.fleet.health import HealthRules
from local.clouds.fleet.probe import Check, StatusCodes
from local.clouds.fleet.site import BalancerWish, FleetWish, Rows, Site, SiteWish, of_type, properties
from local.clouds.fleet.template import MachineTemplate, read_base64_user_data
from local.clouds.fleet.upstream import Timeouts

GROUP = "aws:autoscaling/group:Group"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
BALANCER = "aws:lb/loadBalancer:LoadBalancer"
LISTENER = "aws:lb/listener:Listener"
TARGET_GROUP = "aws:lb/targetGroup:TargetGroup"

# Defaults of the provider's own documentation for a target group's health check and a balancer's idle time.
INTERVAL_SECONDS = 30.0
TIMEOUT_SECONDS = 6.0
THRESHOLD = 3
IDLE_SECONDS = 60.0
# docs.aws.amazon.com, "Troubleshoot your Application Load Balancers": a target has 10 s to accept a connection.
CONNECT_SECONDS = 10.0
# A target is healthy after its first passed check; the threshold is for the way back.
FIRST_UP = 1


def site(context: CloudContext) -> Site:
    """Return the site of an AWS cloud process; `context.part(site)` is the one object of a process."""
    return Site(context, read_site)


def actors(context: CloudContext) -> dict[str, Actor]:
    """Return the actors of the types that make up fleets and their balancers."""
    actor = context.part(site).actor()
    return dict.fromkeys((TEMPLATE, BALANCER, TARGET_GROUP, LISTENER, GROUP), actor)


def routes(context: CloudContext) -> list[BaseRoute]:
    """Return GET /fleets and GET /balancers."""
    return context.part(site).routes()


async def stop(context: CloudContext) -> None:
    """Stop all instances and balancers."""
    await context.part(site).stop()


def read_site(rows: Rows) -> SiteWish:
    """Turn resources into a wish. Raises FleetError for what the local host cannot carry out."""
    groups = [properties(row) for row in of_type(rows, GROUP)]
    fleets = tuple(_fleet(rows, group) for group in groups)
    listeners = [properties(row) for row in of_type(rows, LISTENER)]
    balancers = []
    for row in of_type(rows, BALANCER):
        wish = _balancer(rows, properties(row), listeners, groups)
        if wish is not None:
            balancers.append(wish)
    return SiteWish(fleets, tuple(balancers))


def _fleet(rows: Rows, group: dict[str, Any]) -> FleetWish:
    name = str(group["name"])
    desired = group.get("desiredCapacity")
    return FleetWish(
        name=name,
        asked=int(desired if desired is not None else group.get("minSize", 0)),
        template=_template(rows, name, group),
        roll=bool(group.get("instanceRefresh")),
        environment=(("AWS_REGION", _region(group)),),
        new_id=lambda _: f"i-{secrets.token_hex(9)[:17]}",
    )


def _region(group: dict[str, Any]) -> str:
    region = group.get("region") or str(group.get("arn", "")).split(":")[3:4]
    return str(region[0] if isinstance(region, list) and region else region or "us-east-1")


def _template(rows: Rows, name: str, group: dict[str, Any]) -> MachineTemplate:
    mixed = group.get("mixedInstancesPolicy") or {}
    reference = group.get("launchTemplate") or (mixed.get("launchTemplate") or {}).get("launchTemplateSpecification")
    if not reference:
        raise FleetError(f"group {name} has no launch template; set launch_template with the template's id")
    wanted = {reference.get(key) for key in ("id", "name", "launchTemplateId", "launchTemplateName")} - {None, ""}
    for row in of_type(rows, TEMPLATE):
        template = properties(row)
        if wanted & {row.id, template.get("name")}:
            return read_base64_user_data(f"launch template {template.get('name')}", str(template.get("userData", "")))
    raise FleetError(f"group {name} names launch template {', '.join(map(str, wanted))}, which does not exist")


def _balancer(
    rows: Rows, balancer: dict[str, Any], listeners: list[dict[str, Any]], groups: list[dict[str, Any]]
) -> BalancerWish | None:
    """Return the wish of a balancer; None while no listener of it forwards, when it does not listen either."""
    for listener in listeners:
        if listener.get("loadBalancerArn") != balancer.get("arn"):
            continue
        arn = _forwards_to(listener)
        target_group = next((g for g in map(properties, of_type(rows, TARGET_GROUP)) if g.get("arn") == arn), None)
        if arn is None or target_group is None:
            continue
        return BalancerWish(
            name=str(balancer["name"]),
            hostnames=(str(balancer["dnsName"]),),
            settings=_settings(target_group, listener, float(balancer.get("idleTimeout") or IDLE_SECONDS)),
            fleets=tuple(str(group["name"]) for group in groups if arn in _target_groups(group)),
        )
    return None


def _forwards_to(listener: dict[str, Any]) -> str | None:
    for action in listener.get("defaultActions") or []:
        if action.get("type") != "forward":
            continue
        groups = (action.get("forward") or {}).get("targetGroups") or []
        if len(groups) > 1:
            raise FleetError(
                f"listener on port {listener.get('port')} forwards to {len(groups)} target groups;"
                " the local balancer takes one"
            )
        arn = action.get("targetGroupArn") or (groups[0].get("arn") if groups else None)
        return str(arn) if arn else None
    return None


def _target_groups(group: dict[str, Any]) -> set[str]:
    sources = (source.get("identifier") for source in group.get("trafficSources") or [])
    return {str(arn) for arn in (*(group.get("targetGroupArns") or []), *sources)}


def _settings(target_group: dict[str, Any], listener: dict[str, Any], idle_seconds: float) -> BalancerSettings:
    check = target_group.get("healthCheck") or {}
    return BalancerSettings(
        check=Check(
            path=str(check.get("path") or "/"),
            expected=StatusCodes.parse(str(check.get("matcher") or "200")),
            timeout_seconds=float(check.get("timeout") or TIMEOUT_SECONDS),
        ),
        interval_seconds=float(check.get("interval") or INTERVAL_SECONDS),
        rules=HealthRules(
            consecutive_up=int(check.get("healthyThreshold") or THRESHOLD),
            consecutive_down=int(check.get("unhealthyThreshold") or THRESHOLD),
            first_up=FIRST_UP,
        ),
        fail_open=True,
        timeouts=Timeouts(connect=CONNECT_SECONDS, read=idle_seconds),
        protocol=str(listener.get("protocol") or "HTTP"),
        port=int(listener.get("port") or 80),
        least_outstanding=target_group.get("loadBalancingAlgorithmType") == "least_outstanding_requests",
    )
