"""Fleets and their balancers as an AWS and a Google cloud process run them, with a toy service in the containers."""

import asyncio
import base64
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from edge_support import TOY_COMMAND, Client, ToyGround, cloud, eventually, run
from starlette.requests import Request

from local.clouds.fleet import aws, gcp
from local.clouds.fleet.bound import BOUND_VARIABLE
from local.clouds.fleet.errors import FleetError
from local.clouds.fleet.instances import COMMAND_VARIABLE
from local.clouds.fleet.site import Site
from local.names import Cloud
from local.state import Resource


@pytest.fixture(autouse=True)
def toy_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, TOY_COMMAND)
    monkeypatch.setenv(BOUND_VARIABLE, "3")
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")


def cloud_config(**environment: object) -> str:
    lines = "".join(f"      {name}={value}\n" for name, value in {"LIFEBOAT_SITE": "toy", **environment}.items())
    return f"#cloud-config\nwrite_files:\n  - path: /etc/lifeboat/service.env\n    content: |\n{lines}"


def row(token: str, identity: str, inputs: dict[str, Any], outputs: dict[str, Any] | None = None) -> Resource:
    return Resource("cloud", token, identity, identity, f"urn:{identity}", inputs, outputs or {})


def launch_template(**environment: object) -> Resource:
    user_data = base64.b64encode(cloud_config(**environment).encode()).decode()
    return row(aws.TEMPLATE, "lt-1", {"name": "service", "userData": user_data})


def group(size: int, refresh: bool = False, **changes: Any) -> Resource:
    inputs = {
        "name": "service",
        "desiredCapacity": float(size),
        "launchTemplate": {"id": "lt-1"},
        "targetGroupArns": ["arn:tg"],
    }
    refreshing = {"instanceRefresh": {"strategy": "Rolling"}} if refresh else {}
    return row(aws.GROUP, "service", inputs | refreshing | changes, {"arn": "arn:aws:autoscaling:us-west-2:1:x"})


def balancer_rows() -> list[Resource]:
    check = {"path": "/ready", "interval": 0.1, "timeout": 1.0}
    forward = [{"type": "forward", "targetGroupArn": "arn:tg"}]
    listener = {"loadBalancerArn": "arn:lb", "port": 80, "protocol": "HTTP", "defaultActions": forward}
    return [
        row(aws.BALANCER, "arn:lb", {"name": "lb"}, {"arn": "arn:lb", "dnsName": "lb.elb.example"}),
        row(aws.TARGET_GROUP, "arn:tg", {"healthCheck": check}, {"arn": "arn:tg"}),
        row(aws.LISTENER, "arn:l", listener),
    ]


class Aws:
    """An AWS site in this process, driven by rows as the control plane drives it."""

    def __init__(self, site: Site, ground: ToyGround) -> None:
        self.site = site
        self.ground = ground

    def fleet(self) -> dict[str, Any]:
        (fleet,) = self.site._fleets.values()
        return fleet.describe()

    def ready(self) -> list[dict[str, Any]]:
        return [i for i in self.fleet()["instances"] if i["ready"] and not i["retiring"]]

    async def size(self, ready: int) -> list[dict[str, Any]]:
        await eventually(
            lambda: len(self.ready()) == ready == self.fleet()["running"], f"{ready} ready: {self.fleet()}"
        )
        return self.ready()

    async def serving(self, count: int, hostname: str = "lb.elb.example") -> Client:
        """Wait until the balancer sends to so many instances; returns a client of it."""
        (balancer,) = self.site._balancers.values()
        await eventually(lambda: len(balancer._eligible) == count, f"{count} healthy targets")
        return Client(self.ground.published[hostname])

    async def ensure(self, *rows: Resource) -> None:
        for resource in rows:
            await self.site.actor().ensure(resource)


@contextlib.asynccontextmanager
async def aws_site(folder: Path, *rows: Resource) -> AsyncIterator[Aws]:
    async with cloud(folder, Cloud.AWS) as (context, ground):
        site = Aws(context.part(aws.site), ground)
        try:
            await site.ensure(*rows)
            yield site
        finally:
            await aws.stop(context)


