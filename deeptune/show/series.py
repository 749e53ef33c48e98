"""Series of numbers for charts: columns with gaps, smoothing, and one span of values for each column of cells."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

NAN = math.nan


def column(values: Iterable[float | None]) -> array[float]:
    """Return numbers as a chart takes them; None is a gap, as NaN is."""
    return array("d", (NAN if value is None else value for value in values))


@dataclass(frozen=True)
class Series:
    """A line through points of ascending `x`. A `y` that is not finite (or, on a log axis, not positive) is a gap.

    `style` is a name that the viewer gives a colour; `sign` is its letter where there are no colours. `mark` is the
    index of a point to be marked. A `quiet` series is drawn beneath the others and is not in the legend.
    """

    name: str
    x: array[float]
    y: array[float]
    style: str
    sign: str = ""
    mark: int | None = None
    quiet: bool = False


class Span(NamedTuple):
    """The points in one column of dots: the indices of the first and last, the lowest and highest value."""

    first: int
    last: int
    low: float
    high: float


def smooth(values: Sequence[float], weight: float) -> array[float]:
    """Return the exponential moving average, its start corrected for bias (Kingma and Ba 2014, section 3), gaps kept.

    `weight` in [0, 1) is that of the past: 0 changes nothing.
    """
    mean, total, smoothed = 0.0, 0.0, array("d")
    fresh = 1 - weight
    for value in values:
        if value - value == 0:  # finite
            mean += fresh * (value - mean)
            total += fresh * (1 - total)
            smoothed.append(mean / total)
        else:
            smoothed.append(NAN)
    return smoothed


def gaps_in(y: Sequence[float], *, log: bool) -> list[int]:
    """Return the indices of the values that can't be drawn, ascending."""
    if len(y) and math.isfinite(sum(y)) and not (log and min(y) <= 0):
        return []  # the usual case, at the speed of C
    if log:
        return [index for index, value in enumerate(y) if value - value != 0 or value <= 0]
    return [index for index, value in enumerate(y) if value - value != 0]


def decimate(series: Series, x_range: tuple[float, float], columns: int, *, log: bool = False) -> list[Span | None]:
    """Return what is in each of so many columns of dots over an x range; None where nothing is."""
    x, y, (left, right) = series.x, series.y, x_range
    width = (right - left) / max(columns - 1, 1)
    gaps = gaps_in(y, log=log)
    spans: list[Span | None] = []
    start, gap = bisect_left(x, left - width / 2), 0
    for place in range(columns):
        edge = left + (place + 0.5) * width
        end = bisect_left(x, edge, start) if place < columns - 1 else bisect_left(x, right + width / 2, start)
        gap_end = bisect_left(gaps, end, gap)
        if gap_end == gap:
            part = y[start:end]
            spans.append(Span(start, end - 1, min(part), max(part)) if part else None)
        else:
            holes = set(gaps[gap:gap_end])
            there = [index for index in range(start, end) if index not in holes]
            part = array("d", (y[index] for index in there))
            spans.append(Span(there[0], there[-1], min(part), max(part)) if there else None)
        start, gap = end, gap_end
    return spans
