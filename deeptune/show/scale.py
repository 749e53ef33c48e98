"""Axes: where ticks are, and what is written beside them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

_NICE = (1.0, 2.0, 5.0, 10.0)
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_NARROW = 1e-9  # width of a range, as a share of its values, below which it has too few floats to be an axis


def axis_range(low: float, high: float, *, log: bool = False) -> tuple[float, float]:
    """Return the ends of an axis that holds all from `low` to `high`; wider where that is one value, or nearly."""
    if high - low > _NARROW * max(abs(low), abs(high)):
        return low, high
    if log:
        return max(low / 2, 5e-324), min(high, 8e307) * 2
    around = abs(high) / 10 or 1.0
    return low - around, high + around


def roomy_range(low: float, high: float, *, log: bool = False) -> tuple[float, float]:
    """Return a wider range whose ends move in leaps, so that an axis stays as it is while its data slowly grow."""
    low, high = axis_range(low, high, log=log)
    if log:
        below, above = math.floor(math.log10(low) * 5) / 5, math.ceil(math.log10(high) * 5) / 5
        return 10.0**below if low > 1e-300 else low, 10.0**above if high < 1e300 else high
    if not math.isfinite(high - low):
        return low, high
    leap = 10.0 ** math.floor(math.log10(high - low)) / 4
    return math.floor(low / leap) * leap, math.ceil(high / leap) * leap


def nice_ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """Return at most `most` multiples of 1, 2 or 5 times a power of ten within [low, high].

    They are multiples of integers when `whole`.
    """
    raw = (high / 2 - low / 2) / max(most, 1) * 2
    if not (math.isfinite(raw) and raw > 0) or most < 1:
        return []
    power = 10.0 ** math.floor(math.log10(raw))
    for size in (*_NICE, 20.0, 50.0, 100.0):
        step = max(size * power, 1.0) if whole else size * power
        if not math.isfinite(step):
            break
        ticks = _multiples(low, high, step)
        if len(ticks) <= most:
            return ticks
    return []


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [min(max(step * index, low), high) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose at most `most` powers of ten within [low, high].

    Where there are few powers, their 2- and 5-fold are added; where even these are few, the ticks are nice_ticks.
    """
    if most < 1:
        return []
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = range(first, last + 1)
    if len(powers) >= 2:
        stride = math.ceil(len(powers) / most)
        if stride == 1 and 3 * len(powers) <= most:
            return _between(low, high, first, last)
        return [min(max(10.0**power, low), high) for power in powers if power % stride == 0][:most]
    finer = _between(low, high, first, last)
    return finer if 2 <= len(finer) <= most else nice_ticks(low, high, most)


def _between(low: float, high: float, first: int, last: int) -> list[float]:
    ticks = [size * 10.0**power for power in range(first - 1, last + 1) for size in _NICE[:3]]
    return [tick for tick in ticks if low <= tick <= high]


def time_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` round times (in seconds) within [low, high]."""
    span = high - low
    place = bisect_left(_SECONDS, span / max(most, 1))
    steps: Sequence[float] = _SECONDS[place:] or [day * 86400.0 for day in (2, 5, 10, 20, 50, 100, 200, 500, 1000)]
    for step in steps:
        if len(ticks := _multiples(low, high, step)) <= most:
            return ticks
    return []


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Return the ticks as text, with as many decimals as they need, all alike: `0.25`, `0.50`; `10k`; `1e-05`."""
    if not ticks:
        return []
    largest = max(abs(tick) for tick in ticks)
    step = min((b - a for a, b in pairwise(ticks)), default=largest) or 1.0
    if largest >= 1e9 or (0 < largest < 1e-4):
        return [f"{tick:.{_digits(ticks)}e}" if tick else "0" for tick in ticks]
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if step >= unit / 2 and largest >= 10 * unit:
            return [f"{tick / unit:g}{letter}" if tick else "0" for tick in ticks]
    if len(ticks) > 2 and ticks[0] > 0 and all(b > 1.9 * a for a, b in pairwise(ticks)):
        # A log axis: each as short as it can be.
        return [f"{tick:g}" for tick in ticks]
    decimals = next((count for count in range(10) if all(_is_whole(tick * 10**count) for tick in ticks)), 9)
    return [f"{tick:.{decimals}f}" for tick in ticks]


def _digits(ticks: Sequence[float]) -> int:
    """Count the decimals of the mantissa that tell the ticks apart."""
    exact = (len({f"{tick:.{digits}e}" for tick in ticks}) == len(set(ticks)) for digits in range(10))
    return next((digits for digits, good in enumerate(exact) if good), 9)


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6 * max(1.0, abs(value))


def time_labels(ticks: Sequence[float]) -> list[str]:
    """Format seconds as `45s`, `2:30` (minutes and seconds), `3h`, `3h30` or `2d`."""
    return [_time_label(tick) for tick in ticks]


def _time_label(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours < 48:
        return f"{hours}h" + (f"{minutes:02}" if minutes else "")
    return f"{hours / 24:g}d"
