"""A chart as SVG for a notebook: characters that draw curves in a terminal have other widths in a browser's fonts."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from deeptune.formatting import safe
from deeptune.show.chart import Chart
from deeptune.show.series import Series

WIDTH, HEIGHT = 720, 190
LEFT, RIGHT, TOP, BOTTOM = 60, 10, 24, 24  # margins
MAX_POINTS = 1000  # points of a line, at most: more than there are pixels say nothing
COLOURS = {"train": "#2b6cb0", "train-raw": "#8fb3d9", "val": "#c05621"}  # readable on white and on black
GREY = "#888"


def chart_svg(chart: Chart) -> str:
    """Return the lines of a chart with their legend and the ends of both axes.

    Nothing where there is no line to draw.
    """
    lines = [(series, _points(series)) for series in chart.series]
    points = [point for _, some in lines for point in some]
    if not any(len(some) > 1 for _, some in lines):
        return ""
    (left, right), (low, high) = (_range([point[axis] for point in points]) for axis in (0, 1))

    def place(point: tuple[float, float]) -> str:
        x = LEFT + (point[0] - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - point[1]) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width:{WIDTH}px;width:100%;font:12px sans-serif" '
        f'role="img" aria-label="{_text(chart.title)}">',
        f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}" '
        f'fill="none" stroke="{GREY}" stroke-opacity="0.5"/>',
        _label(LEFT - 6, TOP + 10, f"{high:.4g}", "end"),
        _label(LEFT - 6, HEIGHT - BOTTOM, f"{low:.4g}", "end"),
        _label(LEFT, HEIGHT - 8, f"{left:,.0f}"),
        _label(WIDTH - RIGHT, HEIGHT - 8, f"{chart.unit} {right:,.0f}", "end"),
        _label(LEFT, TOP - 9, chart.title),
    ]
    named = LEFT + 60
    for series, some in lines:
        colour = COLOURS.get(series.style, GREY)
        path = " ".join(map(place, some))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if series.name and not series.quiet:
            parts.append(_label(named, TOP - 9, f"— {series.name} {some[-1][1]:.4g}" if some else "", colour=colour))
            named += 120
    return "".join([*parts, "</svg>"])


def _points(series: Series) -> list[tuple[float, float]]:
    """Return the points of a line without its gaps, evenly thinned, with the last."""
    found = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    stride = max(1, math.ceil(len(found) / MAX_POINTS))
    return found[::-stride][::-1]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _label(x: float, y: float, text: str, anchor: str = "start", colour: str = GREY) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{_text(text)}</text>'


def _text(value: str) -> str:
    return html.escape(safe(value))
