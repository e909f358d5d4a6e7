"""Model files through what the program deploys besides publishing: the inbox's trigger and the audit's clock, on both clouds."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from functions.artifacts import alias, attestation
from functions.artifacts import manifest as manifests
from functions.artifacts.documents import Receipt, find
from functions.artifacts.paths import audit_key, file_key, inbox_prefix, manifest_key, receipt_key
from functions.settings import Site
from functions.stores.clients import Clients
from functions.stores.errors import NotFoundError
from operate import access
from operate.verify import command, parts
from operate.verify.command import now_ms
from operate.verify.parity import StoreParity
from tests.engine.live import Live

MODEL = "dropped"
CONFIG = "config.json"


@pytest.fixture
def clients(live: Live, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """Return clients as an operator has them, of the deployed stack."""
    live.settle(Site.AWS)
    for name, value in (live.client.environment() | {access.AWS_REGION: "us-west-2"}).items():
        monkeypatch.setenv(name, value)
    return access.clients(live.engine.outputs(), live.client.environment())


def drop(live: Live, clients: Clients, site: Site) -> str:
    """Leave files in a site's inbox as any tool could, and return the version that comes of them, proven on the other side."""
    name = f"{MODEL}-{site}"
    store, there = clients.objects(site), clients.objects(site.peer)
    store.put(inbox_prefix(name) + CONFIG, json.dumps({"from": site}).encode())
    store.put(inbox_prefix(name) + "weights.bin", site.encode() * 5_000)
    store.put(inbox_prefix(name) + "_DONE", json.dumps({"alias": "prod"}).encode())

    def arrived() -> tuple[bool, str]:
        found = alias.current(store, name, "prod"), alias.current(there, name, "prod")
        return all(found) and found[0] == found[1], f"aliases {found}"

    live.wait_for(arrived, f"what was left in the inbox of {site} stands on both sides")
    current = alias.current(there, name, "prod")
    assert current is not None
    assert find(there, receipt_key(name, current.version), Receipt)
    for each in (store, there):
        data, _ = each.get(manifest_key(name, current.version), manifests.MOST_MANIFEST_BYTES)
        found = manifests.trusted(data, name, current.version, clients.trust)
        assert (found.origin, [file.path for file in found.files]) == (site, [CONFIG, "weights.bin"])
    live.wait_for(
        lambda: (not (left := [info.key for info in store.list(inbox_prefix(name))]), f"left {left}"),
        f"the inbox of {site} is emptied",
    )
    return current.version


def audit(live: Live, clients: Clients, site: Site) -> list[dict[str, object]]:
    """Run a site's audit as its clock would, and return what the signed receipt names."""
    api = live.client.endpoints.aws_api if site is Site.AWS else live.client.endpoints.gcp_api
    asked = {"id": "lifeboat-local-artifact-audit"}
    answer = httpx.post(f"{api}/schedules/run", json=asked, timeout=120, trust_env=False)
    assert answer.status_code == httpx.codes.OK, answer.text
    assert answer.json()["succeeded"], answer.text
    key = audit_key(site, datetime.now(UTC).strftime("%Y-%m-%d"))
    data, _ = clients.objects(site).get(key, manifests.MOST_MANIFEST_BYTES)
    attested = attestation.read(data, attestation.AUDIT_TYPE, key, manifests.MOST_MANIFEST_BYTES)
    clients.trust.check(attested.sealed, site, key)
    named = attested.predicate["named"]
    assert isinstance(named, list)
    assert attested.predicate["mismatches"] == len(named)
    return named


def verify(clients: Clients, *, repair: bool = False) -> StoreParity:
    """Return what `./lifeboat verify models` finds, whose exit code says whether all is equal."""
    (found,) = parts.run(["models"], parts.Subject(clients, now_ms, True, repair), lambda _: None)
    assert command.equal([found]) is bool(found.equal)
    return found


@pytest.mark.parametrize("site", list(Site))
def test_files_left_in_an_inbox_become_a_version_on_both_sides_and_an_audit_sees_a_changed_bit(
    live: Live, clients: Clients, site: Site
) -> None:
    name, version = f"{MODEL}-{site}", drop(live, clients, site)
    assert [each for each in audit(live, clients, site) if each["model"] == name] == []
    store, key = clients.objects(site), file_key(name, version, CONFIG)
    whole, _ = store.get(key, 1_000)
    store.delete(key)
    store.put(key, bytes([whole[0] ^ 1]) + whole[1:])
    (finding,) = {(each["model"], each["version"]) for each in audit(live, clients, site)}
    assert finding == (name, version)
    assert not verify(clients).equal
    assert verify(clients, repair=True).repaired
    assert store.get(key, 1_000)[0] == whole
    assert verify(clients).equal
    assert audit(live, clients, site) == []
    with pytest.raises(NotFoundError):
        store.head(inbox_prefix(name) + "_DONE")
