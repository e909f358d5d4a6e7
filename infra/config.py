"""The only reader of the stack's config. It reports every problem at once and asks no network."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.runtime.config import CONFIG
from pydantic import BaseModel, ValidationError

from infra.errors import ConfigError
from infra.settings import Settings

NAMESPACE = "lifeboat"


def load() -> Settings:
    """Read the stack's config.

    Raises ConfigError, which names every wrong key with its value and what is allowed.
    """
    config = pulumi.Config(NAMESPACE)
    known = {field.alias or name for name, field in Settings.model_fields.items()}
    values = {key: value for key in known if (value := config.get(key)) is not None}
    prefix = f"{NAMESPACE}:"
    unknown = {key.removeprefix(prefix) for key in CONFIG.get() if key.startswith(prefix)} - known
    return parse(values, unknown)


def parse(values: Mapping[str, str], unknown: set[str] | None = None) -> Settings:
    """Build settings from config values as Pulumi hands them over: text, and JSON for objects.

    `unknown` names keys that the stack sets and nobody reads. Raises ConfigError.
    """
    problems = [_unknown(key) for key in sorted(unknown or ())]
    document: dict[str, Any] = {}
    for key, value in values.items():
        document[key] = value
        if value.startswith(("{", "[")):
            try:
                document[key] = json.loads(value)
            except json.JSONDecodeError as error:
                problems.append(f"{NAMESPACE}:{key} is not valid JSON: {error}")
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        problems.extend(sorted(_explain(dict(problem)) for problem in error.errors()))
    if settings is not None:
        problems.extend(settings.conflicts())
    if problems or settings is None:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(
            f"the stack's config has {len(problems)} problem(s):\n{lines}\n"
            f"Change them with `pulumi config set [--path] {NAMESPACE}:KEY VALUE`; Pulumi.yaml describes every key."
        )
    return settings


def _unknown(key: str) -> str:
    known = [field.alias or name for name, field in Settings.model_fields.items()]
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {NAMESPACE}:{near[0]}?" if near else f"; allowed: {', '.join(sorted(known))}"
    return f"{NAMESPACE}:{key} is not a key of this program{hint}"


def _explain(problem: dict[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    path = f"{NAMESPACE}:{location[0]}" + "".join(f".{part}" for part in location[1:])
    if problem["type"] == "missing":
        return f"{path} is not set; allowed: {_allowed(location) or 'see Pulumi.yaml'}"
    if problem["type"] == "extra_forbidden":
        return f"{path} is not a key of this program; remove it"
    allowed = _allowed(location) or str(problem["msg"]).removeprefix("Input should be ")
    return f"{path} is {json.dumps(problem['input'], default=str)}; allowed: {allowed}"


def _allowed(location: list[str]) -> str | None:
    """Return the description of the field at a location: every description states the allowed values."""
    model: type[BaseModel] = Settings
    for part in location:
        field = next((field for name, field in model.model_fields.items() if part in (field.alias, name)), None)
        if field is None:
            return None
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
            continue
        return field.description
    return None
