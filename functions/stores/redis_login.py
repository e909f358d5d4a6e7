"""Signing in to a site's Redis with what its cloud knows the caller by: tokens of minutes, no password anywhere.

ElastiCache takes a request signed by the caller's own credentials
(https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html), Memorystore the access token of its account
(https://cloud.google.com/memorystore/docs/valkey/about-iam-auth). Both want TLS.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from functions.settings import RedisPlace

if TYPE_CHECKING:
    from redis import Redis

# The longest that ElastiCache takes a signed request for.
_TOKEN_SECONDS = 900
_TIMEOUT_SECONDS = 5.0
_CONNECT_SECONDS = 2.0

Login = Callable[[], tuple[str, str]]


def aws_login(session: Any, place: RedisPlace) -> Login:
    """Return what gives user and password for a new connection; `session` is one of boto3."""
    from botocore.model import ServiceId
    from botocore.signers import RequestSigner

    region = session.region_name
    # Signing alone: nothing is asked of AWS, so a function without a way to it can sign in.
    signer = RequestSigner(
        ServiceId("elasticache"), region, "elasticache", "v4", session.get_credentials(), session.events
    )

    def login() -> tuple[str, str]:
        url = signer.generate_presigned_url(
            {
                "method": "GET",
                "url": f"https://{place.cache}/?Action=connect&User={place.user}",
                "body": {},
                "headers": {},
                "context": {},
            },
            region_name=region,
            expires_in=_TOKEN_SECONDS,
            operation_name="",
        )
        return place.user, str(url).removeprefix("https://")

    return login


def google_login(credentials: Any, place: RedisPlace) -> Login:
    """Return what gives user and password for a new connection; `credentials` are of google-auth."""
    from google.auth.transport.requests import Request

    def login() -> tuple[str, str]:
        if not credentials.valid:
            credentials.refresh(Request())
        return place.user, str(credentials.token)

    return login


def open_redis(place: RedisPlace, login: Login | None) -> "Redis":
    """Return a client with the time limits of a store. Without `login` it neither signs in nor encrypts: for what runs here."""
    from redis import CredentialProvider, Redis

    limits: dict[str, Any] = {"socket_timeout": _TIMEOUT_SECONDS, "socket_connect_timeout": _CONNECT_SECONDS}
    if login is None:
        return Redis(place.host, place.port, **limits)
    sign_in = login

    class Provider(CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            return sign_in()

    return Redis(
        place.host,
        place.port,
        ssl=True,
        ssl_cert_reqs="required",
        ssl_check_hostname=not place.authority,
        ssl_ca_data=place.authority or None,
        credential_provider=Provider(),
        **limits,
    )
