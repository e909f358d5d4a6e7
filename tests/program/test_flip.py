"""What a change of roles changes, and in which order the graph lets it happen."""

from typing import Any

from tests.program.recording import Recorder, deploy

BALANCER = "cloudflare:index/loadBalancer:LoadBalancer"
AWS_GROUP = "aws:autoscaling/group:Group"
GOOGLE_GROUP = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager"


def changed(before: Recorder, after: Recorder) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Return the inputs that differ, by resource."""
    old = {each.urn: each for each in before.held()}
    new = {each.urn: each for each in after.held()}
    assert old.keys() == new.keys()
    return {
        new[urn].type: {
            key: (old[urn].inputs.get(key), new[urn].inputs.get(key))
            for key in {*old[urn].inputs, *new[urn].inputs}
            if old[urn].inputs.get(key) != new[urn].inputs.get(key)
        }
        for urn in old
        if old[urn].inputs != new[urn].inputs
    }


def test_a_flip_changes_fleet_sizes_and_the_order_of_pools_and_nothing_else(local: Recorder) -> None:
    flipped = changed(local, deploy("local", {"active": "gcp"}))
    pools = [f"front-door-pool-{site}-id" for site in ("aws", "gcp")]
    assert flipped == {
        AWS_GROUP: {"minSize": (2, 1), "desiredCapacity": (2, 1)},
        GOOGLE_GROUP: {"targetSize": (1, 2)},
        BALANCER: {"defaultPools": (pools, pools[::-1]), "fallbackPool": (pools[0], pools[1])},
    }


def test_active_active_serves_from_both_by_fleet_size(local: Recorder) -> None:
    flipped = changed(local, deploy("local", {"mode": "active-active"}))
    assert flipped[GOOGLE_GROUP] == {"targetSize": (1, 2)}
    balancer = flipped[BALANCER]
    assert balancer["steeringPolicy"] == ("off", "random")
    assert balancer["sessionAffinity"] == ("none", "cookie")
    assert balancer["randomSteering"][1]["poolWeights"] == {
        "front-door-pool-aws-id": 0.5,
        "front-door-pool-gcp-id": 0.5,
    }


def test_traffic_moves_after_the_serving_fleet_and_before_the_other(local: Recorder) -> None:
    flipped = deploy("local", {"active": "gcp"})
    for run, serving, other in ((local, AWS_GROUP, GOOGLE_GROUP), (flipped, GOOGLE_GROUP, AWS_GROUP)):
        balancer = run.one(BALANCER)
        assert run.one(serving).urn in balancer.dependencies
        assert run.one(other).urn not in balancer.dependencies
        assert balancer.urn in run.one(other).dependencies
        assert balancer.urn not in run.one(serving).dependencies


def test_both_fleets_come_before_the_balancer_when_both_serve() -> None:
    run = deploy("local", {"mode": "active-active"})
    assert {run.one(AWS_GROUP).urn, run.one(GOOGLE_GROUP).urn} <= run.one(BALANCER).dependencies


def test_the_load_balancer_and_nothing_else_carries_the_gate(recorded: Recorder) -> None:
    hooks = {each.type: each.hooks for each in recorded.held() if any(each.hooks.values())}
    assert set(hooks) == {BALANCER}
    assert hooks[BALANCER]["before_update"] == ("gate",)
    assert hooks[BALANCER]["after_update"] == ("verification",)
    for hook in recorded.callbacks.hooks.values():
        assert hook.opts is None or not hook.opts.on_dry_run


def test_waiting_for_capacity_never_holds_up_a_failover(recorded: Recorder) -> None:
    assert recorded.one(AWS_GROUP).inputs["waitForCapacityTimeout"] == "0"
    assert recorded.one(GOOGLE_GROUP).inputs["waitForInstances"] is False


def test_prod_has_the_gpu_fleets(prod: Recorder) -> None:
    assert prod.one("aws:ec2/launchTemplate:LaunchTemplate").inputs["instanceType"] == "p4d.24xlarge"
    template = prod.one("gcp:compute/regionInstanceTemplate:RegionInstanceTemplate").inputs
    assert template["machineType"] == "a2-highgpu-8g"
    assert template["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert prod.one(AWS_GROUP).inputs["desiredCapacity"] == 3
    assert prod.one(GOOGLE_GROUP).inputs["targetSize"] == 1


def test_the_outputs_say_where_everything_is(local: Recorder) -> None:
    outputs = local.outputs
    assert outputs["active"] == "aws"
    assert outputs["publicUrl"] == "http://recommend.lifeboat.example"
    assert set(outputs["functions"]) == {
        "artifact-plan",
        "artifact-encode",
        "artifact-rebuild",
        "artifact-sweep",
        "artifact-inbox",
        "artifact-audit",
        "artifact-plan-gcp",
        "artifact-encode-gcp",
        "artifact-rebuild-gcp",
        "artifact-sweep-gcp",
        "artifact-inbox-gcp",
        "artifact-audit-gcp",
        "features-apply",
        "features-apply-gcp",
    }
    aws, gcp = outputs["sites"]["aws"], outputs["sites"]["gcp"]
    assert aws["url"] == "http://entrance.us-west-2.elb.amazonaws.com"
    assert gcp["url"] == "http://203.0.113.7"
    assert (aws["fleetSize"], gcp["fleetSize"]) == (2, 1)
    assert (aws["artifactBucket"], gcp["artifactBucket"]) == (
        "lifeboat-local-artifacts-aws",
        "lifeboat-local-artifacts-gcp",
    )
