"""Score out-of-fold predictions: one metric that ranks, its 95% interval, and what a constant reaches."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from deeptune.report.intervals import LEVEL, Interval, classification_spread, regression_spread
from deeptune.spec.metrics import METRICS
from deeptune.tasks import Task

RESAMPLES = 200
MIN_UNITS = 10  # rows, or groups, that an interval needs


@dataclass(frozen=True)
class Score:
    """A value of the metric that ranks, with its 95% interval where there is one, and the task's other metrics."""

    value: float | None
    interval: Interval | None
    metrics: dict[str, float | None]


def ranking_metric(task: Task) -> str:
    """Return the metric that backbones are ranked by; more of it is better."""
    return task.info.curve


def score_rows(task: Task, logits: np.ndarray, truth: np.ndarray, groups: np.ndarray | None) -> Score:
    """Score the outputs (N, outputs) of rows. `groups` are codes of rows that depend on one another."""
    task = task.calibrated(logits, truth)
    found = task.score(logits, truth)
    name = ranking_metric(task)
    interval = None if found[name] is None else _interval(task, logits, truth, groups)
    return Score(found[name], interval, {metric: found.get(metric) for metric in task.info.metrics})


def constant_score(task: Task, truth: np.ndarray) -> float | None:
    """Score the best constant prediction in the metric that ranks."""
    value = task.baseline(truth, truth).get(ranking_metric(task))
    return None if value is None else float(value)


def skill(metric: str, value: float | None, baseline: float | None) -> float | None:
    """Return the share of what is to be won over a constant prediction: 0 is no better than it, 1 has no error."""
    best = METRICS[metric].range[1]
    if value is None or baseline is None or best is None or best <= baseline:
        return None
    return max(0.0, (value - baseline) / (best - baseline))


def _interval(task: Task, logits: np.ndarray, truth: np.ndarray, groups: np.ndarray | None) -> Interval | None:
    name = ranking_metric(task)
    if name == "accuracy":
        return classification_spread(truth, logits.argmax(axis=1), task.classes, groups).intervals.get(name)
    if name == "r2" and truth.ndim == 1:
        numbers = task.predictions(logits)["prediction"].to_numpy()
        return regression_spread(truth, numbers, groups).intervals.get(name)
    return _bootstrapped(task, logits, truth, groups)


def _bootstrapped(task: Task, logits: np.ndarray, truth: np.ndarray, groups: np.ndarray | None) -> Interval | None:
    """Return the percentile interval over resampled rows, or groups (Efron & Tibshirani 1993)."""
    from scipy.stats import bootstrap

    unit = np.arange(len(truth)) if groups is None else np.unique(groups, return_inverse=True)[1]
    rows = np.split(np.argsort(unit, kind="stable"), np.cumsum(np.bincount(unit))[:-1])
    if len(rows) < MIN_UNITS:
        return None
    name = ranking_metric(task)

    def statistic(units: np.ndarray) -> float:
        taken = np.concatenate([rows[one] for one in units])
        value = task.score(logits[taken], truth[taken])[name]
        return np.nan if value is None else value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a resample without a class
        found = bootstrap(
            (np.arange(len(rows)),), statistic, n_resamples=RESAMPLES, confidence_level=LEVEL, vectorized=False,
            method="percentile", random_state=0,
        ).confidence_interval  # fmt: skip
    low, high = float(found.low), float(found.high)
    return (low, high) if np.isfinite([low, high]).all() else None
