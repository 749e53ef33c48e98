"""The charts of a run, from its history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from deeptune.formatting import safe
from deeptune.report.tables import TITLES
from deeptune.show.chart import Chart
from deeptune.show.history import Track
from deeptune.show.series import Series, smooth
from deeptune.show.view import View, chosen_metric

T = TypeVar("T")
UNITS = ("step", "epoch", "time")
SMOOTHING = (0.0, 0.6, 0.9, 0.98)


@dataclass(frozen=True)
class Setting:
    """Settings of curves: axes, smoothing, metric (by its place in `metrics`), and part of the x axis."""

    unit: str = "step"
    log: bool = False
    smoothing: float = 0.6
    metric: int = 0
    window: tuple[float, float] | None = None


def after(value: T, choices: Sequence[T]) -> T:
    """Return the next choice, and the first after the last."""
    return choices[(choices.index(value) + 1) % len(choices)]


def metrics(view: View) -> list[str]:
    """Return the metrics of val that there are curves of: the one that chooses the best epoch, then the others."""
    names = [name.removeprefix("val/") for name in view.history.epochs.values if name.startswith("val/")]
    chosen = chosen_metric(view)
    return sorted((name for name in names if name != "loss"), key=lambda name: name != chosen)


def loss_chart(view: View, setting: Setting) -> Chart:
    """Return the loss of each step (as it is beneath, and smoothed), and of val after each epoch."""
    history = view.history
    series = _smoothed(history.steps, "loss", "train", "train", setting)
    if (val := history.epochs.values.get("val/loss")) is not None:
        x = history.epochs.x(setting.unit)
        series.append(Series("val", x, val, "val", "o", mark=_best(view)))
    return _chart(view, "loss", series, setting)


def metric_chart(view: View, name: str, setting: Setting) -> Chart:
    """Return a metric of val after each epoch."""
    epochs = view.history.epochs
    series = [Series("val", epochs.x(setting.unit), epochs.values[f"val/{name}"], "val", "o", mark=_best(view))]
    return _chart(view, TITLES.get(name, safe(name)), series, setting)


def chart_of(view: View, name: str, setting: Setting, pinned: View | None = None) -> Chart:
    """Return the chart of `loss`, or of a metric of val; behind it the same of a `pinned` run, on val."""
    chart = loss_chart(view, setting) if name == "loss" else metric_chart(view, name, setting)
    epochs = pinned.history.epochs if pinned is not None else None
    if epochs is None or (y := epochs.values.get(f"val/{name}")) is None:
        return chart
    behind = Series("pinned", epochs.x(setting.unit), y, "pinned", quiet=True)
    return replace(chart, series=[behind, *chart.series])


def step_chart(view: View, name: str, title: str, style: str, setting: Setting) -> Chart:
    """Return a value that each report of a step has; what is smooth by itself is drawn as it is."""
    setting = setting if name == "gradient_norm" else replace(setting, smoothing=0.0)
    chart = _chart(view, title, _smoothed(view.history.steps, name, "", style, setting), setting)
    return replace(chart, from_zero=name == "waiting")


def sample_chart(view: View, names: dict[str, str], title: str) -> Chart:
    """Draw samples of memory, processor or devices over time; `names` gives each a word for the legend."""
    samples = view.history.samples
    styles = ("first", "second", "third", "fourth")
    signs = "oxv#"
    series = [
        Series(word, samples.time, samples.values[name], styles[number % 4], signs[number % 4])
        for number, (name, word) in enumerate(names.items())
        if name in samples.values
    ]
    return Chart(series, "time", title=title, growing=not view.state.over, from_zero=True)


def _smoothed(track: Track, name: str, word: str, style: str, setting: Setting) -> list[Series]:
    x, y = track.x(setting.unit), track.values.get(name)
    if y is None:
        return []
    if not setting.smoothing:
        return [Series(word, x, y, style)]
    raw = Series(word, x, y, "train-raw", quiet=True)
    return [raw, Series(word, x, smooth(y, setting.smoothing), style)]


def _best(view: View) -> int | None:
    """Return the place of the epoch that is kept as the best."""
    best = view.best.epoch if view.best else (view.status.get("best") or {}).get("epoch")
    numbers = view.history.epochs.epoch
    if best is None or not numbers:
        return None
    place = bisect_left(numbers, best)
    return place if place < len(numbers) and numbers[place] == best else None


def _chart(view: View, title: str, series: list[Series], setting: Setting) -> Chart:
    return Chart(series, setting.unit, setting.log, title, growing=not view.state.over, window=setting.window)
