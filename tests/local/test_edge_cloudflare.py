"""The Cloudflare cloud as its control plane drives it: resources in, a public name out, and R2 buckets on moto."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from edge_support import Client, ToyGround, cloud, eventually, run, toys
from moto.server import ThreadedMotoServer
from starlette.requests import Request

from local.clouds import cloudflare
from local.clouds.cloudflare.bucket import BUCKET
from local.clouds.cloudflare.errors import FrontDoorError, R2Error
from local.clouds.cloudflare.settings import BALANCER, MONITOR, POOL
from local.clouds.context import CloudContext
from local.names import Cloud
from local.state import Resource

NAME = "recommend.example"


def row(token: str, identity: str, **inputs: Any) -> Resource:
    return Resource("cloudflare", token, identity, identity, f"urn:{identity}", inputs, {})


def pool_row(site: str, **changes: Any) -> Resource:
    origins = [{"name": site, "address": f"{site}.example"}]
    return row(POOL, f"p-{site}", **{"name": site, "origins": origins, "monitor": "m"} | changes)


def balancer_row(**changes: Any) -> Resource:
    return row(BALANCER, "lb", **{"name": NAME, "defaultPools": ["p-aws", "p-gcp"], "fallbackPool": "p-gcp"} | changes)


MONITOR_ROW = row(MONITOR, "m", type="http", path="/ready", expectedCodes="200", interval=1.0, timeout=1.0, retries=0.0)
ROWS = (MONITOR_ROW, pool_row("aws"), pool_row("gcp"), balancer_row())


@dataclass
class Driven:
    context: CloudContext
    ground: ToyGround

    async def ensure(self, *rows: Resource) -> None:
        for resource in rows:
            await cloudflare.actors(self.context)[resource.type].ensure(resource)

    async def remove(self, *rows: Resource) -> None:
        for resource in rows:
            await cloudflare.actors(self.context)[resource.type].remove(resource)

    async def get(self, path: str, query: str = "") -> Any:
        route: Any = next(r for r in cloudflare.routes(self.context) if r.path == path)  # type: ignore[attr-defined]
        response = await route.endpoint(Request({"type": "http", "query_string": query.encode(), "headers": []}))
        return json.loads(response.body)

    async def up(self, *names: str) -> None:
        board = self.context.part(cloudflare.Edge)._board
        await eventually(lambda: {t.pool for t in board.transitions if t.up} >= set(names), f"{names} up")


@contextlib.asynccontextmanager
async def driven(folder: Path, endpoint: str = "http://127.0.0.1:1") -> AsyncIterator[Driven]:
    async with cloud(folder, Cloud.CLOUDFLARE) as (context, ground):
        ground.endpoints = SimpleNamespace(r2=endpoint)  # type: ignore[attr-defined]
        await cloudflare.start(context)
        try:
            yield Driven(context, ground)
        finally:
            await cloudflare.stop(context)


def test_a_failover_by_settings_moves_the_public_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp), driven(tmp_path) as edge:
            edge.ground.published |= {"aws.example": aws.port, "gcp.example": gcp.port}
            await edge.ensure(*ROWS)
            await edge.up("aws", "gcp")
            client = Client(edge.ground.published[NAME])
            assert (await client.ask("/x")).json()["name"] == "aws"
            await edge.ensure(balancer_row(defaultPools=["p-gcp", "p-aws"]))
            assert (await client.ask("/x")).json()["name"] == "gcp"
            state = (await edge.get("/front-door/state"))["balancers"][0]
            assert (state["order"], state["configured_order"]) == (["gcp", "aws"], ["gcp", "aws"])
            assert all(pool["up"] and pool["since_ms"] > 0 for pool in state["pools"])
            totals = await edge.get("/front-door/statistics")
            assert (totals["sent"], totals["ok"]) == (2, 2)
            log = await edge.get("/front-door/requests", "since=1")
            assert [(r["pool"], r["status"], r["outcome"]) for r in log["requests"]] == [("gcp", 200, "ok")]
            assert log["next"] == 2 and "error" in await edge.get("/front-door/requests", "since=x")

    run(main())


def test_pool_changes_and_removal(tmp_path: Path) -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp), driven(tmp_path) as edge:
            edge.ground.published |= {"aws.example": aws.port, "gcp.example": gcp.port}
            await edge.ensure(*ROWS)
            await edge.up("aws", "gcp")
            client = Client(edge.ground.published[NAME])
            await edge.ensure(pool_row("aws", enabled=False))
            assert (await client.ask("/x")).json()["name"] == "gcp"
            await edge.ensure(balancer_row(name="other.example"))
            assert NAME not in edge.ground.published and "other.example" in edge.ground.published
            await edge.remove(*reversed(ROWS))
            assert edge.ground.routes == {} and "other.example" not in edge.ground.published

    run(main())


def test_what_cannot_be_carried_out_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with toys("aws", "gcp") as (aws, gcp), driven(tmp_path) as edge:
            edge.ground.published |= {"aws.example": aws.port, "gcp.example": gcp.port}
            await edge.ensure(*ROWS)
            await edge.up("aws", "gcp")
            for bad in (balancer_row(steeringPolicy="proximity"), balancer_row(defaultPools=["p-none"])):
                with pytest.raises(FrontDoorError):
                    await edge.ensure(bad)
            with pytest.raises(FrontDoorError, match="p-aws"):
                await edge.remove(pool_row("aws"))
            answer = await Client(edge.ground.published[NAME]).ask("/x")
            assert answer.json()["name"] == "aws"

    run(main())


def test_r2_buckets(tmp_path: Path) -> None:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    credentials = {"aws_access_key_id": "lifeboat", "aws_secret_access_key": "local"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="auto", **credentials)
    bucket = row(BUCKET, "b", name="lifeboat-artifacts-r2", accountId="a")

    async def main() -> None:
        async with driven(tmp_path, endpoint) as edge:
            await edge.ensure(bucket, bucket)
            client.put_object(Bucket="lifeboat-artifacts-r2", Key="k", Body=b"v")
            with pytest.raises(R2Error, match="empty it first"):
                await edge.remove(bucket)
            client.delete_object(Bucket="lifeboat-artifacts-r2", Key="k")
            await edge.remove(bucket, bucket)

    try:
        run(main())
    finally:
        server.stop()
