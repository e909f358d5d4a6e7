"""What a function's resource asks for, and what is refused."""

from collections.abc import Mapping
from typing import Any

import pytest

from local.clouds.errors import CloudError
from local.clouds.gcp.function_settings import FunctionSettings
from local.state import Resource

ID = "projects/p/locations/europe-west4/functions/verify"
URL = {"url": "https://verify-abc-ez.a.run.app"}
BUILD = {
    "runtime": "python312",
    "entryPoint": "verify",
    "source": {"storageSource": {"bucket": "code", "object": "verify.zip"}},
}
TOPIC_EVENT = "google.cloud.pubsub.topic.v1.messagePublished"
OBJECT_EVENT = "google.cloud.storage.object.v1.finalized"


def function(outputs: Mapping[str, Any] = URL, **inputs: Any) -> FunctionSettings:
    resource = Resource("gcp", "gcp:cloudfunctionsv2/function:Function", ID, "verify", "urn", inputs, dict(outputs))
    return FunctionSettings.of(resource)


def test_defaults_are_the_platforms() -> None:
    settings = function(buildConfig=BUILD)
    assert (settings.timeout_seconds, settings.concurrency, settings.signature) == (60, 1, "http")
    assert settings.hostname == "verify-abc-ez.a.run.app"
    assert settings.trigger is None


def test_a_trigger_means_cloud_events() -> None:
    topic = "projects/p/topics/t"
    trigger = {"eventType": TOPIC_EVENT, "pubsubTopic": topic, "retryPolicy": "RETRY_POLICY_RETRY"}
    settings = function(buildConfig=BUILD, eventTrigger=trigger)
    assert settings.signature == "cloudevent"
    assert settings.trigger is not None
    assert (settings.trigger.topic, settings.trigger.retry, settings.trigger.owns_topic) == (topic, True, False)
    assert settings.trigger.subscription.startswith("projects/p/subscriptions/eventarc-europe-west4-verify-")


def test_a_bucket_trigger_owns_its_topic() -> None:
    filters = [{"attribute": "bucket", "value": "b"}]
    settings = function(buildConfig=BUILD, eventTrigger={"eventType": OBJECT_EVENT, "eventFilters": filters})
    assert settings.trigger is not None
    assert (settings.trigger.bucket, settings.trigger.owns_topic, settings.trigger.retry) == ("b", True, False)


@pytest.mark.parametrize(
    ("build", "service"),
    [
        ({"environmentVariables": {"GOOGLE_FUNCTION_SIGNATURE_TYPE": "cloudevent"}}, {}),
        ({}, {"environmentVariables": {"FUNCTION_SIGNATURE_TYPE": "cloudevent"}}),
    ],
)
def test_an_http_function_may_take_cloud_events(build: dict[str, Any], service: dict[str, Any]) -> None:
    assert function(buildConfig={**BUILD, **build}, serviceConfig=service).signature == "cloudevent"


def test_the_platforms_variables_name_service_revision_and_target() -> None:
    settings = function(buildConfig=BUILD, serviceConfig={"maxInstanceRequestConcurrency": 8})
    variables = settings.platform_environment("verify-1")
    assert variables["K_SERVICE"] == "verify"
    assert variables["K_REVISION"] == "verify-1"
    assert variables["FUNCTION_TARGET"] == "verify"
    assert variables["GOOGLE_CLOUD_PROJECT"] == "p"


def test_a_revision_follows_code_and_settings() -> None:
    base = function(buildConfig=BUILD)
    assert base.revision("a") == function(buildConfig=BUILD).revision("a")
    assert base.revision("a") != base.revision("b")
    changed = function(buildConfig=BUILD, serviceConfig={"environmentVariables": {"X": "1"}})
    assert base.revision("a") != changed.revision("a")


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({"buildConfig": {**BUILD, "runtime": "nodejs22"}}, URL, "nodejs22"),
        ({"buildConfig": {**BUILD, "entryPoint": ""}}, URL, "entryPoint"),
        ({"buildConfig": {**BUILD, "source": {}}}, URL, "storageSource"),
        ({"buildConfig": BUILD}, {}, "url"),
        ({"buildConfig": BUILD, "eventTrigger": {"eventType": "nope"}}, URL, "nope"),
        ({"buildConfig": BUILD, "eventTrigger": {"eventType": OBJECT_EVENT}}, URL, "bucket"),
        ({"buildConfig": BUILD, "eventTrigger": {"eventType": TOPIC_EVENT, "pubsubTopic": "t"}}, URL, "full name"),
    ],
)
def test_what_cannot_run_is_refused_by_name(inputs: dict[str, Any], outputs: dict[str, str], said: str) -> None:
    with pytest.raises(CloudError, match=said):
        function(outputs, **inputs)
