"""Readings that all actors of this cloud share: names out of ids, properties out of rows."""

import re
from collections.abc import Mapping
from typing import Any

from local.clouds.errors import ActorError
from local.state import Resource

TOPIC = re.compile(r"projects/[^/]+/topics/[^/]+")
SUBSCRIPTION = re.compile(r"projects/[^/]+/subscriptions/[^/]+")
TABLE = re.compile(r"projects/[^/]+/instances/[^/]+/tables/[^/]+")
FUNCTION = re.compile(r"projects/[^/]+/locations/[^/]+/functions/[^/]+")


def properties(resource: Resource) -> dict[str, Any]:
    """Return a resource's properties: what the program set, over what the cloud computed."""
    return {**resource.outputs, **{key: value for key, value in resource.inputs.items() if value is not None}}


def required(resource: Resource, key: str) -> Any:
    """Return one property. Raises ActorError when the resource has none."""
    value = properties(resource).get(key)
    if value in (None, ""):
        raise ActorError(f"{resource.type} {resource.name or resource.id} has no {key}; set {key}")
    return value


def full_name(resource: Resource, pattern: re.Pattern[str]) -> str:
    """Return the resource's id, which is its full name in the API. Raises ActorError when it has another form."""
    return checked(resource.id, pattern, f"{resource.type} {resource.name}")


def checked(name: str, pattern: re.Pattern[str], what: str) -> str:
    """Return `name` when it has the API's full form. Raises ActorError."""
    if not pattern.fullmatch(name):
        raise ActorError(f"{what}: {name!r} is no full name, expected the form {pattern.pattern.replace('[^/]+', '*')}")
    return name


def topic_name(resource: Resource, name: str, what: str) -> str:
    """Return a topic's full name; a short one means a topic of the resource's own project, as the real provider takes it.

    Raises ActorError for any other form.
    """
    if "/" not in name:
        name = f"{resource.id.partition('/subscriptions/')[0]}/topics/{name}"
    return checked(name, TOPIC, what)


def text_map(value: Any) -> Mapping[str, str]:
    """Return a map of texts; None gives an empty one."""
    return {str(key): str(text) for key, text in (value or {}).items()}
