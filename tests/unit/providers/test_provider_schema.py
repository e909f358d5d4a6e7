"""Schemas read from the provider packages' source, and what is refused by them."""

import json
from pathlib import Path
from typing import Any

import pytest

from local.providers import checks, schema
from local.providers.errors import SchemaError
from local.providers.wire import UNKNOWN, Asset

QUEUE = "aws:sqs/queue:Queue"
TABLE = "aws:dynamodb/table:Table"


def reasons(token: str, inputs: dict[str, Any]) -> list[str]:
    return [misfit.reason for misfit in checks.misfits(schema.load(token), inputs)]


def test_a_schema_has_wire_names_types_and_requirements() -> None:
    queue = schema.load(QUEUE)
    assert queue.inputs["visibilityTimeoutSeconds"] == schema.PropertySchema("integer", required=False)
    assert queue.inputs["tags"].form == {"map": "string"}
    assert {"arn", "url"} <= queue.outputs
    assert schema.load("aws:iam/role:Role").inputs["assumeRolePolicy"].required


def test_deprecated_properties_have_wire_names_too() -> None:
    assert "expectedBucketOwner" in schema.load("aws:s3/bucketVersioning:BucketVersioning").inputs


def test_reading_the_source_imports_no_provider_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    before = {name for name in sys.modules if name.startswith("pulumi_cloudflare")}
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path))
    folder = schema.package_folder("cloudflare")
    schema.read_source(folder, "cloudflare:index/loadBalancer:LoadBalancer")
    assert {name for name in sys.modules if name.startswith("pulumi_cloudflare")} == before


def test_what_was_read_is_kept_by_package_version_and_read_back_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path))
    schema.load.cache_clear()
    first = schema.load(TABLE)
    (file,) = tmp_path.rglob("*.json")
    assert schema.package_version("aws") in str(file)
    assert schema.TypeSchema.from_json(json.loads(file.read_text())) == first
    schema.load.cache_clear()
    assert schema.load(TABLE) == first
    schema.load.cache_clear()


def test_a_type_that_the_package_lacks_is_named() -> None:
    with pytest.raises(SchemaError, match="aws:sqs/queue:Cue is no resource type of pulumi_aws"):
        schema.load("aws:sqs/queue:Cue")


def test_fitting_inputs_have_no_misfits() -> None:
    inputs = {"name": "q", "delaySeconds": 5, "fifoQueue": True, "tags": {"a": "b"}, "__defaults": []}
    assert reasons(QUEUE, inputs) == []


def test_an_unknown_property_is_named_with_the_nearest_one() -> None:
    (reason,) = reasons(QUEUE, {"visibilityTimeout": 3})
    assert reason == f'{QUEUE} has no property "visibilityTimeout"; did you mean "visibilityTimeoutSeconds"?'


def test_a_missing_property_is_named() -> None:
    assert reasons("aws:iam/role:Role", {}) == ['aws:iam/role:Role needs property "assumeRolePolicy", which is missing']


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"delaySeconds": "x"}, 'property "delaySeconds" must be an integer, but is the string "x"'),
        ({"delaySeconds": 1.5}, 'property "delaySeconds" must be an integer, but is the number 1.5'),
        ({"delaySeconds": True}, 'property "delaySeconds" must be an integer, but is the boolean true'),
        ({"fifoQueue": "true"}, 'property "fifoQueue" must be a boolean, but is the string "true"'),
        ({"tags": ["a"]}, 'property "tags" must be an object, but is a list'),
        ({"tags": {"a": 1}}, 'property "tags.a" must be a string, but is the number 1'),
    ],
)
def test_a_wrong_type_is_named_with_what_was_wanted(inputs: dict[str, Any], reason: str) -> None:
    assert reasons(QUEUE, inputs) == [f"{QUEUE} {reason}"]


def test_nested_objects_are_checked_with_their_path() -> None:
    found = checks.misfits(schema.load(TABLE), {"attributes": [{"name": "a", "typ": "S"}]})
    assert [misfit.property for misfit in found] == ["attributes[0].typ", "attributes[0].type"]
    assert 'did you mean "type"?' in found[0].reason


def test_unknown_values_fit_everywhere() -> None:
    assert reasons(QUEUE, {"delaySeconds": UNKNOWN, "tags": UNKNOWN}) == []
    assert reasons(TABLE, {"attributes": [{"name": UNKNOWN, "type": UNKNOWN}]}) == []


def test_archives_and_assets_are_told_apart() -> None:
    code = {"role": "r", "code": Asset(archive=False, hash="h", body={})}
    assert reasons("aws:lambda/function:Function", code) == [
        'aws:lambda/function:Function property "code" must be an archive, but is an asset'
    ]
    source = {"bucket": "b", "source": Asset(archive=False, hash="h", body={})}
    assert reasons("gcp:storage/bucketObject:BucketObject", source) == []
