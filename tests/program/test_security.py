"""Encryption, privacy, versions and rights, read off what the program registers."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infra.rights import UNSCOPED_ACTIONS
from tests.program.recording import Recorder

BUCKET_GUARDS = (
    "bucketVersioning:BucketVersioning",
    "bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "bucketPublicAccessBlock:BucketPublicAccessBlock",
    "bucketOwnershipControls:BucketOwnershipControls",
    "bucketPolicy:BucketPolicy",
    "bucketLifecycleConfiguration:BucketLifecycleConfiguration",
)
# Given for a whole project, because Google knows no narrower grant: building functions, writing logs and metrics, pulling
# images, and receiving events.
PROJECT_ROLES = {
    "roles/cloudbuild.builds.builder",
    "roles/logging.logWriter",
    "roles/monitoring.metricWriter",
    "roles/artifactregistry.reader",
    "roles/dataflow.worker",
    "roles/eventarc.eventReceiver",
}

# Grants of a bucket that nobody else keeps anything in.
OWN_BUCKETS = {"userdata-job-files"}


# Functions that do nothing on Google.
ON_AWS_ALONE = ("artifacts-r2-disposal",)


def statements(recorder: Recorder) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for each in recorder.held():
        for key in ("policy", "assumeRolePolicy"):
            if key in each.inputs:
                for statement in json.loads(each.inputs[key])["Statement"]:
                    yield each.name, statement


def test_no_right_is_a_wildcard(recorded: Recorder) -> None:
    allowed = [(name, each) for name, each in statements(recorded) if each["Effect"] == "Allow"]
    assert len(allowed) > 15
    for name, each in allowed:
        assert not any("*" in action for action in each["Action"]), f"{name} allows {each['Action']}"
        if set(each["Action"]) - UNSCOPED_ACTIONS:
            assert "*" not in each.get("Resource", []), f"{name} allows {each['Action']} everywhere"
        assert each.get("Principal") != "*", f"{name} lets anybody in"


def test_every_s3_bucket_is_guarded(recorded: Recorder) -> None:
    buckets = {each.inputs["bucket"] for each in recorded.of("aws:s3/bucket:Bucket")}
    assert len(buckets) == 2
    for kind in BUCKET_GUARDS:
        assert {each.inputs["bucket"] for each in recorded.of(f"aws:s3/{kind}")} == buckets, kind
    for each in recorded.of("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"):
        switches = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
        assert all(each.inputs[switch] is True for switch in switches)


def test_every_google_bucket_is_private_and_versioned(recorded: Recorder) -> None:
    buckets = recorded.of("gcp:storage/bucket:Bucket")
    assert len(buckets) == 3
    for each in buckets:
        assert each.inputs["publicAccessPrevention"] == "enforced"
        assert each.inputs["uniformBucketLevelAccess"] is True
        assert each.inputs["versioning"] == {"enabled": True}


def test_queues_and_tables_are_encrypted_and_backed_up(recorded: Recorder) -> None:
    assert all(each.inputs["sqsManagedSseEnabled"] is True for each in recorded.of("aws:sqs/queue:Queue"))
    table = recorded.one("aws:dynamodb/table:Table").inputs
    assert table["serverSideEncryption"] == {"enabled": True}
    assert table["pointInTimeRecovery"] == {"enabled": True}
    assert (table["streamEnabled"], table["streamViewType"]) == (True, "NEW_AND_OLD_IMAGES")
    assert table["ttl"] == {"attributeName": "expires", "enabled": True}


def test_hosts_are_private_encrypted_and_ask_for_tokens(recorded: Recorder) -> None:
    template = recorded.one("aws:ec2/launchTemplate:LaunchTemplate").inputs
    assert template["metadataOptions"]["httpTokens"] == "required"
    assert all(each["ebs"]["encrypted"] == "true" for each in template["blockDeviceMappings"])
    machine = recorded.one("gcp:compute/regionInstanceTemplate:RegionInstanceTemplate").inputs
    assert all("accessConfigs" not in each for each in machine["networkInterfaces"])
    firewall = recorded.one("gcp:compute/firewall:Firewall").inputs
    assert "0.0.0.0/0" not in firewall["sourceRanges"]


def test_google_functions_are_internal_and_run_as_their_own_accounts(recorded: Recorder) -> None:
    functions = recorded.of("gcp:cloudfunctionsv2/function:Function")
    assert len(functions) == 10
    assert all(each.inputs["serviceConfig"]["ingressSettings"] == "ALLOW_INTERNAL_ONLY" for each in functions)
    accounts = {each.inputs["serviceConfig"]["serviceAccountEmail"] for each in functions}
    assert len(accounts) == len(functions)
    assert all("serviceAccount" in each.inputs["buildConfig"] for each in functions)


def test_google_grants_name_their_resource(recorded: Recorder) -> None:
    for each in recorded.held():
        if each.type == "gcp:projects/iAMMember:IAMMember":
            assert each.inputs["role"] in PROJECT_ROLES, each.name
        if "iam" in each.type.lower() and "member" in each.inputs:
            assert each.inputs["member"] not in ("allUsers", "allAuthenticatedUsers"), each.name
            assert not str(each.inputs["role"]).endswith(("admin", "owner", "editor")), each.name
        if each.type == "gcp:storage/bucketIAMMember:BucketIAMMember":
            is_listing = each.inputs["role"] == "roles/storage.legacyBucketReader"
            assert is_listing or each.name in OWN_BUCKETS or "startsWith" in each.inputs["condition"]["expression"], (
                each.name
            )


def test_only_the_functions_roles_come_in_by_the_pool(recorded: Recorder) -> None:
    provider = recorded.one("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider").inputs
    on_google = [each for each in recorded.of("aws:lambda/function:Function") if not each.name.startswith(ON_AWS_ALONE)]
    roles = {each.inputs["role"].rpartition("/")[2] for each in on_google}
    names = {each.inputs["name"] for each in on_google}
    assert len(roles) == len(names) == 11
    # What lies in a site's inbox is that site's own business.
    names = {name for name in names if not name.endswith("-inbox")}
    for name in names:
        assert f"'{name}'" in provider["attributeCondition"]
    assert provider["attributeCondition"].count("'") == 2 * len(names)
    members = {
        each.inputs["member"]
        for each in recorded.held()
        if str(each.inputs.get("member", "")).startswith("principalSet://")
    }
    assert {member.rpartition("/")[2] for member in members} == names


def test_the_role_for_google_pins_subject_and_both_audiences(recorded: Recorder) -> None:
    trusts = [
        each
        for _, each in statements(recorded)
        if "Federated" in (each.get("Principal") or {}) and isinstance(each["Principal"], dict)
    ]
    assert len(trusts) == 9
    pinned = {f"accounts.google.com:{key}" for key in ("aud", "oaud", "sub")}
    assert all(set(trust["Condition"]["StringEquals"]) == pinned for trust in trusts)


def test_real_stacks_speak_tls_to_the_end(prod: Recorder) -> None:
    listener = prod.one("aws:lb/listener:Listener").inputs
    assert (listener["protocol"], listener["port"]) == ("HTTPS", 443)
    assert listener["certificateArn"].startswith("arn:aws:acm:")
    assert prod.one("gcp:compute/targetHttpsProxy:TargetHttpsProxy").inputs["sslCertificates"]
    assert prod.one("gcp:compute/globalForwardingRule:GlobalForwardingRule").inputs["portRange"] == "443"
    assert prod.one("cloudflare:index/loadBalancerMonitor:LoadBalancerMonitor").inputs["type"] == "https"
