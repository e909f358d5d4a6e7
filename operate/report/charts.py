"""Pictures of a report as SVG text: no script, no outside file, colours that follow the reader's light or dark setting.

Everything is drawn in a fixed coordinate system and scaled by the page, so it reads the same on a phone.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from operate.report.result import Artifact, LagSample, Mark, RequestSecond

WIDTH = 720
HEIGHT = 240
LEFT = 72
RIGHT = 26
TOP = 50
MARK_RADIUS = 10
BOTTOM = 28


def requests_timeline(seconds: Sequence[RequestSecond], marks: Sequence[Mark]) -> Markup:
    """Draw requests per second, stacked by the site that answered, with failed ones on top and the marks as lines."""
    if not seconds:
        return _empty("no request was sent")
    last = max(max(row.second for row in seconds) + 1, math.ceil(max((mark.second for mark in marks), default=0)))
    tallest = max(row.aws + row.gcp + row.failed for row in seconds) or 1
    step = (WIDTH - LEFT - RIGHT) / last
    bars = []
    for row in seconds:
        base = 0
        for name, count in (("aws", row.aws), ("gcp", row.gcp), ("failed", row.failed)):
            if count:
                top = _y(base + count, tallest)
                height = _y(base, tallest) - top
                bars.append(
                    f'<rect class="{name}" x="{LEFT + row.second * step:.1f}" y="{top:.1f}"'
                    f' width="{max(step - 0.6, 0.4):.1f}" height="{height:.1f}">'
                    f"<title>second {row.second}: {count} {name}</title></rect>"
                )
                base += count
    return _svg(
        "Requests per second by the site that answered",
        _axes(tallest, last, "requests/s") + "".join(bars) + _marks(marks, step),
    )


def lag_chart(there: Sequence[LagSample], back: Sequence[LagSample], marks: Sequence[Mark], last_second: int) -> Markup:
    """Draw each feature row's lag in milliseconds on a logarithmic scale over the time it was written, both ways."""
    samples = [*there, *back]
    if not samples:
        return _empty("no feature row was measured")
    last = max(last_second, 1)
    step = (WIDTH - LEFT - RIGHT) / last
    low = 0
    high = max(2, math.ceil(math.log10(max(sample.lag_ms for sample in samples) + 1)))

    def y(lag_ms: float) -> float:
        share = (math.log10(max(lag_ms, 1)) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(10**power):.1f}" y2="{y(10**power):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{y(10**power) + 4:.1f}" text-anchor="end">{_milliseconds(10**power)}</text>'
        for power in range(low, high + 1)
    )
    dots = "".join(
        f'<circle class="dot {way}" cx="{LEFT + sample.second * step:.1f}" cy="{y(sample.lag_ms):.1f}" r="2"/>'
        for way, some in (("there", there), ("back", back))
        for sample in some
    )
    return _svg("Lag of feature rows to the other site", grid + _seconds_axis(last) + dots + _marks(marks, step))


def bytes_chart(artifacts: Sequence[Artifact]) -> Markup:
    """Draw, for each model version, the bytes of its files beside the bytes that crossed to the other cloud."""
    if not artifacts:
        return _empty("no version was published")
    largest = max(artifact.bytes_raw for artifact in artifacts) or 1
    line = 54
    begin = 24
    height = begin + line * len(artifacts)
    rows = []
    for index, artifact in enumerate(artifacts):
        top = begin + index * line
        rows.append(
            f'<text class="tick" x="{LEFT}" y="{top - 4}">{escape(artifact.version[:8])} {escape(artifact.kind)}'
            f" from {escape(artifact.origin)}</text>"
        )
        for offset, name, size in ((0, "raw", artifact.bytes_raw), (16, "wire", artifact.bytes_wire)):
            width = (WIDTH - LEFT - 150) * size / largest
            rows.append(
                f'<rect class="{name}" x="{LEFT}" y="{top + offset}" width="{width:.1f}" height="13"/>'
                f'<text class="tick" x="{LEFT + width + 6:.1f}" y="{top + offset + 11}">'
                f"{size / 1e6:,.{2 if size < 1e6 else 1}f} MB {'of files' if name == 'raw' else 'sent'}</text>"
            )
    return _svg("Bytes of each version: files and wire", "".join(rows), height)


def _y(value: float, tallest: float) -> float:
    return HEIGHT - BOTTOM - value / tallest * (HEIGHT - TOP - BOTTOM)


def _axes(tallest: int, last: int, unit: str) -> str:
    ticks = sorted({0, tallest // 2, tallest})
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(tick, tallest):.1f}" y2="{_y(tick, tallest):.1f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{_y(tick, tallest) + 4:.1f}" text-anchor="end">{tick}</text>'
        for tick in ticks
    )
    return f'{grid}<text class="tick" x="4" y="{TOP - 14}">{escape(unit)}</text>' + _seconds_axis(last)


def _seconds_axis(last: int) -> str:
    step = (WIDTH - LEFT - RIGHT) / last
    every = max(1, round(last / 6 / 5) * 5) if last > 12 else max(1, last // 6)
    return "".join(
        f'<text class="tick" x="{LEFT + second * step:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{second} s</text>'
        for second in range(0, last + 1, every)
    )


def _marks(marks: Sequence[Mark], step: float) -> str:
    drawn = []
    for number, mark in enumerate(marks, start=1):
        x = LEFT + mark.second * step
        # Neighbours take turns in height, or they would cover each other; the page lists what the numbers mean.
        y = MARK_RADIUS + 1 + (number % 2) * (2 * MARK_RADIUS + 1)
        drawn.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{HEIGHT - BOTTOM}"/>'
            f'<circle class="flag" cx="{x:.1f}" cy="{y}" r="{MARK_RADIUS}"/>'
            f'<text class="number" x="{x:.1f}" y="{y + 4}" text-anchor="middle">{number}'
            f"<title>{escape(mark.label)}</title></text>"
        )
    return "".join(drawn)


def _milliseconds(value: int) -> str:
    return f"{value} ms" if value < 1000 else f"{value // 1000} s"


def _empty(reason: str) -> Markup:
    return _svg(reason, f'<text class="label" x="{LEFT}" y="{HEIGHT // 2}">{escape(reason)}</text>')


def _svg(title: str, body: str, height: int = HEIGHT) -> Markup:
    return Markup(  # noqa: S704 - every text put into the body is escaped where it is put
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