def test_size_up_and_down_within_the_hosts_bound(tmp_path: Path) -> None:
    async def main() -> None:
        async with aws_site(tmp_path, launch_template(TOY_READY_SECONDS=0.3), *balancer_rows(), group(2)) as site:
            instances = await site.size(2)
            assert len({i["id"] for i in instances}) == len({i["port"] for i in instances}) == 2
            for instance in instances:
                assert 0 < instance["health_ms"] < instance["boot_ms"] < 20_000 and instance["boot_ms"] >= 300
            oldest = site.fleet()["instances"][0]["id"]
            await site.ensure(group(8))
            await site.size(3)
            assert (site.fleet()["asked"], site.fleet()["bound"], site.fleet()["running"]) == (8, 3, 3)
            await site.ensure(group(1))
            assert [i["id"] for i in await site.size(1)] == [oldest]
            await site.ensure(group(0))
            await site.size(0)

    run(main())


def test_instances_get_the_containers_environment_and_serve_through_the_balancer(tmp_path: Path) -> None:
    async def main() -> None:
        async with aws_site(tmp_path, launch_template(), *balancer_rows(), group(2)) as site:
            ids = {i["id"] for i in await site.size(2)}
            client = await site.serving(2)
            heard = [(await client.ask("/x")).json() for _ in range(30)]
            assert {h["env"]["LIFEBOAT_INSTANCE"] for h in heard} <= ids
            env = heard[0]["env"]
            assert (env["LIFEBOAT_SITE"], env["AWS_REGION"], env["AWS_ENDPOINT_URL"]) == (
                "toy",
                "us-west-2",
                "http://127.0.0.1:1",
            )
            assert "SECRET_OF_THE_HOST" not in heard[0]["names"] and COMMAND_VARIABLE not in heard[0]["names"]

    run(main())


def test_a_killed_instance_is_replaced_and_requests_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with aws_site(tmp_path, launch_template(), *balancer_rows(), group(2)) as site:
            victim = (await site.size(2))[0]
            client = await site.serving(2)
            os.kill(victim["pid"], signal.SIGKILL)
            # Until the death is noticed a request can still meet the closed port; none may fail otherwise, or after.
            while victim["id"] in {target.name for target in next(iter(site.site._balancers.values()))._eligible}:
                assert (await client.ask("/x")).status in (200, 502)
            assert {(await client.ask("/x")).status for _ in range(50)} == {200}
            await eventually(lambda: victim["id"] not in {i["id"] for i in site.ready()}, "victim gone")
            instances = await site.size(2)
            assert sorted(i["restarts"] for i in instances) == [0, 1] and site.fleet()["replaced"] == 1

    run(main())


def test_a_service_that_cannot_start_is_tried_ever_more_slowly_and_cured_by_a_new_template(tmp_path: Path) -> None:
    async def main() -> None:
        async with aws_site(tmp_path, launch_template(TOY_BROKEN=1), *balancer_rows(), group(1, True)) as site:
            await eventually(lambda: site.fleet()["replaced"] >= 3, "three deaths")
            before = site.fleet()["replaced"]
            await asyncio.sleep(0.5)
            assert site.fleet()["replaced"] <= before + 1
            await site.ensure(launch_template(), group(1, True))
            await site.size(1)

    run(main())


def test_a_new_template_rolls_without_losing_a_request(tmp_path: Path) -> None:
    async def main() -> None:
        rows = [launch_template(TOY_VERSION=1), *balancer_rows(), group(2, True)]
        async with aws_site(tmp_path, *rows) as site:
            client = await site.serving(2)
            versions: list[str] = []

            async def traffic() -> None:
                while True:
                    answer = await client.ask("/x")
                    assert answer.status == 200, answer.body
                    versions.append(answer.json()["env"]["TOY_VERSION"])
                    await asyncio.sleep(0.005)

            load = asyncio.create_task(traffic())
            await eventually(lambda: len(versions) > 20 or load.done(), "traffic")
            await site.ensure(launch_template(TOY_VERSION=2), group(2, True))
            await eventually(lambda: load.done() or versions[-50:] == ["2"] * 50, "all on the new template")
            await site.size(2)
            assert not load.done(), load
            load.cancel()

    run(main())


