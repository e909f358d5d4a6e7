"""Lineage: where a version comes from, as its publisher tells it. Known names are checked, others are carried.

Known: `training_data` (list of name, digest and where it lies), `code` (repository and revision), `metrics` (name to number),
`author`. It is signed with the manifest and so can't be changed later; nothing else here proves that it is true.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functions.artifacts.errors import ManifestError

MOST_LINEAGE_BYTES = 256 * 1024
MOST_DEPTH = 16

_Text = Annotated[str, Field(max_length=1_024)]


class TrainingData(BaseModel):
    """One data set that a version was trained on."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: _Text
    digest: Annotated[str, Field(pattern=r"^(sha256|sha512|blake3|md5):[0-9a-f]{32,128}$")] | None = None
    uri: _Text | None = None


class Code(BaseModel):
    """The code that trained it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    repository: _Text | None = None
    revision: _Text


class Lineage(BaseModel):
    """What is known by name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    training_data: Annotated[list[TrainingData], Field(max_length=1_000)] = []
    code: Code | None = None
    metrics: dict[_Text, float] = {}
    author: _Text | None = None


def check_lineage(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lineage that a manifest can carry; ManifestError says which part of it can't be."""
    try:
        size = len(json.dumps(dict(value), allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestError(f"lineage is no JSON object: {error}") from error
    if size > MOST_LINEAGE_BYTES or _depth(value) > MOST_DEPTH:
        raise ManifestError(
            f"lineage has {size} bytes, {_depth(value)} levels; at most {MOST_LINEAGE_BYTES} bytes and {MOST_DEPTH} levels"
        )
    try:
        Lineage.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
        raise ManifestError(f"lineage is refused: {problems}") from error
    return dict(value)


def read_lineage(text: str) -> dict[str, Any]:
    """Return the lineage in a JSON text; ManifestError if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"lineage is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ManifestError("lineage is no JSON object")
    return check_lineage(value)


def _depth(value: object, level: int = 1) -> int:
    # Stops one level beyond the limit: what is deeper need not be measured.
    if level > MOST_DEPTH or not isinstance(value, dict | list):
        return level
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(each, level + 1) for each in inner), default=level)
