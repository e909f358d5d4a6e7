"""Fleets and balancers, read out of the resources of both clouds as the providers write them."""

import base64
import re
from typing import Any

import pytest

from local.clouds.fleet import aws, gcp
from local.clouds.fleet.errors import FleetError
from local.clouds.fleet.site import Rows
from local.clouds.fleet.template import read_base64_user_data, read_cloud_config
from local.state import Resource

CLOUD_CONFIG = """#cloud-config
write_files:
  - path: /etc/other
    content: x
  - path: /etc/lifeboat/service.env
    permissions: "0600"
    content: |
      # settings of the service
      LIFEBOAT_SITE=aws
      LIFEBOAT_ARTIFACT_BUCKETS={"aws": "a=b"}

"""
COMPUTE = "https://www.googleapis.com/compute/v1/"


def rows(*resources: tuple[str, str, dict[str, Any], dict[str, Any]]) -> Rows:
    return {
        (token, identity): Resource("cloud", token, identity, identity, f"urn:{identity}", inputs, outputs)
        for token, identity, inputs, outputs in resources
    }


def aws_rows(group: dict[str, Any] | None = None, health: dict[str, Any] | None = None) -> Rows:
    template = {"name": "service", "userData": base64.b64encode(CLOUD_CONFIG.encode()).decode()}
    members = {
        "name": "lifeboat-service",
        "desiredCapacity": 3.0,
        "minSize": 1.0,
        "launchTemplate": {"id": "lt-1", "version": "1"},
        "targetGroupArns": ["arn:tg"],
    }
    redirect = {"loadBalancerArn": "arn:lb", "port": 80, "defaultActions": [{"type": "redirect"}]}
    forward = {
        "loadBalancerArn": "arn:lb",
        "port": 443,
        "protocol": "HTTPS",
        "defaultActions": [{"type": "forward", "targetGroupArn": "arn:tg"}],
    }
    check = {"path": "/ready", "interval": 5.0, "timeout": 2.0, "matcher": "200", "unhealthyThreshold": 2.0}
    return rows(
        (aws.TEMPLATE, "lt-1", template, {}),
        (aws.BALANCER, "arn:lb", {"name": "lifeboat"}, {"arn": "arn:lb", "dnsName": "lifeboat-1.elb.example"}),
        (aws.TARGET_GROUP, "arn:tg", {"healthCheck": check | (health or {})}, {"arn": "arn:tg"}),
        (aws.LISTENER, "arn:l80", redirect, {}),
        (aws.LISTENER, "arn:l443", forward, {}),
        (aws.GROUP, "lifeboat-service", members | (group or {}), {"arn": "arn:aws:autoscaling:us-west-2:1:g"}),
    )


def gcp_rows(group: dict[str, Any] | None = None, template_reference: str = "") -> Rows:
    path = "projects/p/global"
    members = {
        "name": "lifeboat-service",
        "baseInstanceName": "lifeboat-service",
        "targetSize": 2.0,
        "project": "p",
        "versions": [{"instanceTemplate": template_reference or f"{COMPUTE}projects/p/regions/r/instanceTemplates/t"}],
        "updatePolicy": {"type": "PROACTIVE"},
    }
    outputs = {"instanceGroup": f"{COMPUTE}projects/p/regions/r/instanceGroups/lifeboat-service"}
    check = {
        "name": "hc",
        "checkIntervalSec": 3.0,
        "healthyThreshold": 1.0,
        "httpHealthCheck": {"port": 8080, "requestPath": "/ready", "host": "service.example"},
    }
    backend = {
        "name": "be",
        "healthChecks": f"{path}/healthChecks/hc",
        "backends": [{"group": outputs["instanceGroup"]}],
    }
    rule = {
        "name": "rule",
        "target": f"{COMPUTE}{path}/targetHttpsProxies/px",
        "ipAddress": f"{path}/addresses/ip",
        "portRange": "443-443",
    }
    return rows(
        (
            gcp.REGION_TEMPLATE,
            "projects/p/regions/r/instanceTemplates/t",
            {"name": "t", "metadata": {"user-data": CLOUD_CONFIG}},
            {},
        ),
        (gcp.GROUP, "projects/p/regions/r/instanceGroupManagers/lifeboat-service", members | (group or {}), outputs),
        (gcp.HEALTH_CHECK, f"{path}/healthChecks/hc", check, {}),
        (gcp.BACKEND, f"{path}/backendServices/be", backend, {}),
        (gcp.URL_MAP, f"{path}/urlMaps/um", {"name": "um", "defaultService": f"{path}/backendServices/be"}, {}),
        (gcp.HTTPS_PROXY, f"{path}/targetHttpsProxies/px", {"name": "px", "urlMap": f"{path}/urlMaps/um"}, {}),
        (gcp.ADDRESS, f"{path}/addresses/ip", {"name": "ip"}, {"address": "203.0.113.7"}),
        (gcp.RULE, f"{path}/forwardingRules/rule", rule, {}),
    )


