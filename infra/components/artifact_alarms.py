"""Alarms about model files on both clouds: what an audit finds, and how many bytes leave.

The functions write their metrics as log lines (functions/telemetry.py). CloudWatch makes metrics of them by itself; on Google
Cloud log-based metrics are made here. Each cloud watches its own site: an alarm must not depend on the cloud that may be lost.
"""

import re
from dataclasses import dataclass

import pulumi
from pulumi_aws import cloudwatch
from pulumi_gcp import logging, monitoring

from functions.artifacts.measures import AUDIT, BYTES_WIRE, MISMATCHES, PATH, SENDING
from functions.settings import DEFAULT_METRICS_NAMESPACE, Site
from infra.naming import Names
from infra.settings import Alarms

HOUR_SECONDS = 3_600
# An audit runs once a day.
DAY_SECONDS = 86_400
EVALUATION_SECONDS = 300
# Two functions send: packs go by the encoder, and it copies files to the third store as well.
SENDER = "artifact-encode"
AUDITOR = "artifact-audit"


@dataclass(frozen=True, kw_only=True)
class ArtifactAlarmsArgs:
    """Names of the stack's functions, the project of the Google side, and the thresholds."""

    names: Names
    project: str
    alarms: Alarms


class ArtifactAlarms(pulumi.ComponentResource):
    """Two alarms on each cloud: findings of an audit, bytes sent in an hour."""

    def __init__(self, name: str, args: ArtifactAlarmsArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("lifeboat:artifacts:Alarms", name, None, opts)
        self._name, self._args = name, args
        self._child = pulumi.ResourceOptions(parent=self)
        self._aws_findings()
        self._aws_egress()
        self._google_findings()
        self._google_egress()
        self.register_outputs({})

    def _aws_findings(self) -> None:
        args = self._args
        cloudwatch.MetricAlarm(
            f"{self._name}-findings-aws",
            name=args.names.named("artifact-findings"),
            alarm_description="The daily audit found model versions that differ: ./lifeboat verify models --repair",
            namespace=DEFAULT_METRICS_NAMESPACE,
            metric_name=MISMATCHES,
            dimensions=_dimensions(AUDIT),
            statistic="Maximum",
            period=DAY_SECONDS,
            evaluation_periods=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            threshold=args.alarms.audit_findings,
            treat_missing_data="notBreaching",
            alarm_actions=self._topics(),
            opts=self._child,
        )

    def _aws_egress(self) -> None:
        args = self._args
        queries: list[cloudwatch.MetricAlarmMetricQueryArgsDict] = [
            {
                "id": step,
                "metric": {
                    "namespace": DEFAULT_METRICS_NAMESPACE,
                    "metric_name": BYTES_WIRE,
                    "dimensions": _dimensions(step),
                    "period": HOUR_SECONDS,
                    "stat": "Sum",
                },
                "return_data": False,
            }
            for step in SENDING
        ]
        total = " + ".join(f"FILL({step}, 0)" for step in SENDING)
        cloudwatch.MetricAlarm(
            f"{self._name}-egress-aws",
            name=args.names.named("artifact-egress"),
            alarm_description="More bytes of model files leave AWS in an hour than lifeboat:alarms allows",
            metric_queries=[*queries, {"id": "sent", "expression": total, "label": "bytes sent", "return_data": True}],
            evaluation_periods=1,
            comparison_operator="GreaterThanThreshold",
            threshold=args.alarms.egress_bytes_per_hour,
            treat_missing_data="notBreaching",
            alarm_actions=self._topics(),
            opts=self._child,
        )

    def _google_findings(self) -> None:
        metric = logging.Metric(
            f"{self._name}-findings-metric",
            name=self._args.names.named("artifact-findings"),
            project=self._args.project,
            description="Audits that found as much as lifeboat:alarms tells of",
            filter=" AND ".join(
                [
                    *_lines(self._args.names.named(AUDITOR), (AUDIT,)),
                    f"jsonPayload.{MISMATCHES}>={self._args.alarms.audit_findings}",
                ]
            ),
            metric_descriptor={"metric_kind": "DELTA", "value_type": "INT64"},
            opts=self._child,
        )
        self._policy(
            "findings",
            metric,
            "Audit of model versions: run ./lifeboat verify models --repair",
            f"sum(increase({_series(self._args.names.named('artifact-findings'))}[1d])) > 0",
        )

    def _google_egress(self) -> None:
        metric = logging.Metric(
            f"{self._name}-egress-metric",
            name=self._args.names.named("artifact-egress"),
            project=self._args.project,
            description="Bytes of model files that leave Google Cloud, a value for each batch or file",
            filter=" AND ".join(_lines(self._args.names.named(SENDER), SENDING)),
            value_extractor=f"EXTRACT(jsonPayload.{BYTES_WIRE})",
            metric_descriptor={"metric_kind": "DELTA", "value_type": "DISTRIBUTION", "unit": "By"},
            opts=self._child,
        )
        series = _series(self._args.names.named("artifact-egress"), "_sum")
        self._policy(
            "egress",
            metric,
            "More bytes of model files leave Google Cloud in an hour than lifeboat:alarms allows",
            f"sum(increase({series}[1h])) > {self._args.alarms.egress_bytes_per_hour}",
        )

    def _policy(self, what: str, metric: logging.Metric, text: str, query: str) -> None:
        args = self._args
        channel = args.alarms.google_channel
        monitoring.AlertPolicy(
            f"{self._name}-{what}-gcp",
            project=args.project,
            display_name=args.names.named(f"artifact-{what}"),
            combiner="OR",
            conditions=[
                {
                    "display_name": text,
                    "condition_prometheus_query_language": {
                        "query": query,
                        "duration": "0s",
                        "evaluation_interval": f"{EVALUATION_SECONDS}s",
                        # Nothing has been written to a new metric yet.
                        "disable_metric_validation": True,
                    },
                }
            ],
            documentation={"content": text, "mime_type": "text/markdown"},
            notification_channels=[channel] if channel else [],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[metric]),
        )

    def _topics(self) -> list[str]:
        topic = self._args.alarms.aws_topic
        return [topic] if topic else []


def _dimensions(step: str) -> dict[str, str]:
    return {"site": Site.AWS.value, "path": PATH, "step": step}


def _lines(function: str, steps: tuple[str, ...]) -> list[str]:
    """Return the parts of a filter for the metric lines of a function's steps."""
    named = " OR ".join(f'"{step}"' for step in steps)
    return [
        'resource.type="cloud_run_revision"',
        f'resource.labels.service_name="{function}"',
        f'jsonPayload.path="{PATH}"',
        f"jsonPayload.step=({named})",
    ]


def _series(metric: str, suffix: str = "") -> str:
    """Return a log-based metric's name in PromQL (https://cloud.google.com/monitoring/promql/promql-mapping)."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", metric)
    return f'logging_googleapis_com:user_{name}{suffix}{{monitored_resource="cloud_run_revision"}}'
