"""A role on AWS taken with a token that the platform of Google signs: no key in the environment, the token's audience checked."""

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from replication_sites import sdk_variables

from functions import settings
from local.ground.client import GroundClient
from local.paths import ROOT

ROLE = "arn:aws:iam::123456789012:role/lifeboat-features-from-gcp"
PROGRAM = """
import os
from functions import settings
from functions.stores.clients import Clients
print(Clients(settings.read(os.environ)).aws("sts").get_caller_identity()["Arn"])
"""


class Metadata(BaseHTTPRequestHandler):
    """Google's metadata server as far as identity tokens go."""

    audiences: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        text = ""
        if asked.path.endswith("/identity"):
            self.audiences += parse_qs(asked.query)["audience"]
            claims = {"aud": self.audiences[-1], "exp": int(time.time()) + 3600, "sub": "1"}
            parts = ({"alg": "none"}, claims)
            encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
            text = ".".join([*encoded, "c2ln"])
        elif "service-accounts" in asked.path:
            text = json.dumps({"email": "features@p.iam.gserviceaccount.com", "scopes": [], "aliases": ["default"]})
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if text.startswith("{") else "text/plain")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    Metadata.audiences = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_function_on_google_acts_on_aws_by_its_role(ground: GroundClient, metadata: str) -> None:
    variables = {
        name: value
        for name, value in sdk_variables(ground).items()
        if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    }
    variables |= {
        settings.SITE: "gcp",
        settings.AWS_ROLE: ROLE,
        "GCE_METADATA_HOST": metadata,
        "GCE_METADATA_IP": metadata,
        "NO_GCE_CHECK": "false",
        "PATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "arn:aws:sts::123456789012:assumed-role/lifeboat-features-from-gcp/lifeboat"
    assert Metadata.audiences == [settings.AWS_ROLE_AUDIENCE]


def test_a_role_that_is_none_is_refused_with_the_settings() -> None:
    with pytest.raises(settings.SettingsError, match="LIFEBOAT_AWS_ROLE"):
        settings.read({settings.SITE: "gcp", settings.AWS_ROLE: "features"})
