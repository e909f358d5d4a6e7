"""An AWS role taken from Google Cloud without keys: a token that the platform signs is exchanged at AWS's token service.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from typing import Any

import boto3
import botocore.session
from botocore.credentials import (
    AssumeRoleWithWebIdentityCredentialFetcher,
    DeferredRefreshableCredentials,
)

from functions.settings import AWS_ROLE_AUDIENCE
from functions.stores.errors import StoreUnavailableError

SESSION_NAME = "lifeboat"


def identity_token() -> str:
    """Return a fresh token that Google signs for the account this runs as; StoreUnavailableError where none is given.

    https://cloud.google.com/run/docs/securing/service-identity#identity_tokens
    """
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request
    from google.oauth2 import id_token

    try:
        token: str = id_token.fetch_id_token(Request(), AWS_ROLE_AUDIENCE)  # type: ignore[no-untyped-call]  # annotated in part only
    except GoogleAuthError as error:
        raise StoreUnavailableError(f"the platform gives no identity token for AWS ({error}); try again") from error
    return token


def role_session(role: str) -> Any:
    """Return a boto3 session that acts as `role` and renews its credentials before they end."""
    session = botocore.session.get_session()
    fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
        client_creator=session.create_client,
        web_identity_token_loader=identity_token,
        role_arn=role,
        extra_args={"RoleSessionName": SESSION_NAME},
    )
    session._credentials = DeferredRefreshableCredentials(
        refresh_using=fetcher.fetch_credentials, method="assume-role-with-web-identity"
    )
    return boto3.Session(botocore_session=session)
