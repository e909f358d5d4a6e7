"""Schedulers and key services of both clouds, over the control planes and the SDKs."""

import base64
import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from aws_cloud import AwsCloud, arn, wait_for
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gcp_toys import ToyCloud

from local.ground.client import GroundClient

SCHEDULE = "aws:scheduler/schedule:Schedule"
JOB = "gcp:cloudscheduler/job:Job"
KEY, ALIAS = "aws:kms/key:Key", "aws:kms/alias:Alias"
KEY_VERSION = "gcp:kms/cryptoKeyVersion:CryptoKeyVersion"
INVOCATION = "aws:lambda/invocation:Invocation"


@pytest.fixture
def aws(ground: GroundClient, tmp_path: Path) -> Iterator[AwsCloud]:
    cloud = AwsCloud(ground, tmp_path)
    yield cloud
    cloud.clean()


@pytest.fixture
def gcp(ground: GroundClient, tmp_path: Path) -> Iterator[ToyCloud]:
    toys = ToyCloud(ground, tmp_path)
    yield toys
    toys.clear()


def check(pem: bytes | str, signature: bytes, message: bytes) -> None:
    key = serialization.load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))


def test_a_schedule_calls_its_function(aws: AwsCloud) -> None:
    name = f"scheduled-{uuid.uuid4().hex[:8]}"
    aws.function(name)
    target = {"arn": arn("lambda", f"function:{name}"), "roleArn": "r", "input": '{"Records": []}'}
    inputs = {"name": name, "scheduleExpression": "rate(1 minute)", "target": target}
    aws.create(SCHEDULE, f"default/{name}", inputs)
    # A rate begins at once.
    wait_for(lambda: aws.statistics(name)["invocations"] == 1)
    api = aws.ground.endpoints.aws_api
    answer = httpx.post(f"{api}/schedules/run", json={"id": name}, timeout=30)
    assert (answer.status_code, answer.json()["succeeded"]) == (200, True), answer.text
    assert aws.statistics(name)["invocations"] == 2
    told = httpx.get(f"{api}/functions/statistics").json()["schedules"][f"default/{name}"]
    assert (told["runs"], told["failures"]) == (2, 0)
    assert httpx.post(f"{api}/schedules/run", json={"id": "nobody"}).status_code == 404


def test_a_job_posts_to_its_function(gcp: ToyCloud) -> None:
    url = gcp.function("hello", "hello")
    identity = f"projects/{gcp.project}/locations/europe-west4/jobs/tick"
    body = base64.b64encode(b"{}").decode()
    # As the program's own schedules say it: the platform's header of that name must not stand beside it.
    headers = {"Content-Type": "application/json"}
    target = {"uri": f"{url}/?sleep=0", "httpMethod": "POST", "headers": headers, "body": body}
    gcp.create(JOB, identity, {"name": "tick", "schedule": "0 3 1 1 *", "timeZone": "Etc/UTC", "httpTarget": target})
    answer = gcp.http.post(f"{gcp.ground.endpoints.gcp_api}/schedules/run", json={"id": identity})
    assert answer.json() == {"id": identity, "succeeded": True, "error": ""}
    refused = gcp.operation(
        "create", JOB, f"{identity}-2", {"name": "t", "schedule": "often", "httpTarget": target}, {}
    )
    assert refused.status_code == 422 and "five fields" in refused.json()["error"]


def test_kms_signs_digests_that_anybody_can_check(aws: AwsCloud) -> None:
    identity = str(uuid.uuid4())
    aws.create(
        KEY, identity, {"keyUsage": "SIGN_VERIFY", "customerMasterKeySpec": "ECC_NIST_P256"}, {"arn": arn("kms", "k")}
    )
    name = f"alias/test-{identity[:8]}"
    aws.create(ALIAS, name, {"name": name, "targetKeyId": identity}, {"arn": arn("kms", name)})
    kms = aws.client("kms")
    message = b"x" * 10_000
    digest = hashlib.sha256(message).digest()
    signature = kms.sign(KeyId=name, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")[
        "Signature"
    ]
    der = kms.get_public_key(KeyId=name)["PublicKey"]
    pem = serialization.load_der_public_key(der).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    check(pem, signature, message)
    # Raw messages are hashed once, as ever.
    raw = kms.sign(KeyId=name, Message=b"short", MessageType="RAW", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
    check(pem, raw, b"short")
    # The same resource ensured again is the same key.
    aws.update(
        KEY, identity, {"keyUsage": "SIGN_VERIFY", "customerMasterKeySpec": "ECC_NIST_P256"}, {"arn": arn("kms", "k")}
    )
    assert kms.get_public_key(KeyId=name)["PublicKey"] == der


def test_google_signs_and_tells_the_public_half(gcp: ToyCloud) -> None:
    version = f"projects/{gcp.project}/locations/europe-west4/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
    gcp.create(KEY_VERSION, version, {"cryptoKey": version.rpartition("/")[0]})
    api = gcp.ground.environment()["CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS"]
    pem = gcp.http.get(f"{api}/v1/{version}/publicKey").json()["pem"]
    digest = hashlib.sha256(b"message").digest()
    body = {"digest": {"sha256": base64.b64encode(digest).decode()}}
    answer = gcp.http.post(f"{api}/v1/{version}:asymmetricSign", json=body).json()
    check(pem, base64.b64decode(answer["signature"]), b"message")
    with pytest.raises(InvalidSignature):
        check(pem, base64.b64decode(answer["signature"]), b"another")
    assert gcp.http.post(f"{api}/v1/{version}:asymmetricSign", json={"digest": {}}).status_code == 400
    assert gcp.http.get(f"{api}/v1/{version}9/publicKey").status_code == 404


def test_an_invocation_tells_its_answer(aws: AwsCloud) -> None:
    name = f"answering-{uuid.uuid4().hex[:8]}"
    aws.function(name)
    outputs = aws.operate(
        "create", INVOCATION, f"{name}_1", {"functionName": name, "input": '{"Records": []}'}, {"result": "{}"}
    )
    assert outputs["result"] == '{"batchItemFailures": []}'
    aws.delete(INVOCATION, f"{name}_1")
