"""Reading load balancers as the program sets them, and refusing what is not simulated."""

from typing import Any

import pytest

from local.clouds.cloudflare.errors import FrontDoorError
from local.clouds.cloudflare.settings import MONITOR, POOL, Balancer, SessionFailover, Steering, read_balancer
from local.state import Resource


def row(token: str, identity: str, **inputs: Any) -> Resource:
    return Resource("cloudflare", token, identity, identity, f"urn:{identity}", inputs, {})


ORIGIN = {"name": "aws", "address": "alb.example", "enabled": True, "header": {"hosts": ["site.example"]}}
MONITOR_INPUTS = {
    "type": "https",
    "path": "/ready",
    "expectedCodes": "2xx",
    "interval": 10.0,
    "timeout": 2.0,
    "retries": 0.0,
    "consecutiveDown": 2.0,
    "header": {"Host": ["recommend.example"]},
}


def rows(pool: dict[str, Any] | None = None, monitor: dict[str, Any] | None = None) -> list[Resource]:
    return [
        row(MONITOR, "m", **MONITOR_INPUTS | (monitor or {})),
        row(POOL, "p-aws", **{"name": "aws", "origins": [ORIGIN], "monitor": "m"} | (pool or {})),
        row(POOL, "p-gcp", name="gcp", origins=[{"name": "gcp", "address": "203.0.113.9"}]),
    ]


BASE = {"name": "recommend.example", "defaultPools": ["p-aws", "p-gcp"], "fallbackPool": "p-gcp"}


def read(changes: dict[str, Any], known: list[Resource] | None = None) -> Balancer:
    return read_balancer(BASE | changes, known or rows())


def test_reads_pools_monitors_and_defaults() -> None:
    balancer = read({})
    aws, gcp = balancer.pools["p-aws"], balancer.pools["p-gcp"]
    assert balancer.steering is Steering.OFF and balancer.enabled and balancer.affinity is None
    assert aws.origins[0].host == "site.example" and aws.monitor is not None
    assert 204 in aws.monitor.check.expected and 301 not in aws.monitor.check.expected
    assert (aws.monitor.interval_seconds, aws.monitor.retries, aws.monitor.rules.consecutive_down) == (10.0, 0, 2)
    assert aws.monitor.rules.consecutive_up == 1
    assert gcp.monitor is None and gcp.origins[0].enabled and gcp.origins[0].weight == 1


def test_reads_steering_affinity_and_failover() -> None:
    balancer = read(
        {
            "steeringPolicy": "random",
            "randomSteering": {"defaultWeight": 0.5, "poolWeights": {"p-aws": 0.9}},
            "adaptiveRouting": {"failoverAcrossPools": True},
            "sessionAffinity": "cookie",
            "sessionAffinityTtl": 1800.0,
            "sessionAffinityAttributes": {"zeroDowntimeFailover": "sticky"},
            "enabled": False,
        }
    )
    assert balancer.steering is Steering.RANDOM and balancer.pool_weights == {"p-aws": 0.9}
    assert balancer.default_weight == 0.5 and balancer.failover_across_pools and not balancer.enabled
    assert balancer.affinity is not None and balancer.affinity.failover is SessionFailover.STICKY


def test_empty_policy_with_region_pools_is_geo() -> None:
    assert read({"regionPools": {"WEU": ["p-gcp"]}}).steering is Steering.GEO


@pytest.mark.parametrize(
    ("changes", "pool", "monitor", "words"),
    [
        ({"steeringPolicy": "dynamic_latency"}, {}, {}, "dynamic_latency"),
        ({"defaultPools": ["p-none"]}, {}, {}, "p-none"),
        ({"sessionAffinity": "ip_cookie"}, {}, {}, "ip_cookie"),
        ({"sessionAffinity": "cookie", "sessionAffinityTtl": 60}, {}, {}, "1800"),
        ({"popPools": {"LAX": ["p-aws"]}}, {}, {}, "popPools"),
        ({}, {"originSteering": {"policy": "hash"}}, {}, "hash"),
        ({}, {"monitor": "m-none"}, {}, "m-none"),
        ({}, {}, {"type": "tcp"}, "tcp"),
        ({}, {}, {"expectedCodes": "fine"}, "fine"),
    ],
)
def test_refuses_what_it_cannot_carry_out(
    changes: dict[str, Any], pool: dict[str, Any], monitor: dict[str, Any], words: str
) -> None:
    with pytest.raises(FrontDoorError, match=words):
        read(changes, rows(pool, monitor))
