"""Functions run from their archives, within their limits, and change without losing what they were doing."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from aws_cloud import FUNCTION, AwsCloud, RefusedError, arn, wait_for

from local.ground.client import GroundClient
from local.paths import ROOT


@pytest.fixture
def aws(ground: GroundClient, tmp_path: Path) -> Iterator[AwsCloud]:
    cloud = AwsCloud(ground, tmp_path)
    yield cloud
    cloud.clean()


def test_runs_the_archive_and_never_the_source_tree(aws: AwsCloud) -> None:
    aws.function("fn-source")
    answer = aws.invoke("fn-source")
    assert not answer.failed
    assert Path(answer.body["file"]).is_relative_to(aws.ground.folder / "clouds" / "aws" / "functions" / "fn-source")
    assert answer.body["importable"] == ["boto3"]
    for entry in answer.body["path"]:
        assert not Path(entry).is_relative_to(ROOT) or "site-packages" in entry


def test_an_archive_without_its_package_is_refused(aws: AwsCloud) -> None:
    # The source tree has a package `functions`; the archive has not.
    inputs = aws.function_inputs("fn-empty", handler="functions.settings.missing")
    with pytest.raises(RefusedError, match="does not come from the deployed archive") as refused:
        aws.create(FUNCTION, "fn-empty", inputs, {"arn": arn("lambda", "function:fn-empty")})
    assert refused.value.status == 422
    assert not aws.exists(FUNCTION, "fn-empty")


def test_environment_is_the_programs_and_the_platforms(aws: AwsCloud) -> None:
    aws.function("fn-env", variables={"LIFEBOAT_SITE": "aws", "AWS_REGION": "nowhere-1"}, memorySize=512.0)
    body = aws.invoke("fn-env").body
    environment = body["environment"]
    assert environment["LIFEBOAT_SITE"] == "aws"
    assert environment["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert environment["AWS_LAMBDA_FUNCTION_NAME"] == "fn-env"
    assert environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert Path(environment["LAMBDA_TASK_ROOT"]) in Path(body["file"]).parents
    assert environment["AWS_ENDPOINT_URL"] == aws.ground.endpoints.aws
    assert "HOME" not in environment
    assert body["arn"] == arn("lambda", "function:fn-env")


def test_an_error_is_the_functions_own(aws: AwsCloud) -> None:
    aws.function("fn-error")
    answer = aws.invoke("fn-error", {"raise": "no such thing"})
    assert answer.failed
    assert (answer.body["errorType"], answer.body["errorMessage"]) == ("ValueError", "no such thing")
    assert not aws.invoke("fn-error").failed
    assert aws.statistics("fn-error")["failures"] == {"function-error": 1}


def test_the_time_limit_kills_and_a_new_process_follows(aws: AwsCloud) -> None:
    aws.function("fn-time", timeout=1.0)
    before = aws.invoke("fn-time").body["process"]
    started = time.monotonic()
    answer = aws.invoke("fn-time", {"sleep": 30})
    assert 0.9 < time.monotonic() - started < 5.0
    assert answer.failed
    assert "Task timed out after 1.00 seconds" in answer.body["errorMessage"]
    assert not psutil.pid_exists(before)
    assert aws.invoke("fn-time").body["process"] != before


def test_a_crash_fails_its_invocation_only(aws: AwsCloud) -> None:
    aws.function("fn-crash")
    answer = aws.invoke("fn-crash", {"exit": 7})
    assert answer.failed
    assert answer.body["errorType"] == "Runtime.ExitError"
    assert "exit status 7" in answer.body["errorMessage"]
    assert not aws.invoke("fn-crash").failed


def test_reserved_concurrency_throttles(aws: AwsCloud) -> None:
    aws.function("fn-one", reservedConcurrentExecutions=1.0)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(aws.invoke, "fn-one", {"sleep": 1.0})
        wait_for(lambda: aws.statistics("fn-one")["in_flight"])
        throttled = aws.invoke("fn-one")
        assert throttled.status == 429
        assert not slow.result().failed
    assert aws.statistics("fn-one")["throttles"] == 1
    assert not aws.invoke("fn-one").failed


def test_scales_out_on_demand(aws: AwsCloud) -> None:
    aws.function("fn-two")
    assert aws.statistics("fn-two")["processes"] == 1
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: aws.invoke("fn-two", {"sleep": 1.0}), range(2)))
    assert len({answer.body["process"] for answer in answers}) == 2
    assert aws.statistics("fn-two")["concurrency_highest"] == 2


def test_an_update_loses_no_invocation(aws: AwsCloud) -> None:
    aws.function("fn-swap", variables={"VERSION": "1"})
    wrong: list[object] = []
    versions: list[str] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            answer = aws.invoke("fn-swap", {"sleep": 0.05})
            if answer.failed or answer.status != 200:
                wrong.append(answer)
            else:
                versions.append(answer.body["environment"]["VERSION"])

    caller = threading.Thread(target=call)
    caller.start()
    wait_for(lambda: versions)
    inputs = aws.function_inputs("fn-swap", variables={"VERSION": "2"})
    aws.update(FUNCTION, "fn-swap", inputs, {"arn": arn("lambda", "function:fn-swap")})
    wait_for(lambda: versions[-1] == "2")
    stop.set()
    caller.join()
    assert not wrong
    assert versions == sorted(versions)


def test_a_broken_update_leaves_the_old_version_running(aws: AwsCloud) -> None:
    aws.function("fn-keep", variables={"VERSION": "1"})
    broken = aws.function_inputs("fn-keep", code=aws.archive("raise RuntimeError('half a deployment')"))
    with pytest.raises(RefusedError, match="half a deployment"):
        aws.update(FUNCTION, "fn-keep", broken, {"arn": arn("lambda", "function:fn-keep")})
    assert aws.invoke("fn-keep").body["environment"]["VERSION"] == "1"


def test_a_removed_function_leaves_no_process(aws: AwsCloud) -> None:
    aws.function("fn-gone")
    process = aws.invoke("fn-gone").body["process"]
    aws.delete(FUNCTION, "fn-gone")
    wait_for(lambda: not psutil.pid_exists(process))
    assert aws.invoke("fn-gone").status == 404


def test_a_second_create_is_refused(aws: AwsCloud) -> None:
    aws.function("fn-twice")
    with pytest.raises(RefusedError, match="exists already") as refused:
        aws.function("fn-twice")
    assert refused.value.status == 409
