"""The stacks for real accounts, previewed on a recorded ground: nothing runs, and nothing is made."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from operate.workspace import make_project
from tests.engine.live import Applied, operate
from tests.engine.support import Engine

# What must be in both at least: fleets, balancers, front door, stores, queues and functions of either side, by type.
AT_LEAST = {
    "aws:autoscaling/group:Group": 1,
    "aws:lb/loadBalancer:LoadBalancer": 1,
    "aws:s3/bucket:Bucket": 2,
    "aws:dynamodb/table:Table": 1,
    "aws:sqs/queue:Queue": 4,
    "aws:lambda/function:Function": 3,
    "aws:lambda/eventSourceMapping:EventSourceMapping": 3,
    "aws:lambda/layerVersion:LayerVersion": 1,
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": 1,
    "gcp:compute/globalForwardingRule:GlobalForwardingRule": 1,
    "gcp:compute/targetHttpsProxy:TargetHttpsProxy": 1,
    "gcp:bigtable/instance:Instance": 1,
    "gcp:bigtable/table:Table": 1,
    "gcp:storage/bucket:Bucket": 2,
    "gcp:pubsub/topic:Topic": 3,
    "gcp:cloudfunctionsv2/function:Function": 2,
    "aws:elasticache/replicationGroup:ReplicationGroup": 1,
    "gcp:memorystore/instance:Instance": 1,
    "cloudflare:index/loadBalancer:LoadBalancer": 1,
    "cloudflare:index/loadBalancerPool:LoadBalancerPool": 2,
    "cloudflare:index/r2Bucket:R2Bucket": 1,
}
MACHINES = {"dev": ("g5.xlarge", "g2-standard-4", 1), "prod": ("p4d.24xlarge", "a2-highgpu-8g", 3)}


def inputs(preview: Applied, type_token: str) -> dict[str, Any]:
    (found,) = [given for token, given in preview.planned if token == type_token]
    return found


# The libraries' layer is built by pip when the user's cache does not have it.
@pytest.mark.network
@pytest.mark.parametrize("stack", sorted(MACHINES))
def test_a_stack_for_real_accounts_previews(stack: str, tmp_path: Path) -> None:
    engine = Engine.create(tmp_path, make_project(tmp_path / "project"), stack)
    # On record there is no cloud that could answer; real ones are not asked by a test.
    engine.configure("lifeboat:lost", "none")
    # A part that is off by default has to pass the providers' checks too.
    engine.configure("lifeboat:redisSource", "true")
    preview = operate(engine, "preview").expect(0)
    assert "warning" not in preview.output
    types = Counter(token for token, _ in preview.planned)
    assert not {token: types[token] for token, count in AT_LEAST.items() if types[token] < count}
    machine, peer_machine, size = MACHINES[stack]
    assert inputs(preview, "aws:ec2/launchTemplate:LaunchTemplate")["instanceType"] == machine
    template = inputs(preview, "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate")
    assert template["machineType"] == peer_machine
    assert inputs(preview, "aws:autoscaling/group:Group")["desiredCapacity"] == size
    assert inputs(preview, "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager")["targetSize"] == 1
    assert engine.rows() == []
