"""Versions signed by the keys of both clouds' key services, in the clouds' own buckets: publish, inbox, audit, rotation."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aws_cloud import AwsCloud
from gcp_toys import ToyCloud
from replication_sites import Sites, make_sites, sdk_variables, variables

from functions import settings
from functions.artifacts import alias, attestation, proof
from functions.artifacts import manifest as manifests
from functions.artifacts.errors import ManifestError, SignatureError
from functions.artifacts.keys import public_keys
from functions.artifacts.paths import audit_key, manifest_key
from functions.artifacts.publish import publish
from functions.artifacts.sign import Trust
from functions.artifacts.steps import audit, inbox
from functions.settings import Settings, Site
from functions.stores.clients import Clients
from functions.stores.errors import AccessDeniedError, NotFoundError, StoreError
from local.ground.client import GroundClient

KEY, ALIAS = "aws:kms/key:Key", "aws:kms/alias:Alias"
KEY_VERSION = "gcp:kms/cryptoKeyVersion:CryptoKeyVersion"
SIGNING = {"keyUsage": "SIGN_VERIFY", "customerMasterKeySpec": "ECC_NIST_P256"}
MODEL = "m"
# Where the tests' own clients look.
REGION = "us-east-1"


def arn(name: str) -> str:
    return f"arn:aws:kms:{REGION}:123456789012:{name}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Signing:
    """Both sites with keys of their own in both key services."""

    sites: Sites
    aws: AwsCloud
    gcp: ToyCloud
    keys: dict[Site, list[str]]
    alias: str

    def add_generation(self) -> None:
        """Make a new key on both clouds, which signs from now on."""
        identity = str(uuid.uuid4())
        self.aws.create(KEY, identity, SIGNING, {"arn": arn(f"key/{identity}"), "region": REGION})
        verb = self.aws.update if self.keys[Site.AWS] else self.aws.create
        verb(
            ALIAS, self.alias, {"name": self.alias, "targetKeyId": identity}, {"arn": arn(self.alias), "region": REGION}
        )
        self.keys[Site.AWS].append(arn(f"key/{identity}"))
        ring = f"projects/{self.gcp.project}/locations/europe-west4/keyRings/r/cryptoKeys/k"
        version = f"{ring}/cryptoKeyVersions/{len(self.keys[Site.GCP]) + 1}"
        self.gcp.create(KEY_VERSION, version, {"cryptoKey": ring})
        self.keys[Site.GCP].append(version)

    def told(self, site: Site) -> tuple[Settings, Clients]:
        """Return what a function of a site is told after a deployment of the keys as they are now."""
        bare = {**self.sites.environment, settings.SITE: site.value}
        public = public_keys(Clients(settings.read(bare), bare), {each.value: keys for each, keys in self.keys.items()})
        found = {
            **bare,
            settings.SIGNING_KEYS: json.dumps(public),
            settings.SIGNING_KEY: json.dumps({Site.AWS: self.alias, Site.GCP: self.keys[Site.GCP][-1]}),
        }
        read = settings.read(found)
        return read, Clients(read, found)

    def publish(self, site: Site, folder: Path, content: str) -> str:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(content))
        _, clients = self.told(site)
        return publish(
            folder, MODEL, clients.objects(site), site=site, authority=clients.authority(site), alias="prod"
        ).version


@pytest.fixture
def signing(ground: GroundClient, tmp_path: Path) -> Iterator[Signing]:
    with variables(sdk_variables(ground)):
        aws, gcp = AwsCloud(ground, tmp_path), ToyCloud(ground, tmp_path)
        made = Signing(make_sites(ground), aws, gcp, {site: [] for site in Site}, f"alias/test-{uuid.uuid4().hex[:8]}")
        made.add_generation()
        yield made
        aws.clean()
        gcp.clear()


@pytest.mark.parametrize("site", list(Site))
def test_what_a_cloud_signs_anybody_checks_and_a_new_key_leaves_the_old_versions_good(
    signing: Signing, tmp_path: Path, site: Site
) -> None:
    old = signing.publish(site, tmp_path / "model", "one")
    _, before = signing.told(site)
    signing.add_generation()
    new = signing.publish(site, tmp_path / "model", "two")
    _, clients = signing.told(site)
    store = clients.objects(site)
    assert len({name for name, (owner, _) in clients.trust.keys.items() if owner is site}) == 2
    signers = []
    for version in (old, new):
        data, _ = store.get(manifest_key(MODEL, version), manifests.MOST_MANIFEST_BYTES)
        manifests.trusted(data, MODEL, version, clients.trust)
        found = attestation.read(data, attestation.VERSION_TYPE, "it", len(data))
        signers.append(clients.trust.check(found.sealed, site, "it"))
        with pytest.raises(SignatureError):
            manifests.trusted(data, MODEL, version, Trust.of({}))
    # Who was deployed before the new key was there does not know it.
    with pytest.raises(SignatureError, match="deploy the stack"):
        manifests.trusted(data, MODEL, new, before.trust)
    assert signers[0] != signers[1]
    assert proof.history(site, store, MODEL, clients.trust) == []


@pytest.mark.parametrize("site", list(Site))
def test_files_left_in_a_bucket_become_a_version_and_the_audit_signs_what_it_found(
    signing: Signing, site: Site
) -> None:
    found, clients = signing.told(site)
    store = clients.objects(site)
    for path, data in (("config.json", b"{}"), ("deep/er/vocab é.txt", b"a\nb"), ("empty", b"")):
        store.put(f"inbox/{MODEL}/{path}", data)
    store.put(f"inbox/{MODEL}/_DONE", json.dumps({"alias": "prod"}).encode())
    recorded = inbox(found, clients, now_ms).run(f"inbox/{MODEL}/_DONE")
    assert recorded is not None and recorded.verdict.passed
    assert [file.path for file in recorded.manifest.files] == ["config.json", "deep/er/vocab é.txt", "empty"]
    assert not list(store.list("inbox/"))
    moved = alias.current(store, MODEL, "prod")
    assert moved is not None and moved.version == recorded.manifest.version
    assert audit(found, clients, now_ms, lambda: False).mismatches == 0
    store.put(f"models/{MODEL}/{recorded.manifest.version}/config.json", b"[]")
    assert audit(found, clients, now_ms, lambda: False).mismatches > 0
    day = time.strftime("%Y-%m-%d", time.gmtime())
    data, _ = store.get(audit_key(site, day), 1 << 20)
    said = attestation.read(data, attestation.AUDIT_TYPE, "it", len(data))
    clients.trust.check(said.sealed, site, "it")
    assert any(each["path"] == "config.json" for each in said.predicate["named"])


def test_a_key_that_is_not_there_is_said_and_nothing_is_shown(signing: Signing, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for site in Site:
        found, clients = signing.told(site)
        missing = signing.keys[site][0] + "9"
        with pytest.raises((NotFoundError, AccessDeniedError, StoreError)):
            public_keys(clients, {site.value: [missing] for site in Site})
        assert found.signing_keys.keys() == set(Site)
        assert not list(clients.objects(site).list("manifests/"))
    with pytest.raises(ManifestError, match="names no keys for gcp"):
        public_keys(signing.told(Site.AWS)[1], {"aws": signing.keys[Site.AWS]})
