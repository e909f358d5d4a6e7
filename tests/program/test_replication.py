"""Settings of the event paths that are not optional."""

import base64
import json
import re

from functions import entry_aws
from functions import settings as function_settings
from functions.artifacts import paths
from functions.features.reconcile.rule import BIGTABLE_KEEPS_MS, DYNAMODB_KEEPS_MS
from functions.features.reconcile.survey import PREFIX, RUNS
from functions.settings import Site
from infra import archives, naming
from infra.components.artifact_replication import AUDIT_SECONDS
from tests.program.recording import PUBLIC_KEY, Recorder, deploy, stack_settings


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
    assert len(queues) == 5
    assert all(each["functionResponseTypes"] == ["ReportBatchItemFailures"] for each in queues)


def test_a_message_stays_hidden_for_six_time_limits_of_its_function(prod: Recorder) -> None:
    limits = {each.inputs["name"]: each.inputs["timeout"] for each in prod.of("aws:lambda/function:Function")}
    queues = {each.inputs["name"]: each.inputs for each in prod.of("aws:sqs/queue:Queue")}
    pairs = (("events", "plan"), ("jobs", "encode"), ("rebuild", "rebuild"), ("inbox", "inbox"))
    for queue, function in ((f"artifact-{queue}", f"artifact-{function}") for queue, function in pairs):
        hidden = queues[f"lifeboat-prod-{queue}"]["visibilityTimeoutSeconds"]
        assert hidden >= 6 * limits[f"lifeboat-prod-{function}"]


def test_a_function_never_outlasts_its_message(local: Recorder) -> None:
    called_by_clocks = ("artifact-sweep", "artifact-audit")
    longest = max(
        each.inputs["timeout"]
        for each in local.of("aws:lambda/function:Function")
        if "artifact" in each.inputs["name"] and not each.inputs["name"].endswith(called_by_clocks)
    )
    for each in local.of("aws:sqs/queue:Queue"):
        hidden = each.inputs.get("visibilityTimeoutSeconds")
        assert hidden is None or hidden >= longest


def test_every_queue_and_subscription_has_dead_letters(recorded: Recorder) -> None:
    live = [each for each in recorded.of("aws:sqs/queue:Queue") if not each.inputs["name"].endswith("-dead")]
    assert len(live) == 6
    assert all(json.loads(each.inputs["redrivePolicy"])["maxReceiveCount"] > 0 for each in live)
    subscriptions = [each.inputs for each in recorded.of("gcp:pubsub/subscription:Subscription")]
    assert len(subscriptions) == 7
    for subscription in subscriptions:
        assert subscription["deadLetterPolicy"]["maxDeliveryAttempts"] >= 5
        assert subscription["pushConfig"]["oidcToken"]["audience"] == subscription["pushConfig"]["pushEndpoint"]
        assert subscription["messageRetentionDuration"] == "604800s"


