"""Versions over both local clouds as they are deployed: real events, queues, pushes and functions, one way and back."""

import random
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from safetensors.numpy import save_file

from functions.artifacts import alias
from functions.artifacts.paths import file_key
from functions.settings import Site
from local.ground.client import GroundClient
from tests.local.artifact_ways import MODEL, ArtifactWays
from tests.local.replication_sites import sdk_variables, variables


@pytest.fixture(scope="module")
def ways(ground: GroundClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtifactWays]:
    with variables(sdk_variables(ground)):
        made = ArtifactWays(ground, tmp_path_factory.mktemp("ways"))
        yield made
        made.clear()


def write_model(folder: Path, seed: int, changed: int = 0) -> Path:
    """Write a model of six tensors, of which the first `changed` differ from those of the same seed."""
    folder.mkdir(parents=True)
    tensors = {}
    for number in range(6):
        chance = np.random.default_rng(seed * 100 + number)
        tensor = chance.standard_normal((256, 300), np.float32)
        tensors[f"layer{number}"] = tensor * np.float32(1.01) if number < changed else tensor
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(f'{{"changed": {changed}}}')
    (folder / "vocabulary.bin").write_bytes(random.Random(seed).randbytes(200_000))
    return folder


@pytest.mark.parametrize("site", list(Site))
def test_versions_arrive_proven_with_their_alias_from_either_site(
    ways: ArtifactWays, tmp_path: Path, site: Site
) -> None:
    epoch = 1 if site is Site.AWS else 2
    first = ways.publish(site, write_model(tmp_path / "1", seed=epoch), alias="prod", epoch=epoch)
    ways.await_arrival(first, site.peer)
    second = ways.publish(
        site, write_model(tmp_path / "2", seed=epoch, changed=1), alias="prod", epoch=epoch, parent=first.version
    )
    ways.await_arrival(second, site.peer)
    assert ways.bytes_wire(site.peer, second.version) < 0.25 * ways.bytes_wire(site.peer, first.version)
    ways.until(lambda: not ways.different(), "both sites equal")
    ways.until(lambda: not ways.missing_in_third(second, site), "the third copy")
    head = boto3.client("s3", endpoint_url=ways.ground.endpoints.r2).head_object(
        Bucket=f"{ways.name}-r2", Key=file_key(MODEL, second.version, "model.safetensors")
    )
    assert head["CacheControl"] == "public, max-age=31536000, immutable"
    ways.until(lambda: not ways.leftovers(site.peer), "nothing left over")
    assert not ways.leftovers(site)


def test_a_child_of_what_came_over_goes_back_as_what_it_changed(ways: ArtifactWays, tmp_path: Path) -> None:
    first = ways.publish(Site.AWS, write_model(tmp_path / "1", seed=5), alias="canary", epoch=1)
    ways.await_arrival(first, Site.GCP)
    second = ways.publish(
        Site.GCP, write_model(tmp_path / "2", seed=5, changed=1), alias="canary", epoch=2, parent=first.version
    )
    ways.await_arrival(second, Site.AWS)
    assert ways.bytes_wire(Site.AWS, second.version) < 0.25 * ways.bytes_wire(Site.GCP, first.version)
    for each in Site:
        assert alias.current(ways.clients.objects(each), MODEL, "canary") == second.alias
    ways.until(lambda: not ways.different(), "both sites equal")
