"""Options of every resource: provider, parent, protection, tokens, outputs of components."""

import re
from collections import Counter

import pytest

from tests.program.recording import Recorder, deploy

HOLDS_DATA = {
    "aws:s3/bucket:Bucket",
    "aws:dynamodb/table:Table",
    "aws:rds/cluster:Cluster",
    "aws:rds/clusterInstance:ClusterInstance",
    "gcp:storage/bucket:Bucket",
    "gcp:bigtable/instance:Instance",
    "gcp:bigtable/table:Table",
    "gcp:spanner/instance:Instance",
    "gcp:spanner/database:Database",
    "cloudflare:index/r2Bucket:R2Bucket",
    "aws:kms/key:Key",
    "gcp:kms/cryptoKey:CryptoKey",
    "gcp:kms/cryptoKeyVersion:CryptoKeyVersion",
}
# It holds copies of this repository's files and nothing else.
REBUILT = {"function-source-bucket"}
COMPONENT = re.compile(r"^lifeboat:[a-z]+:[A-Z][A-Za-z]+$")


def test_every_resource_has_the_provider_of_its_cloud(recorded: Recorder) -> None:
    makers = {"aws": "::site-aws::", "gcp": "::site-gcp::", "cloudflare": "::edge::"}
    held = list(recorded.held())
    assert len(held) > 100
    for each in held:
        package = each.type.partition(":")[0]
        assert makers[package] in each.provider, f"{each.name} is on {each.provider!r}"


def test_there_is_one_provider_a_cloud(recorded: Recorder) -> None:
    made = [each.type for each in recorded.registrations if each.type.startswith("pulumi:providers:")]
    assert Counter(made) == {f"pulumi:providers:{cloud}": 1 for cloud in ("aws", "gcp", "cloudflare")}


def test_no_provider_is_given_credentials_or_asks_its_cloud(recorded: Recorder) -> None:
    aws = recorded.one("pulumi:providers:aws").inputs
    for skip in ("CredentialsValidation", "RequestingAccountId", "MetadataApiCheck", "RegionValidation"):
        assert aws[f"skip{skip}"] in (True, "true")
    for each in recorded.registrations:
        if each.type.startswith("pulumi:providers:"):
            assert not {"accessKey", "secretKey", "token", "credentials", "accessToken", "apiToken"} & set(each.inputs)


def test_every_resource_is_a_child_of_a_component(recorded: Recorder) -> None:
    for each in recorded.held():
        assert "lifeboat:" in each.parent, f"{each.name} hangs on {each.parent!r}"


def test_components_have_our_tokens_and_register_outputs(recorded: Recorder) -> None:
    components = [each for each in recorded.registrations if not each.custom]
    assert len(components) > 20
    for each in components:
        assert COMPONENT.match(each.type), each.type
        assert each.urn in recorded.finished, f"{each.name} never registered its outputs"


def test_no_two_resources_share_a_name(recorded: Recorder) -> None:
    names = Counter((each.type, each.name) for each in recorded.registrations)
    assert [name for name, count in names.items() if count > 1] == []


def test_what_holds_data_is_protected_where_the_stack_says_so(prod: Recorder, local: Recorder) -> None:
    kept = [each for each in prod.held() if each.type in HOLDS_DATA and each.name not in REBUILT]
    assert {each.type for each in kept} == HOLDS_DATA
    for each in kept:
        assert each.protect and each.retain, f"{each.name} is not protected"
    assert [each.name for each in prod.held() if each.protect and each.type not in HOLDS_DATA] == []
    assert [each.name for each in local.held() if each.protect or each.retain] == []


def test_cloudflare_resources_name_their_package_version(recorded: Recorder) -> None:
    for each in recorded.held():
        if each.type.startswith("cloudflare:"):
            assert re.fullmatch(r"\d+\.\d+\.\d+", each.version)


def test_a_second_run_registers_the_same(recorded: Recorder) -> None:
    again = deploy(recorded.stack)
    first = {each.urn: (each.inputs, each.dependencies) for each in recorded.registrations}
    second = {each.urn: (each.inputs, each.dependencies) for each in again.registrations}
    assert first.keys() == second.keys()
    for urn, (inputs, _) in first.items():
        assert inputs == second[urn][0], urn


@pytest.mark.parametrize("stack", ["local", "prod"])
def test_no_address_of_this_machine_reaches_a_resource(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "STORAGE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST", "LIFEBOAT_PROBE_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:45678")
    for each in deploy(stack).registrations:
        assert "127.0.0.1" not in str(each.inputs), each.name


def test_what_is_in_a_component_waits_for_what_the_component_waits_for(recorded: Recorder) -> None:
    """A grant to a role of the pool is refused while there is no pool, and R2 keeps a bucket that is written to."""
    by_role = [each for each in recorded.held() if str(each.inputs.get("member", "")).startswith("principalSet://")]
    assert len(by_role) > 5
    for each in by_role:
        assert any(urn.endswith("::identity-pool") for urn in each.dependencies), each.name
    before = "artifacts-r2-disposal-at-the-end" if recorded.stack == "local" else "artifacts-r2-bucket"
    (writer,) = [each for each in recorded.registrations if each.name == "artifacts-sweep-function"]
    assert any(urn.endswith(f"::{before}") for urn in writer.dependencies)