def test_changes_of_features_leave_google_stripped_and_through_one_cluster(recorded: Recorder) -> None:
    (job,) = [
        each.inputs
        for each in recorded.of("gcp:dataflow/flexTemplateJob:FlexTemplateJob")
        if each.inputs["containerSpecGcsPath"].endswith("/latest/flex/Bigtable_Change_Streams_to_PubSub")
    ]
    parameters = job["parameters"]
    # With values the template drops deletions, and base64 columns break on them.
    assert parameters["stripValues"] == "true"
    assert "useBase64ColumnQualifiers" not in parameters
    profile = recorded.one("gcp:bigtable/appProfile:AppProfile").inputs
    assert parameters["bigtableChangeStreamAppProfile"] == profile["appProfileId"]
    assert parameters["dlqDirectory"].startswith("gs://")
    assert job["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert job["numWorkers"] <= job["maxWorkers"]


def test_the_function_of_changes_takes_many_requests_and_one_role_on_aws(recorded: Recorder) -> None:
    (function,) = [
        each.inputs
        for each in recorded.of("gcp:cloudfunctionsv2/function:Function")
        if each.inputs["buildConfig"]["entryPoint"] == "features_apply"
    ]
    service = function["serviceConfig"]
    assert service["maxInstanceRequestConcurrency"] > 1
    assert int(service["availableCpu"]) >= 1
    role = function_settings.read(service["environmentVariables"]).aws_role
    assert role.rpartition("/")[2] in {each.inputs["name"] for each in recorded.of("aws:iam/role:Role")}
    assert service["environmentVariables"]["AWS_DEFAULT_REGION"]


def test_events_leave_the_stores_for_manifests_aliases_and_the_inbox_only(recorded: Recorder) -> None:
    s3 = recorded.one("aws:s3/bucketNotification:BucketNotification").inputs["queues"]
    assert {each["filterPrefix"] for each in s3} == {"manifests/", "aliases/", "inbox/"}
    # A bucket filters by the end of a name on S3 alone.
    assert [each.get("filterSuffix") for each in s3 if each["filterPrefix"] == "inbox/"] == ["/_DONE"]
    gcs = [each.inputs["objectNamePrefix"] for each in recorded.of("gcp:storage/notification:Notification")]
    assert sorted(gcs) == ["aliases/", "inbox/", "manifests/"]


def prefixes_on_google(recorded: Recorder, name: str) -> set[str]:
    (grant,) = [
        each.inputs["condition"]["expression"]
        for each in recorded.of("gcp:storage/bucketIAMMember:BucketIAMMember")
        if each.name == f"artifacts-{name}"
    ]
    return set(re.findall(r"/objects/([a-z]+/)", grant))


def prefixes_on_aws(recorded: Recorder, role: str, action: str) -> set[str]:
    (policy,) = [
        json.loads(each.inputs["policy"])
        for each in recorded.of("aws:iam/rolePolicy:RolePolicy")
        if each.inputs["role"].endswith(f"-{role}")
    ]
    found = [each["Resource"] for each in policy["Statement"] if action in each["Action"]]
    return {resource.partition("/")[2][:-1].rpartition("-bucket/")[2] for each in found for resource in each}


def test_a_step_may_do_the_same_on_either_site(recorded: Recorder) -> None:
    for step in ("plan", "encode", "rebuild", "sweep"):
        home, away = (
            prefixes_on_google(recorded, f"{step}-google-{'writes' if step == 'rebuild' else 'reads'}"),
            prefixes_on_google(recorded, f"{step}-aws-{'reads' if step == 'rebuild' else 'writes'}"),
        )
        writes = "s3:PutObject" if step == "rebuild" else "s3:GetObject"
        assert prefixes_on_aws(recorded, f"artifact-{step}", writes) == home
        reads = "s3:GetObject" if step == "rebuild" else "s3:PutObject"
        assert prefixes_on_aws(recorded, f"artifact-{step}-from-gcp", reads) == away


def test_both_sites_sweep_every_few_minutes(recorded: Recorder) -> None:
    (schedule,) = [
        each.inputs
        for each in recorded.of("aws:scheduler/schedule:Schedule")
        if each.inputs["name"].endswith("artifact-sweep")
    ]
    assert schedule["scheduleExpression"] == "rate(5 minutes)"
    (job,) = [
        each.inputs
        for each in recorded.of("gcp:cloudscheduler/job:Job")
        if each.inputs["name"].endswith("artifact-sweep")
    ]
    assert (job["schedule"], job["timeZone"]) == ("*/5 * * * *", "Etc/UTC")
    assert job["httpTarget"]["oidcToken"]["audience"] == job["httpTarget"]["uri"]
    # Whoever sweeps may take away what transfers left, and no manifest, alias or receipt.
    wanted = {naming.PACKS, naming.PARTS, naming.PENDING, naming.MODELS}
    assert prefixes_on_aws(recorded, "artifact-sweep", "s3:DeleteObject") == wanted
    assert prefixes_on_google(recorded, "sweep-google-writes") == wanted


def test_only_those_who_make_statements_may_sign(recorded: Recorder) -> None:
    for kind, name in (("aws:kms/key:Key", "aws"), ("gcp:kms/cryptoKeyVersion:CryptoKeyVersion", "gcp")):
        assert [each.name for each in recorded.of(kind)] == [f"signing-{name}-1"]
    key = recorded.one("aws:kms/key:Key").inputs
    assert (key["keyUsage"], key["customerMasterKeySpec"]) == ("SIGN_VERIFY", "ECC_NIST_P256")
    signers = {
        each.inputs["role"].rpartition("-")[2]
        for each in recorded.of("aws:iam/rolePolicy:RolePolicy")
        if "kms:Sign" in each.inputs["policy"]
    }
    assert signers == {"inbox", "audit"}
    members = {
        each.inputs["member"].partition("@")[0].rpartition("-")[2]
        for each in recorded.of("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember")
        if each.inputs["role"] == "roles/cloudkms.signerVerifier"
    }
    assert members == {"inbox", "audit"}
    told = [
        function_settings.read(each.inputs["environment"]["variables"])
        for each in recorded.of("aws:lambda/function:Function")
        if "artifact" in each.inputs["name"]
    ]
    assert all(found.signing_keys.keys() == set(function_settings.Site) for found in told)
    assert sum(bool(found.signing_key) for found in told) == 2


def test_one_more_generation_adds_a_key_and_signs_with_it() -> None:
    rotated = deploy("local", {"signingKeyGenerations": 2})
    assert sorted(each.name for each in rotated.of("aws:kms/key:Key")) == ["signing-aws-1", "signing-aws-2"]
    alias = rotated.one("aws:kms/alias:Alias").inputs
    assert alias["targetKeyId"] == "signing-aws-2-id"
    read = [each for each in rotated.of("aws:lambda/invocation:Invocation") if "signing" in each.name]
    asked = json.loads(read[0].inputs["input"])
    assert {site: len(keys) for site, keys in asked.items()} == {"aws": 2, "gcp": 2}


def test_nothing_is_deleted_unless_the_stack_says_so(local: Recorder) -> None:
    def rules(recorder: Recorder) -> set[function_settings.Retention | None]:
        return {
            function_settings.read(each.inputs["environment"]["variables"]).retention
            for each in recorder.of("aws:lambda/function:Function")
            if each.inputs["name"].endswith("artifact-audit")
        }

    assert rules(local) == {None}
    kept = deploy("local", {"retention": {"keepVersions": 5, "keepDays": 30}})
    assert rules(kept) == {function_settings.Retention(5, 30)}


def test_both_sites_compare_their_features_by_a_clock(recorded: Recorder) -> None:
    (schedule,) = [
        each.inputs
        for each in recorded.of("aws:scheduler/schedule:Schedule")
        if each.inputs["name"].endswith("features-reconcile")
    ]
    assert schedule["scheduleExpression"] == "rate(5 minutes)"
    (job,) = [
        each.inputs
        for each in recorded.of("gcp:cloudscheduler/job:Job")
        if each.inputs["name"].endswith("features-reconcile")
    ]
    assert job["schedule"] == "*/5 * * * *"
    (function,) = [
        each.inputs
        for each in recorded.of("aws:lambda/function:Function")
        if each.inputs["name"].endswith("features-reconcile")
    ]
    # Two turns of a site at once would read the same shares twice.
    assert function["reservedConcurrentExecutions"] == 1
    assert schedule["target"]["arn"].endswith("features-reconcile-aws-function")
    # Each keeps its own documents and reads the other's; what runs leave behind goes away by itself.
    own = {naming.RECONCILE, naming.PARKED}
    assert prefixes_on_aws(recorded, "features-reconcile", "s3:PutObject") == own
    assert prefixes_on_aws(recorded, "features-reconcile-from-gcp", "s3:GetObject") == {naming.RECONCILE}
    assert prefixes_on_aws(recorded, "features-reconcile-from-gcp", "s3:PutObject") == set()
    assert naming.RECONCILE_RUNS in naming.TRANSIENT


def test_a_comparison_is_asked_for_before_records_and_messages_are_given_up(prod: Recorder) -> None:
    (stream,) = [
        each.inputs
        for each in prod.of("aws:lambda/eventSourceMapping:EventSourceMapping")
        if "startingPosition" in each.inputs
    ]
    assert (stream["maximumRecordAgeInSeconds"] - 3_600) * 1_000 >= DYNAMODB_KEEPS_MS
    (push,) = [
        each.inputs
        for each in prod.of("gcp:pubsub/subscription:Subscription")
        if each.inputs["name"].endswith("features-apply")
    ]
    pause, longest = (int(push["retryPolicy"][f"{which}Backoff"].rstrip("s")) for which in ("minimum", "maximum"))
    given_up_seconds = 0
    for _ in range(int(push["deadLetterPolicy"]["maxDeliveryAttempts"]) - 1):
        given_up_seconds += pause
        pause = min(2 * pause, longest)
    assert given_up_seconds * 1_000 >= BIGTABLE_KEEPS_MS


def test_the_third_copys_key_is_for_those_who_write_there(local: Recorder, prod: Recorder) -> None:
    readers = {
        each.inputs["member"].partition("@")[0].rpartition("-")[2]
        for each in local.of("gcp:secretmanager/secretIamMember:SecretIamMember")
    }
    assert readers == {"encode", "sweep", "audit"}
    holders = {
        each.inputs["role"].rpartition("-")[2]
        for each in local.of("aws:iam/rolePolicy:RolePolicy")
        if "secretsmanager:GetSecretValue" in each.inputs["policy"] and "artifact" in each.inputs["role"]
    }
    assert holders == {"encode", "sweep", "audit"}
    # Without a key there is no third copy, and nobody is told of one.
    assert not prod.of("gcp:secretmanager/secretIamMember:SecretIamMember")
    for each in prod.of("aws:lambda/function:Function"):
        assert function_settings.read(each.inputs["environment"]["variables"]).third_bucket is None


def test_whoever_proves_a_version_reads_what_its_transfer_came_to(recorded: Recorder) -> None:
    needed = {naming.MODELS, naming.MANIFESTS, naming.TRANSFERS, naming.RECEIPTS}
    assert needed <= prefixes_on_google(recorded, "rebuild-google-writes")
    assert needed <= prefixes_on_aws(recorded, "artifact-rebuild", "s3:GetObject")


def test_the_feature_table_of_google_keeps_one_version_and_a_week_of_changes(recorded: Recorder) -> None:
    table = recorded.one("gcp:bigtable/table:Table").inputs
    assert table["columnFamilies"] == [{"family": function_settings.FEATURE_FAMILY}]
    assert table["changeStreamRetention"] == "168h0m0s"
    rules = json.loads(recorded.one("gcp:bigtable/gCPolicy:GCPolicy").inputs["gcRules"])
    assert rules == {"rules": [{"max_version": 1}]}
    routing = recorded.one("gcp:bigtable/appProfile:AppProfile").inputs["singleClusterRouting"]
    assert routing["allowTransactionalWrites"] is True


def test_functions_can_read_the_environment_they_are_given(recorded: Recorder) -> None:
    told = []
    for each in recorded.of("aws:lambda/function:Function"):
        found = function_settings.read(each.inputs["environment"]["variables"])
        assert found.site is function_settings.Site.AWS
        assert found.dynamodb_table is not None and found.bigtable_table is not None
        assert found.google_credentials is not None
        told.append(found)
    for each in recorded.of("gcp:cloudfunctionsv2/function:Function"):
        found = function_settings.read(each.inputs["serviceConfig"]["environmentVariables"])
        assert found.site is function_settings.Site.GCP
        # What it can never apply it parks in the site's bucket.
        parks_in_bucket = each.inputs["buildConfig"]["entryPoint"] in ("features_apply", "features_reconcile")
        assert bool(found.dead_topic) is not parks_in_bucket
        assert bool(found.aws_role) is (each.inputs["buildConfig"]["entryPoint"] != "artifact_inbox")
        told.append(found)
    assert all(found.artifact_queues == told[0].artifact_queues for found in told)
    aws, gcp = (told[0].artifact_queues[site] for site in function_settings.Site)
    queues = {each.inputs["name"] for each in recorded.of("aws:sqs/queue:Queue")}
    topics = {each.inputs["name"] for each in recorded.of("gcp:pubsub/topic:Topic")}
    assert {url.rpartition("/")[2] for url in (aws.jobs, aws.rebuilds)} <= queues
    assert {name.rpartition("/")[2] for name in (gcp.jobs, gcp.rebuilds)} <= topics


def test_the_archives_have_every_function_that_the_program_deploys(recorded: Recorder) -> None:
    for each in recorded.of("aws:lambda/function:Function"):
        module, _, name = each.inputs["handler"].rpartition(".")
        assert module == "functions.entry_aws"
        assert callable(getattr(entry_aws, name)), each.name
    exported = set(re.findall(r'"(\w+)"', archives.GOOGLE_MAIN))
    for each in recorded.of("gcp:cloudfunctionsv2/function:Function"):
        assert each.inputs["buildConfig"]["entryPoint"] in exported, each.name


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
    told = function_settings.read({**environments[0], "LIFEBOAT_SITE": "aws"})
    assert told.model == "recommender"
    # Who may sign: with the keys of both sites a host needs no key service to check a version.
    assert told.signing_keys == dict.fromkeys(Site, (PUBLIC_KEY,))


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
        naming.INBOX: paths.inbox_prefix(model),
        naming.CHAIN: paths.chain_key(model, "aws", 1),
        naming.VERDICTS: paths.verdict_key(model, version),
        naming.TOMBSTONES: paths.tombstone_key(model, version),
        naming.AUDITS: paths.audit_key("aws", "2026-11-24"),
        naming.RECONCILE: f"{PREFIX}/current.json",
        naming.RECONCILE_RUNS: f"{PREFIX}/{RUNS}/1/report.json",
    }
    for prefix, key in keys.items():
        assert key.startswith(prefix)


def test_names_of_a_stack_fit_the_clouds_limits() -> None:
    names = naming.Names.of(stack_settings("local", {"prefix": "a" * 20}))
    assert all(6 <= len(names.service_account(each)) <= 30 for each in ("rebuild", "encode", "builder", "service"))
    assert 6 <= len(names.bigtable_instance) <= 33 and 6 <= len(names.bigtable_cluster) <= 30
    assert len(names.named("service")) <= 32, "the longest name of a load balancer"


def test_what_a_clock_calls_has_its_whole_time_where_messages_come_again_soon(local: Recorder) -> None:
    audit = next(
        each for each in local.of("aws:lambda/function:Function") if each.inputs["name"].endswith("artifact-audit")
    )
    assert audit.inputs["timeout"] == AUDIT_SECONDS > entry_aws._RESERVE_MS / 1000
