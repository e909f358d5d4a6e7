"""The bridge and user data, where a stack has them: rights, guards, and that no secret is in the program."""

import json
from collections.abc import Iterator

import pytest

from functions import settings as function_settings
from functions.bridge.parcel import ORIGIN
from functions.userdata import schema
from infra.components import user_database
from infra.components.user_database import DATABASE
from infra.errors import ConfigError
from infra.rights import UNSCOPED_ACTIONS
from tests.program.recording import Recorder, Registration, deploy

BOTH = {"userData": True, "bridge": True}


@pytest.fixture(scope="module", params=["local", "prod"])
def recorded(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    yield deploy(request.param, BOTH)


def named(recorder: Recorder, kind: str, end: str) -> Registration:
    (found,) = [each for each in recorder.of(kind) if str(each.inputs["name"]).endswith(end)]
    return found


def test_a_stack_without_them_has_nothing_of_them() -> None:
    without = deploy("local", {"userData": False, "bridge": False})
    kinds = {each.type for each in without.registrations}
    assert not {kind for kind in kinds if "spanner" in kind or "rds" in kind or "bridge" in kind}


def test_everything_has_its_sites_provider_and_every_component_registers_its_outputs(recorded: Recorder) -> None:
    for each in recorded.held():
        assert each.provider, each.name
    for each in recorded.registrations:
        assert each.custom or each.urn in recorded.finished, each.name


def test_the_databases_are_encrypted_protected_and_without_a_password(recorded: Recorder) -> None:
    cluster = recorded.one("aws:rds/cluster:Cluster")
    assert cluster.inputs["storageEncrypted"] is True and cluster.inputs["manageMasterUserPassword"] is True
    assert "masterPassword" not in cluster.inputs
    assert cluster.inputs["enableHttpEndpoint"] is True
    instance = recorded.one("aws:rds/clusterInstance:ClusterInstance")
    assert instance.inputs["publiclyAccessible"] is False
    prod = recorded.stack == "prod"
    for each in (cluster, instance, *recorded.of("gcp:spanner/database:Database")):
        assert (each.protect, each.retain) == (prod, prod), each.name
    assert cluster.inputs["deletionProtection"] is prod
    (group,) = [each for each in recorded.of("aws:ec2/securityGroup:SecurityGroup") if "userdata" in each.name]
    assert "ingress" not in group.inputs


def test_spanner_has_the_declared_tables_and_a_stream_of_new_rows(recorded: Recorder) -> None:
    (database,) = [each for each in recorded.of("gcp:spanner/database:Database") if each.inputs["name"] == DATABASE]
    assert database.inputs["ddls"] == schema.spanner_ddl(schema.REFERENCE_TABLES)
    stream = database.inputs["ddls"][-1]
    assert "NEW_ROW" in stream and "allow_txn_exclusion = true" in stream and "'7d'" in stream
    job = [each for each in recorded.of("gcp:dataflow/flexTemplateJob:FlexTemplateJob") if "userdata" in each.name]
    assert job[0].inputs["containerSpecGcsPath"].endswith("/flex/Spanner_Change_Streams_to_PubSub")
    assert job[0].inputs["parameters"]["spannerChangeStreamName"] == schema.CHANGE_STREAM


def test_rights_name_their_resources(recorded: Recorder) -> None:
    for each in recorded.held():
        if each.type == "aws:iam/rolePolicy:RolePolicy" and ("userdata" in each.name or "bridge" in each.name):
            for statement in json.loads(each.inputs["policy"])["Statement"]:
                assert not any("*" in action for action in statement["Action"])
                assert set(statement["Action"]) <= UNSCOPED_ACTIONS or "*" not in statement["Resource"], each.name
        if each.type == "gcp:spanner/databaseIAMMember:DatabaseIAMMember":
            assert each.inputs["role"] == "roles/spanner.databaseUser"


def test_both_functions_know_both_databases(recorded: Recorder) -> None:
    drain = named(recorded, "aws:lambda/function:Function", "-userdata-drain")
    apply = named(recorded, "gcp:cloudfunctionsv2/function:Function", "-userdata-apply")
    ours = json.loads(drain.inputs["environment"]["variables"][function_settings.USER_DATABASES])
    theirs = json.loads(apply.inputs["serviceConfig"]["environmentVariables"][function_settings.USER_DATABASES])
    assert ours == theirs
    assert ours["aws"]["secret"].endswith("/secret") and ours["gcp"]["database"] == DATABASE
    read = function_settings.read(drain.inputs["environment"]["variables"], [function_settings.USER_DATABASES])
    assert read.aurora is not None and read.spanner is not None


def test_the_drain_is_called_by_the_database_the_clock_and_each_deployment(recorded: Recorder) -> None:
    schedule = named(recorded, "aws:scheduler/schedule:Schedule", "-userdata-drain").inputs
    assert schedule["scheduleExpression"] == "rate(1 minute)"
    assert recorded.one("aws:rds/clusterRoleAssociation:ClusterRoleAssociation").inputs["featureName"] == "Lambda"
    (invocation,) = [each.inputs for each in recorded.of("aws:lambda/invocation:Invocation") if "userdata" in each.name]
    assert json.loads(invocation["input"]) == {"action": "migrate"}
    assert len(invocation["triggers"]["migrations"]) == 16


def test_the_bridge_guards_against_loops_keeps_order_and_has_dead_letters_on_both_sides(recorded: Recorder) -> None:
    subscription = named(recorded, "gcp:pubsub/subscription:Subscription", "-bridge-to-queue").inputs
    assert subscription["filter"] == f'NOT attributes.{ORIGIN} = "aws"'
    assert subscription["enableMessageOrdering"] is True
    assert subscription["deadLetterPolicy"]["maxDeliveryAttempts"] == 100
    for purpose in ("bridge-outgoing", "bridge-incoming"):
        queue = named(recorded, "aws:sqs/queue:Queue", f"-{purpose}").inputs
        assert "deadLetterTargetArn" in queue["redrivePolicy"] and queue["sqsManagedSseEnabled"] is True
    (mapping,) = [
        each.inputs for each in recorded.of("aws:lambda/eventSourceMapping:EventSourceMapping") if "bridge" in each.name
    ]
    assert (mapping["batchSize"], mapping["functionResponseTypes"]) == (10, ["ReportBatchItemFailures"])


def test_their_functions_come_in_by_the_pool(recorded: Recorder) -> None:
    provider = recorded.one("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider").inputs
    for purpose in ("bridge-to-topic", "userdata-drain"):
        assert f"-{purpose}'" in provider["attributeCondition"]


def test_a_refused_type_stops_the_program_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = schema.Table("carts", ("id",), {"id": "uuid", "price": "money", "at": "timestamp"})
    monkeypatch.setattr(user_database, "REFERENCE_TABLES", (*schema.REFERENCE_TABLES, bad))
    with pytest.raises(ConfigError) as refused:
        deploy("local", BOTH)
    assert "carts: column price: money" in str(refused.value) and "carts: column at: timestamp" in str(refused.value)


def test_a_rate_for_model_files_reaches_every_function_that_sends() -> None:
    limited = deploy("local", {"artifactBytesPerSecond": 5_000_000})
    found = [
        each.inputs["environment"]["variables"]
        for each in limited.of("aws:lambda/function:Function")
        if str(each.inputs["name"]).endswith("artifact-encode")
    ]
    found += [
        each.inputs["serviceConfig"]["environmentVariables"]
        for each in limited.of("gcp:cloudfunctionsv2/function:Function")
        if str(each.inputs["name"]).endswith("artifact-encode")
    ]
    assert [each[function_settings.BYTES_PER_SECOND] for each in found] == ["5000000"] * 2
