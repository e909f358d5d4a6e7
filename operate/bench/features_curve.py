"""The curve of how the feature path grows, as one small picture: rows a second against one thing at a time."""

from collections.abc import Sequence
from html import escape
from typing import Protocol

_WIDTH, _HEIGHT = 860, 280
_PANEL, _GAP, _LEFT = 240, 40, 64
_TOP, _BOTTOM = 48, 228
_TITLES = {
    "batch_rows": "rows in a batch",
    "extra_bytes": "bytes of an added value",
    "keys": "keys written again and again",
}
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2933}.small{font-size:11px;fill:#52606d}"
    ".axis{stroke:#9aa5b1;stroke-width:1}.line{fill:none;stroke:#0b69a3;stroke-width:2}.dot{fill:#0b69a3}"
)


class Point(Protocol):
    """Rows a second at one setting of one thing."""

    @property
    def varied(self) -> str: ...
    @property
    def setting(self) -> int: ...
    @property
    def rows_s(self) -> int: ...


def curve(points: Sequence[Point], title: str) -> str:
    """Return the picture as SVG; one panel for each thing that was varied, all on one scale of rows a second."""
    most = max(point.rows_s for point in points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escape(title)}"><style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{_LEFT}" y="20">{escape(title)}</text>'
    ]
    for step in range(5):
        y = _height(most * step / 4, most)
        parts.append(
            f'<text class="small" x="{_LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{most * step // 4:,}</text>'
        )
    for number, varied in enumerate(dict.fromkeys(point.varied for point in points)):
        left = _LEFT + number * (_PANEL + _GAP)
        parts += _panel([point for point in points if point.varied == varied], left, most)
        parts.append(f'<text class="small" x="{left}" y="{_BOTTOM + 40}">{escape(_TITLES.get(varied, varied))}</text>')
    return "".join(parts) + "</svg>\n"


def _panel(points: Sequence[Point], left: int, most: int) -> list[str]:
    # Settings grow by factors: evenly spread they read like a logarithm's axis.
    step = _PANEL / max(1, len(points) - 1)
    places = [(left + number * step, _height(point.rows_s, most)) for number, point in enumerate(points)]
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y in places)
    parts = [
        f'<path class="axis" d="M{left} {_TOP}V{_BOTTOM}H{left + _PANEL}" fill="none"/>',
        f'<polyline class="line" points="{line}"/>',
    ]
    for point, (x, y) in zip(points, places, strict=True):
        parts.append(f'<circle class="dot" cx="{x:.0f}" cy="{y:.0f}" r="3"/>')
        parts.append(f'<text class="small" x="{x:.0f}" y="{_BOTTOM + 18}" text-anchor="middle">{_short(point)}</text>')
        parts.append(f'<text class="small" x="{x:.0f}" y="{y - 8:.0f}" text-anchor="middle">{point.rows_s:,}</text>')
    return parts


def _height(rows_s: float, most: int) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * rows_s / max(1, most)


def _short(point: Point) -> str:
    if point.varied == "keys" and not point.setting:
        return "none"
    return f"{point.setting:,}"