def test_without_refresh_a_new_template_waits_for_new_instances(tmp_path: Path) -> None:
    async def main() -> None:
        async with aws_site(tmp_path, launch_template(TOY_VERSION=1), *balancer_rows(), group(1)) as site:
            (first,) = await site.size(1)
            await site.ensure(launch_template(TOY_VERSION=2), group(1))
            await site.ensure(group(2))
            assert first["id"] in {i["id"] for i in await site.size(2)}

    run(main())


def test_scale_in_waits_for_the_last_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with aws_site(tmp_path, launch_template(), *balancer_rows(), group(1)) as site:
            client = await site.serving(1)
            slow = asyncio.create_task(client.ask("/slow"))
            await eventually(lambda: sum(site.site._in_flight(i["port"]) for i in site.ready()) == 1, "in flight")
            await site.ensure(group(0))
            assert (await slow).status == 200
            await site.size(0)

    run(main())


def test_a_bad_template_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with aws_site(tmp_path, launch_template(), *balancer_rows(), group(1)) as site:
            (first,) = await site.size(1)
            with pytest.raises(FleetError, match="lt-404"):
                await site.ensure(group(2, launchTemplate={"id": "lt-404"}))
            await site.ensure(group(1))
            assert [i["id"] for i in await site.size(1)] == [first["id"]]

    run(main())


def test_removal_takes_processes_names_and_routes_away(tmp_path: Path) -> None:
    async def main() -> None:
        rows = [launch_template(), *balancer_rows(), group(1)]
        async with aws_site(tmp_path, *rows) as site:
            (instance,) = await site.size(1)
            for resource in reversed(rows):
                await site.site.actor().remove(resource)
            assert (site.ground.published, site.ground.routes) == ({}, {})
            with pytest.raises(ProcessLookupError):
                os.kill(instance["pid"], 0)

    run(main())


def test_google_group_behind_its_load_balancer(tmp_path: Path) -> None:
    def gcp_group(size: int) -> Resource:
        inputs = {
            "name": "service",
            "baseInstanceName": "service",
            "targetSize": float(size),
            "versions": [{"instanceTemplate": "t"}],
        }
        return row(gcp.GROUP, "mig", inputs, {"instanceGroup": "projects/p/ig"})

    check = {"checkIntervalSec": 0.1, "httpHealthCheck": {"requestPath": "/ready", "port": 8080}}
    rows = [
        row(gcp.ADDRESS, "address", {"name": "address"}, {"address": "203.0.113.7"}),
        row(gcp.REGION_TEMPLATE, "t", {"name": "t", "metadata": {"user-data": cloud_config()}}),
        gcp_group(1),
        row(gcp.HEALTH_CHECK, "hc", {"name": "hc"} | check),
        row(gcp.BACKEND, "be", {"name": "be", "healthChecks": "hc", "backends": [{"group": "projects/p/ig"}]}),
        row(gcp.URL_MAP, "um", {"name": "um", "defaultService": "be"}),
        row(gcp.HTTP_PROXY, "px", {"name": "px", "urlMap": "um"}),
        row(gcp.RULE, "rule", {"name": "rule", "target": "px", "ipAddress": "203.0.113.7", "portRange": "80"}),
    ]

    async def main() -> None:
        async with cloud(tmp_path, Cloud.GCP) as (context, ground):
            site = Aws(context.part(gcp.site), ground)
            try:
                await site.ensure(*rows)
                (instance,) = await site.size(1)
                client = await site.serving(1, "203.0.113.7")
                answer = (await client.ask("/x")).json()
                assert answer["env"]["LIFEBOAT_INSTANCE"] == instance["id"]
                os.kill(instance["pid"], signal.SIGKILL)
                await eventually(lambda: [i["restarts"] for i in site.ready()] == [1], "replaced")
                assert site.ready()[0]["id"] == instance["id"]
                fleets = next(route for route in gcp.routes(context) if route.path == "/fleets")  # type: ignore[attr-defined]
                assert (await fleets.endpoint(Request({"type": "http"}))).status_code == 200  # type: ignore[attr-defined]
            finally:
                await gcp.stop(context)

    run(main())
