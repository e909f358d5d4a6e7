"""A service host takes no version that its site did not sign, and no file that is not the signed one."""

import json
from pathlib import Path

import pytest
from artifact_way import Way, clock_ms
from memory_objects import MemoryObjects
from signing import MemorySigner, pems, signers, trust

from functions.artifacts.paths import file_key, manifest_key
from functions.artifacts.publish import publish
from functions.artifacts.sign import Authority, Trust
from functions.errors import SettingsError
from functions.settings import ARTIFACT_BUCKETS, FEATURE_TABLES, SIGNING_KEYS, SITE, Site
from service.errors import ModelUntrustedError
from service.server import from_environment
from service.source import BucketSource

FILES = {"config.json": b"{}", "weights.bin": bytes(range(256)) * 40}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def way() -> Way:
    return Way()


def source(store: MemoryObjects, trusted: Trust | None = None) -> BucketSource:
    return BucketSource(store, "m", "prod", trusted or trust())


def test_a_signed_version_is_read_on_either_side(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    way.travel(version)
    assert source(way.here).fetch(version) == source(way.there).fetch(version) == FILES


def test_a_manifest_signed_by_a_stranger_is_refused_before_a_file_is_read(way: Way, folder: Path) -> None:
    stranger = MemorySigner()
    known_to_itself = Authority(stranger, Trust.of({Site.AWS: [stranger.public_key_pem]}))
    version = publish(folder, "m", way.here, site=Site.AWS, authority=known_to_itself, clock_ms=clock_ms).version
    for path in FILES:
        way.here.objects.pop(file_key("m", version, path))
    with pytest.raises(ModelUntrustedError, match=f"model m version {version}: check of the manifest's signature") as e:
        source(way.here).fetch(version)
    assert "is not signed by site aws" in str(e.value)


def test_the_other_sites_key_does_not_sign_for_this_one(way: Way, folder: Path) -> None:
    swapped = Trust.of({Site.AWS: pems()[Site.GCP], Site.GCP: pems()[Site.AWS]})
    version = way.publish(folder).version
    with pytest.raises(ModelUntrustedError, match="signature"):
        source(way.here, swapped).fetch(version)


def test_a_torn_manifest_is_refused(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    way.here.put(manifest_key("m", version), way.here.get(manifest_key("m", version), 1 << 20)[0][:-9])
    with pytest.raises(ModelUntrustedError, match=f"model m version {version}"):
        source(way.here).fetch(version)


def test_a_tampered_file_is_refused_with_its_name(way: Way, folder: Path) -> None:
    version = way.publish(folder).version
    key = file_key("m", version, "weights.bin")
    whole = FILES["weights.bin"]
    way.here.put(key, bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(ModelUntrustedError, match=f"model m version {version} file 'weights.bin': check of SHA-256"):
        source(way.here).fetch(version)
    way.here.put(key, whole)
    assert source(way.here).fetch(version) == FILES


def test_after_a_rotation_both_keys_are_good_and_a_host_that_knows_one_refuses_the_other(
    way: Way, folder: Path
) -> None:
    older, newer = signers()[Site.AWS], MemorySigner()
    both = Trust.of({Site.AWS: [older.public_key_pem, newer.public_key_pem], Site.GCP: pems()[Site.GCP]})
    first = way.publish(folder).version
    (folder / "config.json").write_text('{"second": true}')
    authority = Authority(newer, both)
    second = publish(folder, "m", way.here, site=Site.AWS, authority=authority, clock_ms=clock_ms).version
    assert set(source(way.here, both).fetch(first)) == set(source(way.here, both).fetch(second)) == set(FILES)
    with pytest.raises(ModelUntrustedError, match="deploy the stack"):
        source(way.here).fetch(second)


def test_a_host_without_public_keys_does_not_start() -> None:
    told = {
        SITE: "aws",
        ARTIFACT_BUCKETS: json.dumps({"aws": "a", "gcp": "b"}),
        FEATURE_TABLES: json.dumps({"aws": "features"}),
    }
    with pytest.raises(SettingsError, match=SIGNING_KEYS):
        from_environment(told)
