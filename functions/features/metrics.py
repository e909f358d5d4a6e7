"""The apply path's metric line: every outcome counted, and how old rows were when they landed."""

from functions import telemetry
from functions.features.apply import Result, percentile
from functions.settings import Site


def report(namespace: str, site: Site, result: Result) -> None:
    """Write one line for a batch that came from `site`'s store; a lag is given only when rows landed."""
    metrics: dict[str, tuple[float, str]] = {
        outcome.value: (count, "Count") for outcome, count in result.outcomes.items()
    }
    if result.lags_ms:
        metrics |= {
            "lag_ms_p50": (percentile(result.lags_ms, 0.5), "Milliseconds"),
            "lag_ms_p99": (percentile(result.lags_ms, 0.99), "Milliseconds"),
            "lag_ms_max": (max(result.lags_ms), "Milliseconds"),
        }
    telemetry.emit(namespace, {"source": site, "path": "features"}, metrics)
