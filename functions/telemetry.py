"""Log lines and metrics as JSON lines on standard output, the one form that both clouds collect without an agent.

CloudWatch reads metrics out of the `_aws` member (embedded metric format,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html);
Cloud Logging takes the same members as jsonPayload, and log-based metrics read them there. No row content and no secret is
ever passed in here.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping

LOGGER = logging.getLogger("lifeboat")

# The only fields that a log call may add with `extra`; what is not listed is not written.
_FIELDS = ("request_id", "site", "model", "version", "key", "outcome", "reason", "epoch")


class _JsonLines(logging.Formatter):
    """One JSON object a line, with the severity name that Cloud Logging understands."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "time_ms": int(record.created * 1000),
        }
        line |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure() -> None:
    """Send this room's log lines to standard output as JSON; calling it again changes nothing."""
    if LOGGER.handlers:
        return
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    # The Lambda runtime hangs its own handler on the root logger, which would write every line twice.
    LOGGER.propagate = False


def emit(namespace: str, dimensions: Mapping[str, str], metrics: Mapping[str, tuple[float, str]]) -> None:
    """Write one metric line: `metrics` maps a name to its value and its CloudWatch unit."""
    line: dict[str, object] = {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": namespace,
                    "Dimensions": [list(dimensions)],
                    "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in metrics.items()],
                }
            ],
        },
        **dimensions,
        **{name: value for name, (value, _) in metrics.items()},
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
