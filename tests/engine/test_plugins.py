"""Language host and provider plugins under the real engine, with a program of a few resources on three clouds."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from local.providers.injections import Injection
from tests.engine.support import Engine, isolated_engine, wait_until, write_project

__all__ = ["isolated_engine"]

PROGRAM = """
from importlib.metadata import version

import pulumi
import pulumi_aws as aws
import pulumi_gcp as gcp

config = pulumi.Config()
edge_version = version("pulumi_cloudflare")
site_aws = aws.Provider(
    "site-aws", region="us-west-2", skip_credentials_validation=True, skip_requesting_account_id=True
)
site_gcp = gcp.Provider("site-gcp", project="demo", region="us-west1")
edge = pulumi.ProviderResource("cloudflare", "edge", {}, pulumi.ResourceOptions(version=edge_version))
on_aws = pulumi.ResourceOptions(provider=site_aws)
on_gcp = pulumi.ResourceOptions(provider=site_gcp)

bucket = aws.s3.Bucket("models", bucket=config.get("bucket") or "tiny-models", opts=on_aws)
queue = aws.sqs.Queue("jobs", visibility_timeout_seconds=config.get_int("timeout") or 30, opts=on_aws)
role = aws.iam.Role("role", name="tiny-role", assume_role_policy="{}", opts=on_aws)
function = aws.lambda_.Function(
    "plan",
    name="tiny-plan",
    role=role.arn,
    runtime="python3.12",
    handler="plan.handler",
    code=pulumi.AssetArchive({"plan.py": pulumi.StringAsset("def handler(event, context): pass")}),
    environment={"variables": {"QUEUE": queue.url, "PHRASE": pulumi.Output.secret("open sesame")}},
    opts=on_aws,
)
aws.lambda_.EventSourceMapping("events", function_name=function.name, event_source_arn=queue.arn, opts=on_aws)
template = aws.ec2.LaunchTemplate(
    "host", image_id=config.get("image") or "ami-1", instance_type="p4d.24xlarge", opts=on_aws
)
copy = gcp.storage.Bucket("copy", name="tiny-copy", location="US", opts=on_gcp)
pulumi.CustomResource(
    "cloudflare:index/loadBalancer:LoadBalancer",
    "front",
    {"zoneId": "z", "name": "tiny.example", "defaultPools": ["a"], "fallbackPool": "a"},
    pulumi.ResourceOptions(provider=edge, version=edge_version),
)
pulumi.export("queue", queue.url)
pulumi.export("copy", copy.url)
pulumi.export("template", template.latest_version)
"""

QUEUE = "aws:sqs/queue:Queue"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The program above, deployed once; each test leaves it deployed and unchanged."""
    folder = tmp_path_factory.mktemp("engine")
    deployed = Engine.create(folder, write_project(folder / "project", PROGRAM))
    deployed.up().expect(0)
    return deployed


def test_outputs_have_the_clouds_own_forms(engine: Engine) -> None:
    outputs = engine.outputs()
    assert outputs["queue"].startswith("https://sqs.us-west-2.amazonaws.com/123456789012/jobs-")
    assert (outputs["copy"], outputs["template"]) == ("gs://tiny-copy", 1)


def test_a_second_run_changes_nothing_and_says_nothing_else(engine: Engine) -> None:
    preview = engine.run("preview", "--expect-no-changes").expect(0)
    assert "warning" not in preview.output
    second = engine.up("--expect-no-changes").expect(0)
    assert "warning" not in second.output
    assert "Traceback" not in second.output
    engine.run("refresh", "--yes", "--skip-preview", "--expect-no-changes").expect(0)


def test_an_archive_is_kept_in_the_ground_as_the_function_host_finds_it(engine: Engine) -> None:
    (row,) = [row for row in engine.rows() if row.type == "aws:lambda/function:Function"]
    stored = Path(row.inputs["code"]["archive"])
    assert stored == engine.ground / "archives" / row.inputs["code"]["sha256"]
    assert stored.read_bytes().startswith(b"PK")


def test_a_secret_is_plain_to_the_cloud_and_hidden_in_the_state(engine: Engine) -> None:
    (row,) = [row for row in engine.rows() if row.type == "aws:lambda/function:Function"]
    assert row.inputs["environment"]["variables"]["PHRASE"] == "open sesame"
    assert "open sesame" not in str(engine.state()["plan"])
    assert "ciphertext" in str(engine.state()["plan"]["outputs"]["environment"])


