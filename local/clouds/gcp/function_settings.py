"""What a deployed function asks for, read once from its resource and checked. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from local.clouds.errors import ActorError, UnsupportedError
from local.clouds.gcp.envelopes import PUBSUB_EVENT, STORAGE_EVENTS
from local.clouds.gcp.resources import FUNCTION, TOPIC, checked, full_name, properties, text_map
from local.state import Resource

# Defaults of the Cloud Functions API v2 (ServiceConfig) and of Cloud Run.
DEFAULT_TIMEOUT_SECONDS = 60
DEFAULT_CONCURRENCY = 1
DEFAULT_MAXIMUM_INSTANCES = 100
# Pub/Sub names end at 255 characters.
NAME_LIMIT = 255
SIGNATURES = ("http", "cloudevent", "event", "typed")
# The build takes the signature from the first, a container from the second.
SIGNATURE_VARIABLES = ("GOOGLE_FUNCTION_SIGNATURE_TYPE", "FUNCTION_SIGNATURE_TYPE")


@dataclass(frozen=True)
class Trigger:
    """An Eventarc trigger: a topic and the subscription that Eventarc keeps on it; for storage events also a bucket."""

    event_type: str
    topic: str
    subscription: str
    retry: bool
    owns_topic: bool
    bucket: str | None = None


@dataclass(frozen=True)
class FunctionSettings:
    """One Cloud Run function as its resource describes it."""

    id: str
    project: str
    name: str
    entry_point: str
    signature: str
    environment: Mapping[str, str]
    archive_bucket: str
    archive_object: str
    timeout_seconds: int
    concurrency: int
    maximum_instances: int
    hostname: str
    trigger: Trigger | None

    @classmethod
    def of(cls, resource: Resource) -> "FunctionSettings":
        """Read a gcp.cloudfunctionsv2.Function. Raises ActorError naming what is missing or cannot run here."""
        identity = full_name(resource, FUNCTION)
        _, project, _, location, _, name = identity.split("/")
        given = properties(resource)
        build, service = given.get("buildConfig") or {}, given.get("serviceConfig") or {}
        runtime = str(build.get("runtime") or "")
        if not runtime.startswith("python"):
            raise UnsupportedError(
                f"function {name} asks for runtime {runtime!r}; the local cloud runs python functions only"
            )
        if not build.get("entryPoint"):
            raise ActorError(f"function {name} has no buildConfig.entryPoint; name the function in main.py to call")
        source = (build.get("source") or {}).get("storageSource") or {}
        if not (source.get("bucket") and source.get("object")):
            raise ActorError(f"function {name} has no buildConfig.source.storageSource with bucket and object")
        trigger = _trigger(given.get("eventTrigger") or {}, project, location, name)
        return cls(
            id=identity,
            project=project,
            name=name,
            entry_point=str(build["entryPoint"]),
            signature=_signature(name, build, service, trigger),
            environment=text_map(service.get("environmentVariables")),
            archive_bucket=str(source["bucket"]),
            archive_object=str(source["object"]),
            timeout_seconds=int(service.get("timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS),
            concurrency=int(service.get("maxInstanceRequestConcurrency") or DEFAULT_CONCURRENCY),
            maximum_instances=int(service.get("maxInstanceCount") or DEFAULT_MAXIMUM_INSTANCES),
            hostname=_hostname(name, resource.outputs),
            trigger=trigger,
        )

    def revision(self, archive_digest: str) -> str:
        """Return the name of the revision that these settings make of an archive; equal ones need no new processes."""
        made_of: list[object] = [self.entry_point, self.signature, sorted(self.environment.items()), archive_digest]
        made_of += [self.timeout_seconds, self.concurrency, self.maximum_instances]
        return f"{self.name}-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:10]}"

    def platform_environment(self, revision: str) -> dict[str, str]:
        """Return the variables that the platform sets beside the function's own.

        https://cloud.google.com/run/docs/container-contract and
        https://cloud.google.com/functions/docs/configuring/env-var.
        """
        return {
            "K_SERVICE": self.name,
            "K_CONFIGURATION": self.name,
            "K_REVISION": revision,
            "FUNCTION_TARGET": self.entry_point,
            "FUNCTION_SIGNATURE_TYPE": self.signature,
            "GOOGLE_CLOUD_PROJECT": self.project,
            # The number of gunicorn's threads (functions-framework).
            "THREADS": str(self.concurrency),
        }


def _signature(name: str, build: Mapping[str, Any], service: Mapping[str, Any], trigger: Trigger | None) -> str:
    variables = {**text_map(service.get("environmentVariables")), **text_map(build.get("environmentVariables"))}
    named = [variables[key] for key in SIGNATURE_VARIABLES if key in variables]
    signature = named[0] if named else "http" if trigger is None else "cloudevent"
    if signature not in SIGNATURES:
        raise ActorError(f"function {name}: signature {signature!r} is not one of {', '.join(SIGNATURES)}")
    return signature


def _hostname(name: str, outputs: Mapping[str, Any]) -> str:
    url = outputs.get("url") or (outputs.get("serviceConfig") or {}).get("uri") or ""
    hostname = urlsplit(str(url)).hostname
    if not hostname:
        raise ActorError(f"function {name} has no url in its outputs; the provider plugin computes it")
    return hostname


def _trigger(given: Mapping[str, Any], project: str, location: str, name: str) -> Trigger | None:
    event_type = str(given.get("eventType") or "")
    if not event_type:
        return None
    # Eventarc's own names: the trigger's location and name, and a fixed suffix instead of its random one.
    own = f"eventarc-{location}-{name}"
    digest = hashlib.sha256(f"{project}/{own}".encode()).hexdigest()[:8]
    own = f"{own[: NAME_LIMIT - 20]}-{digest}"
    subscription = f"projects/{project}/subscriptions/{own}-sub"
    retry = given.get("retryPolicy") == "RETRY_POLICY_RETRY"
    if event_type == PUBSUB_EVENT:
        named = given.get("pubsubTopic")
        topic = checked(str(named), TOPIC, f"function {name}: eventTrigger.pubsubTopic") if named else None
        return Trigger(event_type, topic or f"projects/{project}/topics/{own}", subscription, retry, topic is None)
    if event_type in STORAGE_EVENTS:
        filters = {str(one.get("attribute")): str(one.get("value")) for one in given.get("eventFilters") or []}
        if set(filters) != {"bucket"}:
            raise ActorError(f"function {name}: a trigger of {event_type} needs exactly one event filter, on bucket")
        return Trigger(event_type, f"projects/{project}/topics/{own}", subscription, retry, True, filters["bucket"])
    known = ", ".join([PUBSUB_EVENT, *STORAGE_EVENTS])
    raise UnsupportedError(
        f"function {name}: event type {event_type!r} is unknown to the local cloud; it knows {known}"
    )
