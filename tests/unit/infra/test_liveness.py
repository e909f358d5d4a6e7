"""Which site counts as lost, and what its resources may then do."""

import asyncio
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from functions.settings import Site
from infra import liveness
from infra.errors import SiteLostError
from tests.program.recording import stack_settings


@pytest.fixture(autouse=True)
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    return said


def lost(configured: str, **alive: bool) -> frozenset[Site]:
    settings = stack_settings("prod", {"lost": configured})
    addresses = liveness.control_planes("us-west-2", {})
    return liveness.lost_sites(settings, lambda url: alive[next(s for s, a in addresses.items() if a == url)])


@pytest.fixture(autouse=True)
def no_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_the_configured_site_is_lost_without_asking() -> None:
    settings = stack_settings("prod", {"lost": "gcp"})
    assert liveness.lost_sites(settings, lambda url: pytest.fail(f"asked {url}")) == {Site.GCP}
    settings = stack_settings("prod", {"lost": "none"})
    assert liveness.lost_sites(settings, lambda url: pytest.fail(f"asked {url}")) == frozenset()


def test_the_one_that_does_not_answer_is_lost(warnings: list[str]) -> None:
    assert lost("auto", aws=False, gcp=True) == {Site.AWS}
    assert lost("auto", aws=True, gcp=False) == {Site.GCP}
    assert lost("auto", aws=True, gcp=True) == frozenset()
    assert len(warnings) == 2 and "site aws stay as last deployed" in warnings[0]


def test_two_silent_clouds_are_this_machines_network(warnings: list[str]) -> None:
    assert lost("auto", aws=False, gcp=False) == frozenset()
    assert "neither control plane answers" in warnings[0]


def test_control_planes_follow_the_sdks_own_variables() -> None:
    assert liveness.control_planes("eu-west-1", {}) == {
        Site.AWS: "https://sts.eu-west-1.amazonaws.com",
        Site.GCP: "https://storage.googleapis.com",
    }
    environment = {
        "AWS_ENDPOINT_URL": "http://a",
        "AWS_ENDPOINT_URL_STS": "http://b",
        "STORAGE_EMULATOR_HOST": "http://c",
    }
    assert liveness.control_planes("eu-west-1", environment) == {Site.AWS: "http://b", Site.GCP: "http://c"}


@pytest.fixture
def refusing_server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_refusal_is_an_answer(refusing_server: str) -> None:
    assert liveness.answers(refusing_server)


def test_a_closed_port_is_none() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert not liveness.answers(f"http://127.0.0.1:{free.getsockname()[1]}")


def test_a_cloud_that_accepts_and_never_answers_costs_no_more_than_the_limit() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        assert not liveness.answers(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < liveness.PROBE_SECONDS


def test_types_belong_to_their_clouds_site() -> None:
    assert liveness.site_of("aws:s3/bucket:Bucket") is Site.AWS
    assert liveness.site_of("gcp:storage/bucket:Bucket") is Site.GCP
    assert liveness.site_of("cloudflare:index/loadBalancer:LoadBalancer") is None
    assert liveness.site_of("lifeboat:edge:FrontDoor") is None


def test_resources_of_a_lost_site_ignore_every_change_and_are_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    transforms: list[Any] = []
    monkeypatch.setattr(pulumi.runtime, "register_resource_transform", transforms.append)
    monkeypatch.setattr("pulumi.resource_hooks.register_resource_hook", lambda hook: asyncio.Future(loop=_loop()))
    liveness.freeze(frozenset())
    assert transforms == []
    liveness.freeze(frozenset({Site.AWS}))
    (transform,) = transforms

    def transformed(type_token: str, custom: bool = True) -> Any:
        options = pulumi.ResourceOptions(ignore_changes=["size"])
        return transform(pulumi.ResourceTransformArgs(custom, type_token, "fleet", {}, options))

    assert transformed("gcp:storage/bucket:Bucket") is None
    assert transformed("cloudflare:index/loadBalancer:LoadBalancer") is None
    assert transformed("lifeboat:fleet:AwsFleet", custom=False) is None
    frozen = transformed("aws:autoscaling/group:Group").opts
    assert frozen.ignore_changes == ["size", "*"]
    (hook,) = frozen.hooks.before_create
    assert frozen.hooks.before_update == [hook]
    assert hook.opts.on_dry_run, "a preview must say what cannot be done"
    args = pulumi.ResourceHookArgs("urn", "", "fleet-aws-group", "aws:autoscaling/group:Group")
    with pytest.raises(SiteLostError, match=r"fleet-aws-group .* on site aws, whose cloud does not answer"):
        hook(args)


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()
