"""Garbage collection rules, from the provider's forms to the API's."""

import json
from typing import Any

import pytest

from local.clouds.gcp.bigtable import gc_rule
from local.state import Resource


def rule(**inputs: Any) -> Any:
    return gc_rule(Resource("gcp", "gcp:bigtable/gCPolicy:GCPolicy", "id", "name", "urn", inputs, {}))


@pytest.mark.parametrize(
    "inputs", [{"maxVersions": [{"number": 1}]}, {"gcRules": json.dumps({"rules": [{"max_version": 1}]})}]
)
def test_versions(inputs: dict[str, Any]) -> None:
    assert rule(**inputs).max_num_versions == 1


@pytest.mark.parametrize("age", [{"duration": "48h"}, {"days": 2}, {"duration": "1d24h0m"}])
def test_age(age: dict[str, Any]) -> None:
    assert rule(maxAge=age).max_age.ToSeconds() == 172_800


def test_both_joined_by_mode() -> None:
    both: dict[str, Any] = {"maxVersions": [{"number": 2}], "maxAge": {"duration": "1h"}}
    assert len(rule(mode="UNION", **both).union.rules) == 2
    assert len(rule(**both).intersection.rules) == 2


def test_none_means_keep_all() -> None:
    assert rule().WhichOneof("rule") is None
