"""Both sites and the front door on a real ground: traffic while AWS is cut, killed, brought back and failed back."""

import base64
import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from edge_support import TOY

from local.clouds.cloudflare import settings as cloudflare
from local.clouds.fleet import aws, gcp
from local.clouds.fleet.instances import COMMAND_VARIABLE
from local.ground.client import GroundClient, start_ground
from local.names import Cloud, FaultMode

NAME = "recommend.lifeboat.example"
ALB = "lb.us-west-2.elb.amazonaws.com"
ADDRESS = "198.18.0.9"
WAIT_SECONDS = 40.0
BALANCER = {
    "name": NAME,
    "defaultPools": ["p-aws", "p-gcp"],
    "fallbackPool": "p-aws",
    "adaptiveRouting": {"failoverAcrossPools": True},
}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GroundClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(COMMAND_VARIABLE, f"{sys.executable} {TOY}")
        running = start_ground(tmp_path_factory.mktemp("ground"), owned=True)
    try:
        deploy(running)
        yield running
    finally:
        running.stop()


def call(api: str, operation: str, token: str, identity: str, inputs: dict[str, Any], **outputs: Any) -> None:
    body = {"type": token, "id": identity, "name": identity, "urn": identity, "inputs": inputs, "outputs": outputs}
    answer = httpx.post(f"{api}/resources/{operation}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text


def cloud_config(site: str) -> str:
    content = f"      LIFEBOAT_SITE={site}\n"
    return f"#cloud-config\nwrite_files:\n  - path: /etc/lifeboat/service.env\n    content: |\n{content}"


def deploy(ground: GroundClient) -> None:
    api = ground.endpoints.aws_api
    user_data = base64.b64encode(cloud_config("aws").encode()).decode()
    check = {"path": "/ready", "interval": 1, "timeout": 2}
    forward = [{"type": "forward", "targetGroupArn": "arn:tg"}]
    listener = {"loadBalancerArn": "arn:lb", "port": 80, "protocol": "HTTP", "defaultActions": forward}
    group = {"name": "svc", "desiredCapacity": 2, "launchTemplate": {"id": "lt"}, "targetGroupArns": ["arn:tg"]}
    call(api, "create", aws.TEMPLATE, "lt", {"name": "svc", "userData": user_data})
    call(api, "create", aws.BALANCER, "arn:lb", {"name": "lb"}, arn="arn:lb", dnsName=ALB)
    call(api, "create", aws.TARGET_GROUP, "arn:tg", {"healthCheck": check}, arn="arn:tg")
    call(api, "create", aws.LISTENER, "arn:l", listener)
    call(api, "create", aws.GROUP, "svc", group)

    api = ground.endpoints.gcp_api
    mig = {"name": "svc", "targetSize": 1, "versions": [{"instanceTemplate": "t"}]}
    backend = {"name": "be", "healthChecks": "hc", "backends": [{"group": "projects/p/ig"}]}
    rule = {"name": "rule", "target": "px", "ipAddress": ADDRESS, "portRange": "80"}
    call(api, "create", gcp.REGION_TEMPLATE, "t", {"name": "t", "metadata": {"user-data": cloud_config("gcp")}})
    call(api, "create", gcp.GROUP, "mig", mig, instanceGroup="projects/p/ig")
    call(api, "create", gcp.HEALTH_CHECK, "hc", {"checkIntervalSec": 1, "httpHealthCheck": {"requestPath": "/ready"}})
    call(api, "create", gcp.BACKEND, "be", backend)
    call(api, "create", gcp.URL_MAP, "um", {"name": "um", "defaultService": "be"})
    call(api, "create", gcp.HTTP_PROXY, "px", {"name": "px", "urlMap": "um"})
    call(api, "create", gcp.RULE, "rule", rule)

    api = ground.endpoints.cloudflare_api
    monitor = {"type": "http", "path": "/ready", "interval": 1, "timeout": 1, "retries": 0, "consecutiveDown": 2}
    call(api, "create", cloudflare.MONITOR, "m", monitor)
    for site, address in (("aws", ALB), ("gcp", ADDRESS)):
        pool = {"name": site, "monitor": "m", "origins": [{"name": site, "address": address}]}
        call(api, "create", cloudflare.POOL, f"p-{site}", pool)
    call(api, "create", cloudflare.BALANCER, "lb", BALANCER)


def order(ground: GroundClient) -> list[str]:
    state = httpx.get(f"{ground.endpoints.cloudflare_api}/front-door/state").json()
    found: list[str] = state["balancers"][0]["order"]
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:g} s: {what}"
        time.sleep(0.1)


class Traffic:
    """Steady requests through the public name, as the ground's internet has it, and who answered."""

    def __init__(self, ground: GroundClient) -> None:
        self._proxy = ground.endpoints.probe_proxy
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self.answers: Counter[str] = Counter()

    def _run(self) -> None:
        with httpx.Client(timeout=5, proxy=self._proxy) as client:
            while not self._stop.is_set():
                self.sent += 1
                self.answers[self._ask(client)] += 1

    @staticmethod
    def _ask(client: httpx.Client) -> str:
        try:
            answer = client.get(f"http://{NAME}/x")
        except httpx.HTTPError as error:
            return type(error).__name__
        site: str = answer.json()["env"]["LIFEBOAT_SITE"] if answer.status_code == 200 else str(answer.status_code)
        return site

    def next(self, count: int = 30) -> set[str]:
        """Return who answers the next requests; the one under way may still belong to before."""
        before = self.answers.copy()
        wait_for(lambda: (self.answers - before).total() >= 1, "traffic")
        start = self.answers.copy()
        wait_for(lambda: (self.answers - start).total() >= count, "traffic")
        return set(self.answers - start)

    @contextlib.contextmanager
    def flowing(self) -> Iterator["Traffic"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()


def test_traffic_lives_through_the_loss_and_the_return_of_a_site(ground: GroundClient) -> None:
    api = ground.endpoints.cloudflare_api
    wait_for(lambda: order(ground) == ["aws", "gcp"], "both sites up")
    before = httpx.get(f"{api}/front-door/statistics").json()["sent"]
    with Traffic(ground).flowing() as traffic:
        assert traffic.next() == {"aws"}
        for mode in (FaultMode.BLACK_HOLE, FaultMode.KILL):
            ground.fault(Cloud.AWS, mode)
            assert traffic.next() == {"gcp"}, mode
            wait_for(lambda: order(ground) == ["gcp"], "aws is out")
            ground.restore(Cloud.AWS)
            wait_for(lambda: order(ground) == ["aws", "gcp"], "aws is back")
            assert traffic.next() == {"aws"}, mode
        call(api, "update", cloudflare.BALANCER, "lb", BALANCER | {"defaultPools": ["p-gcp", "p-aws"]})
        assert traffic.next() == {"gcp"}
    totals = httpx.get(f"{api}/front-door/statistics").json()
    assert totals["sent"] - before == traffic.sent == traffic.answers.total()
    assert totals["sent"] == totals["ok"] + totals["rescued"] + totals["failed"]
    assert totals["rescued"] > 0
    # Only what was under way at the moment of a cut can be lost: one request a cut here.
    assert totals["failed"] <= 2
    fleets = httpx.get(f"{ground.endpoints.aws_api}/fleets").json()
    assert (fleets[0]["asked"], fleets[0]["running"], fleets[0]["ready"]) == (2, 2, 2)
