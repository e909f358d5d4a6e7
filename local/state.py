"""What the local clouds hold: one SQLite file a ground, shared by the provider plugins and the cloud processes.

Pulumi keeps its own state; this is the clouds' side of it, so that `refresh`, duplicate names and a cloud process that
starts again all see what really exists. Rows keep their order of creation, which is an order of dependencies.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Plugins and cloud processes write at once during an `up`; each write is far shorter than this.
BUSY_TIMEOUT_SECONDS = 30.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    cloud TEXT NOT NULL,
    type TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    urn TEXT NOT NULL,
    inputs TEXT NOT NULL,
    outputs TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (cloud, type, id)
)
"""


class ResourceExistsError(Exception):
    """A resource of that type and id exists already."""


class ResourceGoneError(Exception):
    """No resource of that type and id exists."""


@dataclass(frozen=True)
class Resource:
    """One resource as a cloud holds it; `inputs` and `outputs` carry Pulumi's wire names."""

    cloud: str
    type: str
    id: str
    name: str
    urn: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


class ResourceStore:
    """Resources of all clouds of one ground. Every call opens its own connection, so any thread or process may call."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "state.db"
        with self._connect() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(SCHEMA)

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_SECONDS)
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def create(self, resource: Resource) -> None:
        """Add a resource. Raises ResourceExistsError when its cloud has one of that type and id."""
        try:
            with self._connect() as connection:
                connection.execute(
                    "INSERT INTO resources (cloud, type, id, name, urn, inputs, outputs, updated_ms)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (resource.cloud, resource.type, resource.id, resource.name, resource.urn, *_body(resource)),
                )
        except sqlite3.IntegrityError as error:
            raise ResourceExistsError(f"{resource.type} {resource.id} exists already in {resource.cloud}") from error

    def update(self, resource: Resource) -> None:
        """Replace inputs and outputs of a resource. Raises ResourceGoneError when there is none."""
        with self._connect() as connection:
            changed = connection.execute(
                "UPDATE resources SET inputs = ?, outputs = ?, updated_ms = ? WHERE cloud = ? AND type = ? AND id = ?",
                (*_body(resource), resource.cloud, resource.type, resource.id),
            ).rowcount
        if not changed:
            raise ResourceGoneError(f"{resource.type} {resource.id} is gone from {resource.cloud}")

    def read(self, cloud: str, type_token: str, resource_id: str) -> Resource:
        """Return one resource. Raises ResourceGoneError when there is none."""
        with self._connect() as connection:
            row = connection.execute(
                "SELECT cloud, type, id, name, urn, inputs, outputs FROM resources"
                " WHERE cloud = ? AND type = ? AND id = ?",
                (cloud, type_token, resource_id),
            ).fetchone()
        if row is None:
            raise ResourceGoneError(f"{type_token} {resource_id} is gone from {cloud}")
        return _resource(row)

    def delete(self, cloud: str, type_token: str, resource_id: str) -> None:
        """Remove a resource; one that is not there is no error, as a repeated delete must succeed."""
        with self._connect() as connection:
            connection.execute(
                "DELETE FROM resources WHERE cloud = ? AND type = ? AND id = ?", (cloud, type_token, resource_id)
            )

    def list(self, cloud: str, type_token: str | None = None) -> list[Resource]:
        """Return a cloud's resources in order of creation, of one type or of all."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT cloud, type, id, name, urn, inputs, outputs FROM resources"
                " WHERE cloud = ? AND (? IS NULL OR type = ?) ORDER BY ordinal",
                (cloud, type_token, type_token),
            ).fetchall()
        return [_resource(row) for row in rows]


def _body(resource: Resource) -> tuple[str, str, int]:
    return json.dumps(resource.inputs), json.dumps(resource.outputs), time.time_ns() // 1_000_000


def _resource(row: tuple[str, str, str, str, str, str, str]) -> Resource:
    return Resource(*row[:5], inputs=json.loads(row[5]), outputs=json.loads(row[6]))
