"""Alarms about model files: they watch what the functions emit, by thresholds of the stack's config."""

from typing import Any

from functions.artifacts import measures
from tests.program.recording import Recorder, deploy

ALARM, METRIC, POLICY = (
    "aws:cloudwatch/metricAlarm:MetricAlarm",
    "gcp:logging/metric:Metric",
    "gcp:monitoring/alertPolicy:AlertPolicy",
)


def named(recorded: Recorder, token: str, word: str) -> dict[str, Any]:
    (found,) = [each.inputs for each in recorded.of(token) if word in each.name]
    return dict(found)


def query(policy: dict[str, Any]) -> str:
    (condition,) = policy["conditions"]
    return str(condition["conditionPrometheusQueryLanguage"]["query"])


def test_every_site_tells_of_one_finding(recorded: Recorder) -> None:
    aws = named(recorded, ALARM, "findings")
    assert (aws["metricName"], aws["threshold"], aws["statistic"]) == (measures.MISMATCHES, 1, "Maximum")
    assert aws["dimensions"] == {"site": "aws", "path": measures.PATH, "step": measures.AUDIT}
    functions = {each.inputs["name"] for each in recorded.of("gcp:cloudfunctionsv2/function:Function")}
    metric = named(recorded, METRIC, "findings")
    assert metric["filter"].endswith('jsonPayload.step=("audit") AND jsonPayload.mismatches>=1')
    assert any(f'service_name="{function}"' in metric["filter"] for function in functions)
    series = "logging_googleapis_com:user_" + metric["name"].replace("-", "_")
    assert query(named(recorded, POLICY, "findings")).startswith(f"sum(increase({series}{{")


def test_every_site_tells_of_bytes_that_leave(recorded: Recorder) -> None:
    aws = named(recorded, ALARM, "egress")
    watched = [each["metric"]["dimensions"]["step"] for each in aws["metricQueries"] if "metric" in each]
    assert watched == list(measures.SENDING)
    assert aws["metricQueries"][-1]["expression"] == "FILL(encode, 0) + FILL(third, 0)"
    assert aws["threshold"] == 100_000_000_000
    metric = named(recorded, METRIC, "egress")
    assert metric["valueExtractor"] == "EXTRACT(jsonPayload.bytes_wire)"
    assert 'jsonPayload.step=("encode" OR "third")' in metric["filter"]
    assert query(named(recorded, POLICY, "egress")).endswith("[1h])) > 100000000000")


def test_thresholds_and_receivers_come_from_config() -> None:
    topic, channel = "arn:aws:sns:us-west-2:123456789012:on-call", "projects/p/notificationChannels/123"
    alarms = {"auditFindings": 3, "egressBytesPerHour": 5_000_000, "awsTopic": topic, "googleChannel": channel}
    recorded = deploy("local", {"alarms": alarms})
    assert [each.inputs["threshold"] for each in recorded.of(ALARM)] == [3, 5_000_000]
    assert all(each.inputs["alarmActions"] == [topic] for each in recorded.of(ALARM))
    assert all(each.inputs["notificationChannels"] == [channel] for each in recorded.of(POLICY))
    assert "mismatches>=3" in named(recorded, METRIC, "findings")["filter"]