def test_cloud_config_gives_the_environment() -> None:
    template = read_cloud_config("t", CLOUD_CONFIG)
    assert template.environment == {"LIFEBOAT_SITE": "aws", "LIFEBOAT_ARTIFACT_BUCKETS": '{"aws": "a=b"}'}
    encoded = base64.b64encode(CLOUD_CONFIG.encode()).decode()
    assert read_base64_user_data("t", encoded) == template


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("write_files: []", "#cloud-config"),
        ("#cloud-config\nruncmd: []\n", "service.env"),
        ("#cloud-config\n- : [", "no YAML"),
        ("#cloud-config\nwrite_files: [{path: /etc/lifeboat/service.env, content: 'no equals'}]", "line 1"),
    ],
)
def test_bad_cloud_config_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(FleetError, match=re.escape(words)):
        read_cloud_config("template t", text)


def test_plain_text_where_base64_is_due() -> None:
    with pytest.raises(FleetError, match="base64"):
        read_base64_user_data("template t", CLOUD_CONFIG)


def test_aws_group_and_balancer() -> None:
    wish = aws.read_site(aws_rows())
    (fleet,), (balancer,) = wish.fleets, wish.balancers
    assert (fleet.asked, fleet.roll, fleet.environment) == (3, False, (("AWS_REGION", "us-west-2"),))
    assert re.fullmatch(r"i-[0-9a-f]{17}", fleet.new_id("i-old"))
    assert balancer.hostnames == ("lifeboat-1.elb.example",) and balancer.fleets == ("lifeboat-service",)
    settings = balancer.settings
    assert (settings.protocol, settings.port, settings.fail_open) == ("HTTPS", 443, True)
    assert (settings.check.path, settings.interval_seconds, settings.check.timeout_seconds) == ("/ready", 5.0, 2.0)
    assert (settings.rules.first_up, settings.rules.consecutive_up, settings.rules.consecutive_down) == (1, 3, 2)


def test_aws_variants() -> None:
    assert aws.read_site(aws_rows({"desiredCapacity": None})).fleets[0].asked == 1
    assert aws.read_site(aws_rows({"desiredCapacity": 0})).fleets[0].asked == 0
    assert aws.read_site(aws_rows({"instanceRefresh": {"strategy": "Rolling"}})).fleets[0].roll
    mixed = {"launchTemplate": {"launchTemplateSpecification": {"launchTemplateId": "lt-1"}}}
    wish = aws.read_site(aws_rows({"launchTemplate": None, "mixedInstancesPolicy": mixed}))
    assert wish.fleets[0].template.environment["LIFEBOAT_SITE"] == "aws"
    with pytest.raises(FleetError, match="lt-9"):
        aws.read_site(aws_rows({"launchTemplate": {"id": "lt-9"}}))


def test_aws_balancer_waits_for_its_listener() -> None:
    known = {key: row for key, row in aws_rows().items() if key[0] != aws.LISTENER}
    assert aws.read_site(known).balancers == ()


def test_gcp_group_and_balancer() -> None:
    wish = gcp.read_site(gcp_rows())
    (fleet,), (balancer,) = wish.fleets, wish.balancers
    assert (fleet.asked, fleet.roll) == (2, True)
    assert re.fullmatch(r"lifeboat-service-[a-z0-9]{4}", fleet.new_id(None))
    assert fleet.new_id("lifeboat-service-ab12") == "lifeboat-service-ab12"
    assert balancer.hostnames == ("203.0.113.7",) and balancer.fleets == ("lifeboat-service",)
    settings = balancer.settings
    assert (settings.protocol, settings.port, settings.fail_open) == ("HTTPS", 443, False)
    assert (settings.check.path, settings.interval_seconds) == ("/ready", 3.0)
    assert settings.check.headers == (("host", "service.example"),)
    assert (settings.rules.first_up, settings.rules.consecutive_down) == (1, 2)


def test_gcp_variants() -> None:
    assert not gcp.read_site(gcp_rows({"updatePolicy": {"type": "OPPORTUNISTIC"}})).fleets[0].roll
    by_id = gcp_rows(template_reference="projects/p/regions/r/instanceTemplates/t")
    assert gcp.read_site(by_id).fleets[0].template.environment["LIFEBOAT_SITE"] == "aws"
    with pytest.raises(FleetError, match="instanceTemplates/other"):
        gcp.read_site(gcp_rows(template_reference="projects/p/regions/r/instanceTemplates/other"))


def test_gcp_balancer_waits_for_its_chain() -> None:
    for missing in (gcp.HTTPS_PROXY, gcp.URL_MAP, gcp.BACKEND):
        known = {key: row for key, row in gcp_rows().items() if key[0] != missing}
        assert gcp.read_site(known).balancers == ()
