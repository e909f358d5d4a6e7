"""The access key of the third copy: what is said when a cloud does not give it out, or gives out something else."""

import json
from typing import Any

import boto3
import pytest
import responses
from botocore.stub import Stubber
from requests import Session

from functions.errors import SettingsError
from functions.settings import ThirdBucket
from functions.stores.errors import AccessDeniedError
from functions.stores.s3 import R2Objects
from functions.stores.third import open_third

ARN = "arn:aws:secretsmanager:us-west-2:123456789012:secret:r2"
NAME = "projects/p/secrets/r2/versions/latest"


def opened(stubbed: Any) -> R2Objects:
    def aws(service: str) -> Any:
        assert service == "secretsmanager"
        return stubbed

    return open_third(ThirdBucket("account", "bucket", ARN), {}, aws, Session)


@pytest.fixture
def secrets() -> Any:
    return boto3.client("secretsmanager", "us-west-2", aws_access_key_id="a", aws_secret_access_key="b")


def test_a_key_opens_the_bucket(secrets: Any) -> None:
    text = json.dumps({"access_key_id": "a", "secret_access_key": "b"})
    with Stubber(secrets) as stub:
        stub.add_response("get_secret_value", {"SecretString": text}, {"SecretId": ARN})
        assert isinstance(opened(secrets), R2Objects)


def test_without_the_right_on_aws_secret_and_right_are_named(secrets: Any) -> None:
    with Stubber(secrets) as stub:
        stub.add_client_error("get_secret_value", "AccessDeniedException")
        with pytest.raises(AccessDeniedError, match=f"{ARN}.*R2.*secretsmanager:GetSecretValue"):
            opened(secrets)


def test_a_secret_of_another_form_is_refused_without_being_shown(secrets: Any) -> None:
    with Stubber(secrets) as stub:
        stub.add_response("get_secret_value", {"SecretString": "hunter2"}, {"SecretId": ARN})
        with pytest.raises(SettingsError, match="access_key_id and secret_access_key") as refused:
            opened(secrets)
    assert "hunter2" not in str(refused.value)


@responses.activate
def test_without_the_right_on_google_cloud_secret_and_right_are_named() -> None:
    responses.get(f"https://secretmanager.googleapis.com/v1/{NAME}:access", status=403)
    bucket = ThirdBucket("account", "bucket", NAME)
    with pytest.raises(AccessDeniedError, match=f"{NAME}.*R2.*HTTP 403.*roles/secretmanager.secretAccessor"):
        open_third(bucket, {}, lambda service: None, Session)
