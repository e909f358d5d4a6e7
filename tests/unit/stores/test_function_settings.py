"""Settings: read once, typed, every problem told at once; and the pins that ship with the functions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from functions import settings
from functions.errors import SettingsError
from functions.settings import ArtifactQueues, BigtableTable, DynamoDbTable, Site, read
from functions.stores.clients import Clients

ROOT = Path(__file__).parents[3]
BIGTABLE = {"project": "p", "instance": "i", "table": "t", "app_profile": "a"}
GOOD = {
    settings.SITE: "aws",
    settings.ARTIFACT_BUCKETS: json.dumps({"aws": "one", "gcp": "two"}),
    settings.FEATURE_TABLES: json.dumps({"aws": {"table": "t"}, "gcp": BIGTABLE}),
    settings.ARTIFACT_QUEUES: json.dumps(
        {
            "aws": {"jobs": "https://sqs/j", "rebuilds": "https://sqs/r"},
            "gcp": {"jobs": "projects/p/topics/j", "rebuilds": "projects/p/topics/r"},
        }
    ),
    settings.CHUNK_BYTES: str(16 << 20),
    settings.GOOGLE_CREDENTIALS: '{"type": "external_account"}',
}


def test_a_full_environment_is_read() -> None:
    found = read(GOOD)
    assert found.site is Site.AWS
    assert found.site.peer is Site.GCP
    assert found.artifact_buckets == {Site.AWS: "one", Site.GCP: "two"}
    assert found.artifact_queues[Site.AWS] == ArtifactQueues("https://sqs/j", "https://sqs/r")
    assert found.artifact_queues[Site.GCP] == ArtifactQueues("projects/p/topics/j", "projects/p/topics/r")
    assert found.dynamodb_table == DynamoDbTable("t")
    assert found.bigtable_table == BigtableTable("p", "i", "t", "a")
    assert found.bigtable_table.name == "projects/p/instances/i/tables/t"
    assert found.chunk_bytes == 16 << 20
    assert found.google_credentials == {"type": "external_account"}


def test_what_is_not_set_has_a_default() -> None:
    found = read({settings.SITE: "gcp"})
    assert (found.chunk_bytes, found.model, found.alias, found.google_credentials) == (
        64 << 20,
        "recommender",
        "prod",
        None,
    )


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read(
            {
                settings.SITE: "azure",
                settings.ARTIFACT_BUCKETS: '{"azure": "x"}',
                settings.FEATURE_TABLES: '{"gcp": {"project": "p"}}',
                settings.ARTIFACT_QUEUES: '{"aws": {"jobs": "queue", "rebuilds": "https://sqs/r"}}',
                settings.DEAD_TOPIC: "topic",
                settings.CHUNK_BYTES: "1",
                settings.GOOGLE_CREDENTIALS: "{",
            },
            required=[settings.AWS_ROLE],
        )
    text = str(caught.value)
    for name in (
        settings.SITE,
        settings.ARTIFACT_BUCKETS,
        settings.FEATURE_TABLES,
        settings.ARTIFACT_QUEUES,
        settings.DEAD_TOPIC,
        settings.CHUNK_BYTES,
        settings.GOOGLE_CREDENTIALS,
        settings.AWS_ROLE,
    ):
        assert name in text
    assert "allowed: aws, gcp" in text


def test_a_store_that_is_not_named_is_a_clear_error() -> None:
    clients = Clients(read({settings.SITE: "aws"}), {})
    for make in (lambda: clients.objects(Site.GCP), lambda: clients.rows(Site.AWS), lambda: clients.rows(Site.GCP)):
        with pytest.raises(SettingsError, match="LIFEBOAT_"):
            make()


def pins(path: Path) -> set[str]:
    return {line.strip() for line in path.read_text().splitlines() if "==" in line and not line.startswith("#")}


def test_functions_ship_with_the_pins_that_are_tested() -> None:
    shipped = pins(ROOT / "functions" / "requirements.txt")
    assert len(shipped) > 10
    assert shipped <= pins(ROOT / "requirements.txt")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("functions.settings", ("boto3", "grpc", "pydantic", "google.auth", "requests")),
        ("functions.entry_aws", ("boto3", "grpc", "pydantic", "google.auth", "requests", "functions_framework")),
        ("functions.entry_gcp", ("boto3", "botocore", "grpc", "pydantic")),
        ("functions.features.client", ("boto3", "grpc", "pydantic", "google.auth", "requests", "numpy")),
    ],
)
def test_a_cold_start_loads_only_what_its_work_needs(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
