"""Settings of the event paths that are not optional."""

import base64
import json

from functions import settings as function_settings
from functions.artifacts import paths
from infra import naming
from tests.program.recording import Recorder, stack_settings


def test_the_stream_mapping_never_blocks_and_never_forgets(recorded: Recorder) -> None:
    (stream,) = [
        each.inputs
        for each in recorded.of("aws:lambda/eventSourceMapping:EventSourceMapping")
        if "startingPosition" in each.inputs
    ]
    assert stream["startingPosition"] == "TRIM_HORIZON"
    assert stream["bisectBatchOnFunctionError"] is True
    assert stream["functionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 0 < stream["maximumRetryAttempts"] < 10_000
    assert 0 < stream["maximumRecordAgeInSeconds"] < 86_400
    assert "s3" in stream["destinationConfig"]["onFailure"]["destinationArn"]


def test_queue_mappings_report_single_failures(recorded: Recorder) -> None:
    queues = [
        each.inputs
        for each in recorded.of("aws:lambda/eventSourceMapping:EventSourceMapping")
        if "startingPosition" not in each.inputs
    ]
    assert len(queues) == 2
    assert all(each["functionResponseTypes"] == ["ReportBatchItemFailures"] for each in queues)


def test_a_message_stays_hidden_for_six_time_limits_of_its_function(prod: Recorder) -> None:
    limits = {each.inputs["name"]: each.inputs["timeout"] for each in prod.of("aws:lambda/function:Function")}
    queues = {each.inputs["name"]: each.inputs for each in prod.of("aws:sqs/queue:Queue")}
    for queue, function in (("artifact-events", "artifact-plan"), ("artifact-jobs", "artifact-encode")):
        hidden = queues[f"lifeboat-prod-{queue}"]["visibilityTimeoutSeconds"]
        assert hidden >= 6 * limits[f"lifeboat-prod-{function}"]


def test_a_function_never_outlasts_its_message(local: Recorder) -> None:
    longest = max(
        each.inputs["timeout"] for each in local.of("aws:lambda/function:Function") if "artifact" in each.inputs["name"]
    )
    for each in local.of("aws:sqs/queue:Queue"):
        hidden = each.inputs.get("visibilityTimeoutSeconds")
        assert hidden is None or hidden >= longest


def test_every_queue_and_subscription_has_dead_letters(recorded: Recorder) -> None:
    live = [each for each in recorded.of("aws:sqs/queue:Queue") if not each.inputs["name"].endswith("-dead")]
    assert len(live) == 2
    assert all(json.loads(each.inputs["redrivePolicy"])["maxReceiveCount"] > 0 for each in live)
    subscription = recorded.one("gcp:pubsub/subscription:Subscription").inputs
    assert subscription["deadLetterPolicy"]["maxDeliveryAttempts"] >= 5
    assert subscription["pushConfig"]["oidcToken"]["audience"] == subscription["pushConfig"]["pushEndpoint"]
    assert subscription["messageRetentionDuration"] == "604800s"


def test_the_event_function_is_retried(recorded: Recorder) -> None:
    triggers = [
        each.inputs["eventTrigger"]
        for each in recorded.of("gcp:cloudfunctionsv2/function:Function")
        if "eventTrigger" in each.inputs
    ]
    assert [each["retryPolicy"] for each in triggers] == ["RETRY_POLICY_RETRY"]


def test_events_leave_the_stores_for_manifests_and_aliases_only(recorded: Recorder) -> None:
    s3 = recorded.one("aws:s3/bucketNotification:BucketNotification").inputs["queues"]
    assert {each["filterPrefix"] for each in s3} == {"manifests/", "aliases/"}
    assert recorded.one("gcp:storage/notification:Notification").inputs["objectNamePrefix"] == "manifests/"


def test_the_feature_table_of_google_keeps_one_version_and_a_week_of_changes(recorded: Recorder) -> None:
    table = recorded.one("gcp:bigtable/table:Table").inputs
    assert table["columnFamilies"] == [{"family": function_settings.FEATURE_FAMILY}]
    assert table["changeStreamRetention"] == "168h0m0s"
    rules = json.loads(recorded.one("gcp:bigtable/gCPolicy:GCPolicy").inputs["gcRules"])
    assert rules == {"rules": [{"max_version": 1}]}
    routing = recorded.one("gcp:bigtable/appProfile:AppProfile").inputs["singleClusterRouting"]
    assert routing["allowTransactionalWrites"] is True


def test_functions_can_read_the_environment_they_are_given(recorded: Recorder) -> None:
    for each in recorded.of("aws:lambda/function:Function"):
        found = function_settings.read(each.inputs["environment"]["variables"])
        assert found.site is function_settings.Site.AWS
        assert found.dynamodb_table is not None and found.bigtable_table is not None
        assert found.google_credentials is not None
    for each in recorded.of("gcp:cloudfunctionsv2/function:Function"):
        found = function_settings.read(each.inputs["serviceConfig"]["environmentVariables"])
        assert found.site is function_settings.Site.GCP
        assert found.dead_topic and found.rebuild_topic


def test_hosts_of_both_sites_are_told_the_same_but_their_site(recorded: Recorder) -> None:
    aws = base64.b64decode(recorded.one("aws:ec2/launchTemplate:LaunchTemplate").inputs["userData"]).decode()
    gcp = recorded.one("gcp:compute/regionInstanceTemplate:RegionInstanceTemplate").inputs["metadata"]["user-data"]
    environments = []
    for text in (aws, gcp):
        assert text.startswith("#cloud-config\n")
        (content,) = [
            each["content"]
            for each in json.loads(text.removeprefix("#cloud-config\n"))["write_files"]
            if each["path"] == "/etc/lifeboat/service.env"
        ]
        environments.append(dict(line.split("=", 1) for line in content.splitlines()))
    assert environments[0].pop("LIFEBOAT_SITE") == "aws"
    assert environments[1].pop("LIFEBOAT_SITE") == "gcp"
    # The one thing that only AWS's SDK has to be told.
    assert environments[0].pop("AWS_DEFAULT_REGION") == recorded.one("pulumi:providers:aws").inputs["region"]
    assert environments[0] == environments[1]
    assert function_settings.read({**environments[0], "LIFEBOAT_SITE": "aws"}).model == "recommender"


def test_the_program_and_the_functions_mean_the_same_keys() -> None:
    version, model = "0" * 64, "recommender"
    keys = {
        naming.MANIFESTS: paths.manifest_key(model, version),
        naming.PENDING: paths.pending_key(model, version),
        naming.ALIASES: paths.alias_key(model, "prod"),
        naming.RECEIPTS: paths.receipt_key(model, version),
        naming.TRANSFERS: paths.transfer_key(model, version),
        naming.PACKS: paths.pack_key(version),
        naming.PARTS: paths.part_key(version, 1, 0, 0),
        naming.MODELS: paths.file_key(model, version, "config.json"),
    }
    for prefix, key in keys.items():
        assert key.startswith(prefix)


def test_names_of_a_stack_fit_the_clouds_limits() -> None:
    names = naming.Names.of(stack_settings("local", {"prefix": "a" * 20}))
    assert all(6 <= len(names.service_account(each)) <= 30 for each in ("rebuild", "verify", "builder", "service"))
    assert 6 <= len(names.bigtable_instance) <= 33 and 6 <= len(names.bigtable_cluster) <= 30
    assert len(names.named("service")) <= 32, "the longest name of a load balancer"


def test_the_verifier_may_read_all_that_it_looks_at(recorded: Recorder) -> None:
    (reads,) = [
        each.inputs["condition"]["expression"]
        for each in recorded.of("gcp:storage/bucketIAMMember:BucketIAMMember")
        if each.name.endswith("verify-reads")
    ]
    # Each of these is read on the way to a receipt, and without a receipt no alias moves.
    for prefix in (naming.MODELS, naming.MANIFESTS, naming.TRANSFERS):
        assert f"/objects/{prefix}" in reads
