"""How a caller signs in to its site's Redis: tokens of minutes made of what its cloud knows it by."""

from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from functions import settings
from functions.errors import SettingsError
from functions.settings import RedisPlace
from functions.stores.redis_login import aws_login, google_login, open_redis

PLACE = RedisPlace("master.redis.cache.amazonaws.com", 6379, "lifeboat-dev-redis", "lifeboat-dev-redis")


def test_elasticache_takes_a_signed_request_of_a_quarter_of_an_hour() -> None:
    session = boto3.Session("AKIDEXAMPLE", "secret", "session-token", region_name="us-west-2")
    user, token = aws_login(session, PLACE)()
    assert user == PLACE.user
    host, _, query = token.partition("/?")
    found = {name: values[0] for name, values in parse_qs(query).items()}
    # No scheme: the service takes what follows it.
    assert host == PLACE.cache
    assert (found["Action"], found["User"], found["X-Amz-Expires"]) == ("connect", PLACE.user, "900")
    assert found["X-Amz-Credential"].endswith("/us-west-2/elasticache/aws4_request")
    assert found["X-Amz-Signature"] and found["X-Amz-Security-Token"] == "session-token"
    assert "secret" not in token


def test_memorystore_takes_the_accounts_token_fresh() -> None:
    class Credentials:
        valid = False
        token = "old"

        def refresh(self, request: object) -> None:
            self.valid, self.token = True, "fresh"

    login = google_login(Credentials(), RedisPlace("10.0.0.9", 6379, "redis", "default"))
    assert login() == login() == ("default", "fresh")


@pytest.mark.parametrize("authority", ["", "-----BEGIN CERTIFICATE-----\n"])
def test_whoever_signs_in_does_so_over_tls(authority: str) -> None:
    place = RedisPlace("10.0.0.9", 6379, "redis", "default", authority)
    client = open_redis(place, lambda: ("default", "token"))
    given: dict[str, Any] = client.connection_pool.connection_kwargs
    assert client.connection_pool.connection_class.__name__ == "SSLConnection"
    assert given["ssl_cert_reqs"] == "required"
    # A server at a bare address has no name to check; its own authority is what it is known by.
    assert given["ssl_check_hostname"] is not bool(authority)
    assert given["credential_provider"].get_credentials() == ("default", "token")


def test_a_place_with_something_missing_is_named() -> None:
    with pytest.raises(SettingsError, match="LIFEBOAT_REDIS must hold host, port, cache and user"):
        settings.read({"LIFEBOAT_SITE": "aws", "LIFEBOAT_REDIS": '{"host": "h", "port": "none"}'})
