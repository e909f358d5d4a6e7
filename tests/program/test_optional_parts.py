"""The bridge, user data and Redis, where a stack has them: rights, guards, and that no secret is in the program."""

import importlib
import json
from collections.abc import Iterator

import pytest

from functions import settings as function_settings
from functions.bridge.parcel import ORIGIN
from functions.features.feast.layout import parse_views
from functions.userdata import schema
from infra.archives import GOOGLE_MAIN
from infra.components import user_database
from infra.components.user_database import DATABASE
from infra.errors import ConfigError
from infra.rights import UNSCOPED_ACTIONS
from tests.program.recording import Recorder, Registration, deploy

STREAM = "arn:aws:dynamodb:us-west-2:123456789012:table/{}/stream/2026-01-01T00:00:00.000"
FEAST = {
    f"shop.{view}": {
        "streamArn": STREAM.format(f"shop.{view}"),
        "project": "shop",
        "view": view,
        "entities": ["user_id"],
        "features": ["clicks"],
    }
    for view in ("user_stats", "user_profile")
}
BOTH = {"userData": True, "bridge": True, "redisSource": True, "feastTables": FEAST}


@pytest.fixture(scope="module", params=["local", "prod"])
def recorded(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    yield deploy(request.param, BOTH)


def named(recorder: Recorder, kind: str, end: str) -> Registration:
    (found,) = [each for each in recorder.of(kind) if str(each.inputs["name"]).endswith(end)]
    return found


def test_a_stack_without_them_has_nothing_of_them() -> None:
    without = deploy("local", {**dict.fromkeys(BOTH, False), "feastTables": {}})
    kinds = {each.type for each in without.registrations}
    parts = ("spanner", "rds", "bridge", "redis", "elasticache", "memorystore", "Feast")
    assert not {kind for kind in kinds if any(part in kind for part in parts)}


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


def test_every_function_has_its_entry_point(recorded: Recorder) -> None:
    for each in recorded.of("aws:lambda/function:Function"):
        module, _, name = str(each.inputs["handler"]).rpartition(".")
        assert callable(getattr(importlib.import_module(module), name)), each.name
    for each in recorded.of("gcp:cloudfunctionsv2/function:Function"):
        assert f'"{each.inputs["buildConfig"]["entryPoint"]}",' in GOOGLE_MAIN, each.name


def test_their_functions_come_in_by_the_pool(recorded: Recorder) -> None:
    provider = recorded.one("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider").inputs
    for purpose in ("bridge-to-topic", "userdata-drain", "feast-apply"):
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


def test_redis_is_encrypted_signed_in_to_by_role_and_evicts_nothing(recorded: Recorder) -> None:
    prod = recorded.stack == "prod"
    cache = recorded.one("aws:elasticache/replicationGroup:ReplicationGroup")
    instance = recorded.one("gcp:memorystore/instance:Instance")
    assert cache.inputs["transitEncryptionEnabled"] and cache.inputs["atRestEncryptionEnabled"]
    assert "authToken" not in cache.inputs and cache.inputs["multiAzEnabled"]
    user = recorded.one("aws:elasticache/user:User").inputs
    assert user["authenticationMode"] == {"type": "iam"} and user["userId"] == user["userName"]
    assert "passwords" not in user and "-@dangerous" in user["accessString"]
    (policy,) = recorded.one("aws:elasticache/parameterGroup:ParameterGroup").inputs["parameters"]
    assert policy == {"name": "maxmemory-policy", "value": "noeviction"}
    assert instance.inputs["engineConfigs"] == {"maxmemory-policy": "noeviction"}
    assert instance.inputs["authorizationMode"] == "IAM_AUTH"
    assert instance.inputs["transitEncryptionMode"] == "SERVER_AUTHENTICATION"
    assert instance.inputs["persistenceConfig"]["aofConfig"] == {"appendFsync": "ALWAYS"}
    for each in (cache, instance):
        assert (each.protect, each.retain) == (prod, prod), each.name


def test_what_carries_changes_of_redis_reaches_redis_and_its_table_and_nothing_else(recorded: Recorder) -> None:
    function = named(recorded, "aws:lambda/function:Function", "-redis-forward").inputs
    assert len(function["vpcConfig"]["subnetIds"]) >= 2
    (callers,) = [
        each for each in recorded.of("aws:ec2/securityGroup:SecurityGroup") if each.name == "redis-aws-callers"
    ]
    assert [
        (rule["fromPort"], rule.get("prefixListIds"), bool(rule.get("cidrBlocks"))) for rule in callers.inputs["egress"]
    ] == [(6379, None, True), (443, ["pl-network-aws-dynamodb"], False)]
    assert "ingress" not in callers.inputs
    (rights,) = [
        each for each in recorded.of("aws:iam/rolePolicy:RolePolicy") if each.name == "redis-source-aws-rights"
    ]
    statements = json.loads(rights.inputs["policy"])["Statement"]
    connects = [each for each in statements if each["Action"] == ["elasticache:Connect"]]
    assert len(connects) == 1 and len(connects[0]["Resource"]) == 2 and "*" not in connects[0]["Resource"]
    assert not any("sts" in action or "sqs" in action for each in statements for action in each["Action"])
    far = named(recorded, "gcp:cloudfunctionsv2/function:Function", "-redis-forward").inputs["serviceConfig"]
    assert far["directVpcEgress"] == "VPC_EGRESS_PRIVATE_RANGES_ONLY" and len(far["directVpcNetworkInterfaces"]) == 1
    grants = [
        each.inputs
        for each in recorded.of("gcp:projects/iAMMember:IAMMember")
        if each.inputs["role"] == "roles/memorystore.dbConnectionUser"
    ]
    assert len(grants) == 2
    assert all(each["condition"]["expression"].endswith("/instances/" + _redis_name(recorded) + '"') for each in grants)


def _redis_name(recorder: Recorder) -> str:
    return str(recorder.one("gcp:memorystore/instance:Instance").inputs["instanceId"])


def test_both_sites_forward_every_minute_for_longer_than_one(recorded: Recorder) -> None:
    ours = named(recorded, "aws:lambda/function:Function", "-redis-forward").inputs
    theirs = named(recorded, "gcp:cloudfunctionsv2/function:Function", "-redis-forward").inputs["serviceConfig"]
    schedule = named(recorded, "aws:scheduler/schedule:Schedule", "-redis-forward").inputs
    job = named(recorded, "gcp:cloudscheduler/job:Job", "-redis-forward").inputs
    assert (schedule["scheduleExpression"], job["schedule"]) == ("rate(1 minute)", "* * * * *")
    for environment, limit in (
        (ours["environment"]["variables"], ours["timeout"]),
        (theirs["environmentVariables"], theirs["timeoutSeconds"]),
    ):
        read = function_settings.read(environment, [function_settings.REDIS, function_settings.FORWARD_SECONDS])
        assert read.redis is not None and read.redis.port == 6379 and read.redis.host
        # What is at hand when the time is up is still finished.
        assert read.forward_seconds < limit
        assert recorded.stack == "local" or read.forward_seconds > 60
    assert recorded.outputs["redisSource"]["aws"]["host"] == "redis.cache.amazonaws.com"


def test_a_host_may_call_redis_only_where_there_is_one(recorded: Recorder) -> None:
    def ports(recorder: Recorder) -> list[int]:
        (group,) = [
            each for each in recorder.of("aws:ec2/securityGroup:SecurityGroup") if each.name == "network-aws-hosts"
        ]
        return [rule["fromPort"] for rule in group.inputs["egress"]]

    assert ports(recorded) == [443, 6379]
    assert ports(deploy("local")) == [443]


def test_feasts_tables_are_followed_and_have_one_table_over_there(recorded: Recorder) -> None:
    function = named(recorded, "aws:lambda/function:Function", "-feast-apply").inputs
    read = function_settings.read(function["environment"]["variables"], [function_settings.FEAST_VIEWS])
    assert {name: view.bigtable_table for name, view in parse_views(read.feast_views).items()} == {
        "shop.user_stats": "shop.user_id",
        "shop.user_profile": "shop.user_id",
    }
    mappings = [
        each.inputs["eventSourceArn"]
        for each in recorded.of("aws:lambda/eventSourceMapping:EventSourceMapping")
        if each.name.startswith("feast-")
    ]
    assert sorted(mappings) == sorted(STREAM.format(name) for name in FEAST)
    (table,) = [each for each in recorded.of("gcp:bigtable/table:Table") if each.inputs["name"] == "shop.user_id"]
    assert table.inputs["columnFamilies"] == [{"family": "features"}]
    assert (table.protect, table.retain) == (recorded.stack == "prod",) * 2
    (writer,) = [
        each.inputs
        for each in recorded.of("gcp:bigtable/tableIamMember:TableIamMember")
        if each.inputs["table"] == "shop.user_id"
    ]
    assert writer["member"].endswith("-feast-apply")
    (rights,) = [each for each in recorded.of("aws:iam/rolePolicy:RolePolicy") if each.name == "feast-apply-rights"]
    tables = [
        each["Resource"]
        for each in json.loads(rights.inputs["policy"])["Statement"]
        if any(action.startswith("dynamodb:") for action in each["Action"])
    ]
    assert tables == [[STREAM.format(name).partition("/stream/")[0] for name in FEAST]]


def test_a_stream_of_another_table_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"feastTables shop\.other: streamArn is of table shop\.user_stats"):
        deploy("local", {"feastTables": {"shop.other": FEAST["shop.user_stats"]}})
    with pytest.raises(ConfigError, match="streamArn"):
        deploy("local", {"feastTables": {"t": {**FEAST["shop.user_stats"], "streamArn": "arn:aws:dynamodb"}}})