def test_a_change_in_place_keeps_the_made_up_name(engine: Engine) -> None:
    before = engine.outputs()["queue"]
    engine.configure("timeout", "60")
    assert "~ 1 updated" in engine.up().expect(0).output
    (row,) = [row for row in engine.rows() if row.type == QUEUE]
    assert row.inputs["visibilityTimeoutSeconds"] == 60
    assert engine.outputs()["queue"] == before


def test_a_new_image_makes_a_new_version_of_the_launch_template(engine: Engine) -> None:
    before = engine.outputs()["template"]
    engine.configure("image", "ami-2")
    engine.up().expect(0)
    assert engine.outputs()["template"] == before + 1
    engine.run("preview", "--expect-no-changes").expect(0)


def test_a_name_that_cannot_change_replaces_the_resource(engine: Engine) -> None:
    engine.configure("bucket", "tiny-others")
    assert "+-1 replaced" in engine.up().expect(0).output
    buckets = [row.id for row in engine.rows() if row.type == "aws:s3/bucket:Bucket"]
    assert buckets == ["tiny-others"]


def test_a_forced_replacement_of_an_id_that_the_cloud_makes_up_gets_another_id(engine: Engine) -> None:
    before = engine.state()["host"]["id"]
    engine.up("--target-replace", engine.state()["host"]["urn"]).expect(0)
    assert engine.state()["host"]["id"] != before
    engine.run("preview", "--expect-no-changes").expect(0)


def test_refresh_sees_what_vanished_and_the_next_run_brings_it_back(engine: Engine) -> None:
    engine.forget("gcp:storage/bucket:Bucket")
    assert "- 1 deleted" in engine.run("refresh", "--yes", "--skip-preview").expect(0).output
    assert "+ 1 created" in engine.up().expect(0).output
    assert any(row.id == "tiny-copy" for row in engine.rows())


def test_an_injected_failure_is_the_error_and_the_next_run_succeeds(engine: Engine) -> None:
    engine.forget(QUEUE)
    engine.run("refresh", "--yes", "--skip-preview").expect(0)
    engine.inject(Injection(QUEUE, "create", error="the quota of queues is used up", times=1))
    failed = engine.up()
    assert failed.code != 0
    assert "the quota of queues is used up" in failed.output
    engine.up().expect(0)
    engine.recover()


def test_an_interrupted_run_ends_quickly_and_quietly(engine: Engine) -> None:
    engine.forget(QUEUE)
    engine.run("refresh", "--yes", "--skip-preview").expect(0)
    engine.inject(Injection(QUEUE, "create", delay_seconds=120))
    started = time.monotonic()
    ended = engine.interrupt_when("jobs creating", "up", "--yes", "--skip-preview")
    engine.recover()
    assert ended.code != 0
    assert time.monotonic() - started < 30
    for noise in ("Traceback", "KeyboardInterrupt", "exited prematurely"):
        assert noise not in ended.output
    engine.up().expect(0)


def test_a_plugin_ends_with_the_engine_that_started_it(engine: Engine) -> None:
    engine.forget(QUEUE)
    engine.run("refresh", "--yes", "--skip-preview").expect(0)
    engine.inject(Injection(QUEUE, "create", delay_seconds=120))
    with subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive"],
        cwd=engine.project,
        env=engine.environment,
        stdout=subprocess.DEVNULL,
    ) as process:
        children: list[psutil.Process] = []

        def started() -> bool:
            children[:] = psutil.Process(process.pid).children(recursive=True)
            return len(children) >= 4

        wait_until(started, "the start of language host and three plugins", 60)
        process.kill()
    wait_until(lambda: not any(child.is_running() for child in children), "the end of the plugins", 20)
    engine.recover()
    engine.run("cancel", "--yes").expect(0)
    engine.up().expect(0)


def test_without_a_ground_the_error_says_how_to_get_one(engine: Engine) -> None:
    unset = engine.up(environment={"LIFEBOAT_GROUND": ""})
    assert unset.code != 0
    assert "LIFEBOAT_GROUND is not set" in unset.output
    absent = engine.up(environment={"LIFEBOAT_GROUND": "local"})
    assert absent.code != 0
    assert "no local ground runs in" in absent.output


def test_destroy_leaves_nothing(isolated_engine: Callable[[str], Engine]) -> None:
    engine = isolated_engine(PROGRAM)
    engine.up().expect(0)
    assert engine.rows()
    engine.run("destroy", "--yes", "--skip-preview").expect(0)
    assert engine.rows() == []
    assert engine.state() == {}
