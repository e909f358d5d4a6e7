"""The third copy's bucket on R2, opened with an access key that this site's own cloud keeps as a secret."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from functions.errors import SettingsError
from functions.settings import R2_KEY, ThirdBucket
from functions.stores.errors import AccessDeniedError, StoreUnavailableError
from functions.stores.s3 import R2Objects

if TYPE_CHECKING:
    import requests

ENDPOINT = "LIFEBOAT_R2_ENDPOINT"
_TIMEOUT_SECONDS = (3.0, 10.0)


def open_third(
    bucket: ThirdBucket,
    environment: Mapping[str, str],
    aws: Callable[[str], Any],
    google_session: "Callable[[], requests.Session]",
) -> R2Objects:
    """Return the bucket; `aws` makes clients of AWS services, `google_session` signs requests to Google's.

    With an endpoint in the environment, which stands in for R2, the process's own AWS credentials are used and no secret is read.
    """
    import boto3
    from botocore.config import Config

    endpoint = environment.get(ENDPOINT)
    key = {} if endpoint else _key(bucket.key, aws, google_session)
    client = boto3.Session(**key).client(
        "s3",
        endpoint_url=endpoint or f"https://{bucket.account}.r2.cloudflarestorage.com",
        # R2's one region is `auto` (R2 documentation, S3 API compatibility); what stands in for it knows AWS's alone.
        region_name="us-east-1" if endpoint else "auto",
        config=Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 3, "mode": "standard"}),
    )
    return R2Objects(client, bucket.bucket)


def _key(name: str, aws: Callable[[str], Any], google_session: "Callable[[], requests.Session]") -> dict[str, str]:
    text = (
        _aws_secret(aws("secretsmanager"), name) if name.startswith("arn:") else _google_secret(google_session(), name)
    )
    try:
        value = json.loads(text)
        return {"aws_access_key_id": value["access_key_id"], "aws_secret_access_key": value["secret_access_key"]}
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"the secret that {R2_KEY} names is no JSON with access_key_id and secret_access_key; store it again"
        ) from error


def _aws_secret(client: Any, name: str) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        text: str = client.get_secret_value(SecretId=name)["SecretString"]
    except ClientError as error:
        raise AccessDeniedError(
            f"secret {name}, the access key of the third copy on R2, was not given out: {error}. Check that it exists and that "
            "whoever asks may call secretsmanager:GetSecretValue on it"
        ) from error
    except BotoCoreError as error:
        raise StoreUnavailableError(f"secret {name}: no usable answer ({error}); try again") from error
    return text


def _google_secret(session: "requests.Session", name: str) -> str:
    # https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    import base64

    import requests
    from google.auth.exceptions import GoogleAuthError

    try:
        answer = session.get(f"https://secretmanager.googleapis.com/v1/{name}:access", timeout=_TIMEOUT_SECONDS)
    except (requests.RequestException, GoogleAuthError) as error:
        raise StoreUnavailableError(f"secret {name}: no usable answer ({error}); try again") from error
    if answer.status_code != 200:
        raise AccessDeniedError(
            f"secret {name}, the access key of the third copy on R2, was not given out: HTTP {answer.status_code}. Check that "
            "it exists and that whoever asks has roles/secretmanager.secretAccessor on it"
        )
    return base64.b64decode(answer.json()["payload"]["data"]).decode()
