"""The Cloudflare types that are registered by token, held against the installed package."""

import dataclasses
import importlib
import inspect

import pytest

from infra import edge
from tests.program.recording import Recorder

TYPES = {
    edge.Bucket: "R2Bucket",
    edge.Monitor: "LoadBalancerMonitor",
    edge.Pool: "LoadBalancerPool",
    edge.LoadBalancer: "LoadBalancer",
}


@pytest.mark.parametrize("ours", TYPES, ids=lambda each: TYPES[each])
def test_every_property_is_the_packages_own(ours: type) -> None:
    cloudflare = importlib.import_module("pulumi_cloudflare")
    theirs = inspect.signature(getattr(cloudflare, f"{TYPES[ours]}Args").__init__).parameters
    fields = {field.name for field in dataclasses.fields(ours)}
    assert fields <= theirs.keys()
    required = {name for name, each in theirs.items() if each.default is inspect.Parameter.empty} - {"__self__"}
    assert required <= fields


def test_tokens_are_the_packages_own(local: Recorder) -> None:
    cloudflare = importlib.import_module("pulumi_cloudflare")
    known = {getattr(cloudflare, name).pulumi_type for name in TYPES.values()}
    assert {each.type for each in local.held() if each.type.startswith("cloudflare:")} == known


def test_nothing_is_set_to_an_empty_map(local: Recorder) -> None:
    for each in local.held():
        if each.type.startswith("cloudflare:"):
            assert [key for key, value in each.inputs.items() if value == {} or value == []] == []
