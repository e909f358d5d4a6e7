"""Writes a report folder: demo.json and index.html, one file each, self-contained."""

import json
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from operate.report import charts
from operate.report.result import Demo, Quantiles, Timeline, TwoWays

# The figures of the article that the project sets out to beat ("Building Disaster Recovery Across Cloud Boundaries for AI
# Services", table of performance metrics), milliseconds and seconds by site.
REFERENCE = {
    "aws": {"inference_ms": 45, "feature_read_ms": 8, "model_load_seconds": 2.1},
    "gcp": {"inference_ms": 52, "feature_read_ms": 12, "model_load_seconds": 2.8},
}
REFERENCE_FAILOVER_SECONDS = 192


@dataclass(frozen=True)
class Live:
    """A line of the table of live data; `rpo` in seconds."""

    name: str
    written: int
    there: Quantiles
    back: Quantiles
    rpo: float


def live(demo: Demo) -> list[Live]:
    """Return the lines of the table of live data, of what the run had."""
    rpo = demo.failover.rpo
    lines: list[tuple[str, str, int, TwoWays]] = [
        ("features", "features", demo.features.written, demo.features),
        ("sessions", "sessions", demo.sessions.saved, demo.sessions),
        *([("users and orders", "userdata", demo.userdata.written, demo.userdata)] if demo.userdata else []),
        ("messages", "bridge", demo.bridge.sent, demo.bridge),
    ]
    return [
        Live(name, written, part.lag_ms, part.lag_back_ms, rpo.get(store, 0.0)) for name, store, written, part in lines
    ]


def write(demo: Demo, timeline: Timeline, folder: Path) -> None:
    """Write both files into a folder, making it."""
    folder.mkdir(parents=True, exist_ok=True)
    body = json.dumps(demo.model_dump(), indent=2)
    (folder / "demo.json").write_text(body + "\n", encoding="utf-8")
    (folder / "index.html").write_text(page(demo, timeline), encoding="utf-8")


def page(demo: Demo, timeline: Timeline) -> str:
    """Render the page of a run as HTML text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    last_second = max((row.second + 1 for row in timeline.requests), default=1)
    return environment.get_template("index.html.j2").render(
        demo=demo,
        reference=REFERENCE,
        marks=timeline.marks,
        reference_failover_seconds=REFERENCE_FAILOVER_SECONDS,
        requests_timeline=charts.requests_timeline(timeline.requests, timeline.marks),
        live=live(demo),
        lag_chart=charts.lag_chart(timeline.lag, timeline.lag_back, timeline.marks, last_second),
        bytes_chart=charts.bytes_chart(demo.artifacts),
    )
