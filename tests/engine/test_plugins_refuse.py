"""What the language host and the plugins refuse, and how it reads."""

from pathlib import Path

import pytest

from tests.engine.support import Engine, Finished, write_project

PROGRAM = """
from importlib.metadata import version

import pulumi
import pulumi_aws as aws

case = pulumi.Config().get("case") or ""
site = aws.Provider("site-aws", region="us-west-2", skip_credentials_validation=True, skip_requesting_account_id=True)
options = pulumi.ResourceOptions(provider=site)
bucket = aws.s3.Bucket("models", bucket="tiny-models", opts=options)
if case == "duplicate":
    aws.s3.Bucket("others", bucket="tiny-models", opts=options)
if case == "type":
    aws.sns.Topic("topic", opts=options)
if case == "properties":
    pulumi.CustomResource(
        "aws:sqs/queue:Queue",
        "queue",
        {"visibilityTimeout": 3, "delaySeconds": "soon"},
        opts=pulumi.ResourceOptions(provider=site, version=version("pulumi_aws")),
    )
if case == "function":
    pulumi.export("account", aws.get_caller_identity(opts=pulumi.InvokeOptions(provider=site)).account_id)
if case == "exception":
    raise ValueError("no such site: azure")
if case == "run error":
    raise pulumi.RunError("lifeboat:active must be aws or gcp")
if case == "apply":
    bucket.arn.apply(lambda arn: 1 / 0)
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("engine")
    return Engine.create(folder, write_project(folder / "project", PROGRAM))


def failure(engine: Engine, case: str) -> Finished:
    engine.configure("case", case)
    finished = engine.up()
    assert finished.code != 0, finished.output
    return finished


def test_a_name_that_is_taken(engine: Engine) -> None:
    text = failure(engine, "duplicate").output
    assert 'aws holds aws:s3/bucket:Bucket tiny-models already, so "others" was not created' in text


def test_a_type_without_behaviour(engine: Engine) -> None:
    text = failure(engine, "type").output
    assert "the local aws provider has no behaviour for aws:sns/topic:Topic" in text
    assert "Traceback" not in text


def test_properties_that_do_not_fit(engine: Engine) -> None:
    text = failure(engine, "properties").output
    assert 'has no property "visibilityTimeout"; did you mean "visibilityTimeoutSeconds"?' in text
    assert 'property "delaySeconds" must be an integer, but is the string "soon"' in text


def test_a_provider_function(engine: Engine) -> None:
    assert "has no function aws:index/getCallerIdentity" in failure(engine, "function").output


def test_an_exception_of_the_program_is_shown_once_with_the_programs_frames_only(engine: Engine) -> None:
    text = failure(engine, "exception").output
    diagnostics = text[text.index("Diagnostics:") :]
    assert diagnostics.count("ValueError: no such site: azure") == 1
    assert str(Path("infra", "__main__.py")) in diagnostics
    assert "runpy" not in diagnostics
    assert "site-packages" not in diagnostics


def test_a_run_error_of_the_program_is_its_text_alone(engine: Engine) -> None:
    text = failure(engine, "run error").output
    diagnostics = text[text.index("Diagnostics:") :]
    assert diagnostics.count("lifeboat:active must be aws or gcp") == 1
    assert "Traceback" not in text


def test_an_exception_inside_an_apply(engine: Engine) -> None:
    assert "ZeroDivisionError" in failure(engine, "apply").output
