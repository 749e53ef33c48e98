"""The charts of the monitor's pages, by the ids of their widgets."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from deeptune.show import curves
from deeptune.show.chart import Chart
from deeptune.show.curves import Setting
from deeptune.show.view import View
from tui.widgets.monitor.machine import devices

Plots = dict[str, Callable[[], Chart]]
STEP_CHARTS = {  # by the widget: the value, its title, its style
    "rate-now": ("learning_rate", "learning rate", "rate"),
    "norm-now": ("gradient_norm", "gradient norm", "norm"),
    "speed-now": ("rate", "rows/s", "val"),
    "learning-rate": ("learning_rate", "learning rate", "rate"),
    "gradient-norm": ("gradient_norm", "gradient norm", "norm"),
    "waiting": ("waiting", "share of time waiting for data", "val"),
}


def curve_plots(view: View, setting: Setting, behind: View | None, *, both: bool) -> Plots:
    """Plot the loss and the chosen metric if there is room for `both`, else the chosen one, and the values of steps."""
    names = ["loss", *curves.metrics(view)]
    chosen = names[setting.metric % len(names)]
    other = chosen if chosen != "loss" else names[1 % len(names)]
    return {
        "first": partial(curves.chart_of, view, "loss" if both else chosen, setting, behind),
        "second": partial(curves.chart_of, view, other, setting, behind),
        **_of_steps(view, setting, "rate-now", "norm-now", "speed-now"),
    }


def without_values(view: View) -> set[str]:
    """Find the charts of steps that stay empty: a head that is an exact minimum has no learning rate."""
    steps = view.history.steps
    if not len(steps):
        return set()
    return {id for id, (name, *_) in STEP_CHARTS.items() if all(map(math.isnan, steps.values[name]))}


def optimizer_plots(view: View, setting: Setting) -> Plots:
    """Plot learning rate, gradient norm and waiting time."""
    return _of_steps(view, setting, "learning-rate", "gradient-norm", "waiting")


def _of_steps(view: View, setting: Setting, *ids: str) -> Plots:
    return {id: partial(curves.step_chart, view, *STEP_CHARTS[id], setting) for id in ids}


def machine_plots(view: View) -> Plots:
    """Plot memory and utilisation of the GPUs, or of the processor if there are none."""
    gpus = {f"gpu{number}/memory_gib": f"GPU {number}" for number in devices(view)}
    memory = {"process_gib": "of this run", "free_gib": "free"} if not gpus else {"process_gib": "host", **gpus}
    use = {f"gpu{number}/utilisation": f"GPU {number}" for number in devices(view)} or {"cpu_percent": "processor"}
    return {
        "memory": partial(curves.sample_chart, view, memory, "memory, GiB"),
        "use": partial(curves.sample_chart, view, use, "use, percent"),
    }


def setting_notes(setting: Setting, *, pinned: bool) -> tuple[str, str]:
    """Describe how curves are drawn, at length and in short."""
    smoothed, log = setting.smoothing, setting.log
    long = f"by {setting.unit}{' · log y' if log else ''}{f' · smoothed {smoothed:g}' if smoothed else ''}"
    short = f"{setting.unit}{' log' if log else ''}{f' ~{smoothed:g}' if smoothed else ''}"
    return long + (" · a pinned run behind" if pinned else ""), short
