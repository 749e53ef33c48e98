"""95% confidence intervals of metrics, from the scored rows or groups of rows.

Simulations (`tests/unit/test_report_interval_coverage.py`) decided on the methods and on the fewest rows and groups:
where coverage is not near 95%, a metric has no interval and a sentence says why. Two cases stay somewhat below it: RMSE
and R² of errors with very long tails (log-normal: 90% with 50 rows), and accuracies from 0.95 with 10 rows or groups
(90%). Calibration errors have intervals that are wider than need be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deeptune.formatting import joined
from deeptune.report.doubts import MIN_ROWS
from deeptune.report.influence import (
    ClassCounts,
    Estimate,
    Estimates,
    area_estimate,
    class_estimates,
    effective_units,
    label_estimates,
    label_estimates_of_one,
    number_estimates,
    target_estimates,
)
from deeptune.report.interval_methods import (
    LEVEL,
    Interval,
    calibration_interval,
    distance_interval,
    effective_rows,
    fisher_interval,
    jackknife_deviation,
    mean_interval,
    positive_interval,
    student,
    wilson,
    with_groups,
)
from deeptune.spec.metrics import METRICS
from deeptune.spec.tasks import TASKS, USUAL_TASKS
from deeptune.tasks.confidence.held_out import units_of
from deeptune.tasks.metric_functions import ratio

__all__ = [
    "LEVEL",
    "Bounded",
    "Interval",
    "Intervals",
    "MetricIntervals",
    "classification_intervals",
    "label_intervals",
    "regression_intervals",
]

MIN_GROUPS = 10
MIN_CLASS_ROWS = 3  # rows of each class that averages over classes need
LEFT_OUT_EXACTLY = ("mae", "rmse", "r2")  # metrics whose jackknife is one of sums, which needs no linearisation
MIN_UNITS_RMSE = 20  # rows or groups that RMSE needs: squares have a longer tail than absolute values
MIN_EFFECTIVE_GROUPS = 4.0  # groups of equal size that would vary as much, at least

# Metrics that need some rows of every class.
OVER_CLASSES = ("balanced_accuracy", "macro_f1", "macro_f1_present", "roc_auc")
CORRELATIONS = ("mcc", "quadratic_weighted_kappa")
OVER_LABELS = ("macro_f1", "macro_roc_auc", "macro_average_precision")

Intervals = dict[str, Interval]


@dataclass(frozen=True)
class MetricIntervals:
    """Intervals by metric, a description of their method, and reasons why metrics have none.

    `details` holds those of each class, label or target, in their order; empty where there are none.
    """

    intervals: Intervals = field(default_factory=dict)
    method: str = ""
    reasons: tuple[str, ...] = ()
    details: tuple[Intervals, ...] = ()


def classification_intervals(
    truth: np.ndarray,
    prediction: np.ndarray,
    classes: int,
    groups: np.ndarray | None = None,
    probabilities: np.ndarray | None = None,
) -> MetricIntervals:
    """Compute the intervals of all metrics of classes, and of precision, recall, F1 and ROC AUC of each class.

    truth, prediction: int64 (N,) class indices; groups: the group of each row, in any type, where rows depend on one
    another; probabilities: float (N, C), without which their metrics have no interval.

    Metrics with a lowest and a highest value have Wilson's interval (1927) with an effective sample size: the number of
    rows of which a proportion of that value would vary as much. The variance is that of the linearised metric
    (Takahashi et al. 2022 for F1, DeLong et al. 1988 for the area). Groups are taken into account as Korn & Graubard
    (1998) do, with Student's t by Kish's number of groups. Log loss has the intervals of `regression_intervals`.
    """
    if reason := too_few(len(truth), groups):
        return MetricIntervals(reasons=(reason,))
    n, unit = len(truth), units_of(groups, len(truth))
    counts = ClassCounts(truth, prediction, classes)
    estimates = class_estimates(truth, prediction, classes, probabilities)
    support, seen = counts.support, counts.support > 0
    # Where no error was seen: rows of classes with equal recall, of which the average over classes would vary as much.
    of_classes = seen.sum() ** 2 / (1 / support[seen]).sum()
    few = int((support < MIN_CLASS_ROWS).sum())
    reasons = []
    if few:
        for name in OVER_CLASSES:
            estimates.pop(name, None)
        absent = f"{few:,} of {classes:,} classes {'has' if few == 1 else 'have'} fewer than {MIN_CLASS_ROWS} rows here"
        reasons.append(f"Averages over classes and ROC AUC have no interval: {absent}.")
    # F1 of few rows is too low by this much on average (second order of the ratio).
    lost = ratio(counts.f1 * (1 - counts.f1), support + counts.predicted)
    lost_by = {
        "macro_f1": lost.mean(),
        "macro_f1_present": lost.sum() / counts.present.sum(),
        "weighted_f1": lost @ support / n,
    }
    bounded = Bounded(unit, counts.hit, grouped=groups is not None)
    shares = {name: one for name, one in estimates.items() if METRICS[name].interval == "proportion"}
    intervals = bounded.intervals(
        shares,
        most={name: of_classes if name in OVER_CLASSES + CORRELATIONS else n for name in shares},
        lost=lost_by,
        more={"mcc": 4.0},
    )
    low, high = mean_interval(np.abs(prediction - truth).astype(float), unit)
    # Where every row is right, that many may be wrong by a rank.
    intervals["rank_mae"] = (low, high) if high > 0 else (0.0, 1 - intervals["accuracy"][0])
    if probabilities is not None:
        losses = estimates["log_loss"].influence + estimates["log_loss"].value
        intervals["log_loss"] = mean_interval(losses, unit)
        confidence = np.asarray(probabilities, float).max(axis=1)
        intervals["ece"] = calibration_interval(estimates["ece"], confidence, counts.hit, unit)
    details = tuple(_class_details(counts, index, bounded, probabilities) for index in range(classes))
    method = "Wilson score intervals"
    if groups is not None:
        method += f" with an effective sample size from the variance between {unit.max() + 1:,} groups"
    elif "macro_f1" in intervals:
        method += " (for averages over classes, with an effective sample size from the linearised variance)"
    if probabilities is not None:
        method += "; log loss: jackknife; calibration error: the lower end is reduced by the error expected by chance"
    return MetricIntervals(intervals, method, tuple(reasons), details)


def label_intervals(
    truth: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None = None
) -> MetricIntervals:
    """Compute the intervals of all metrics of labels, and of those of each label.

    truth, prediction: bool (N, L); probabilities: float64 (N, L); groups as for `classification_intervals`, whose
    method it is. A row counts once, with all its labels.
    """
    if reason := too_few(len(truth), groups):
        return MetricIntervals(reasons=(reason,))
    n, labels = truth.shape
    unit = units_of(groups, n)
    estimates = label_estimates(truth, prediction, probabilities)
    support = truth.sum(axis=0)
    # A ranking has no interval where rows without the label are as few; one that all rows have is not ranked.
    rarest = np.where((support > 0) & (support < n), np.minimum(support, n - support), n)
    reasons = []
    for names, short in (
        (OVER_LABELS[:1], support < MIN_CLASS_ROWS),
        (OVER_LABELS[1:], rarest < MIN_CLASS_ROWS),
    ):
        left_out = [name for name in names if short.any() and estimates.pop(name, None) is not None]
        if left_out:
            count, verb = int(short.sum()), "has" if len(left_out) == 1 else "have"
            reasons.append(
                f"{_titles(left_out)} {verb} no interval: {count:,} of {labels:,} labels "
                f"{'has' if count == 1 else 'have'} fewer than {MIN_CLASS_ROWS} rows with or without it here."
            )
    of_labels = min(n, labels**2 / (1 / np.maximum(support, 1)).sum())
    bounded = Bounded(unit, (truth == prediction).all(axis=1), grouped=groups is not None)
    intervals = bounded.intervals(
        estimates,
        most={name: of_labels if name in OVER_LABELS else float(n) for name in estimates},
        more={name: float(labels) for name in estimates if name != "macro_average_precision"},
    )
    details = []
    for index in range(labels):
        one = label_estimates_of_one(truth[:, index], prediction[:, index], probabilities[:, index])
        most = _rows_of(truth[:, index], prediction[:, index]) | {
            "average_precision": float(min(support[index], n - support[index]))
        }
        details.append(bounded.intervals(_judged(one, most), most=most))
    method = "Wilson score intervals with an effective sample size"
    if groups is not None:
        method += f", from the variance between {unit.max() + 1:,} groups"
    return MetricIntervals(intervals, method, tuple(reasons), tuple(details))


def regression_intervals(
    truth: np.ndarray,
    prediction: np.ndarray,
    groups: np.ndarray | None = None,
    metrics: Sequence[str] = TASKS[USUAL_TASKS["numbers"]].metrics,
) -> MetricIntervals:
    """Compute the intervals of metrics of one number, or of their means over targets.

    truth, prediction: float64 (N,) or (N, T), where a missing truth is NaN; groups as for `classification_intervals`.

    Each row, or group, is left out once (jackknife). Then Student's t on the logarithm and, for MAE and RMSE, the
    transformation for skewed values of Hall (1992), of which the wider end counts. Spearman's correlation has Fisher's
    interval with the linearised variance. Any other metric with the influence of each row has the jackknife's interval
    by that.
    """
    several = truth.ndim == 2
    truth, prediction = truth.reshape(len(truth), -1), prediction.reshape(len(prediction), -1)
    known = np.isfinite(truth)
    details: tuple[Intervals, ...] = ()
    if several:
        details = tuple(
            regression_intervals(
                truth[rows, at], prediction[rows, at], None if groups is None else groups[rows]
            ).intervals
            for at, rows in enumerate(known.T)
        )
    if reason := too_few_of_targets(truth if several else truth[:, 0], groups):
        return MetricIntervals(reasons=(reason,), details=details)
    unit = units_of(groups, len(truth))
    units = len(np.unique(unit[known.all(axis=1)])) if several else int(unit.max()) + 1
    intervals = _number_intervals(truth, prediction, unit)
    columns = truth[:, 0], prediction[:, 0]
    estimates = target_estimates(truth, prediction) if several else number_estimates(*columns, metrics)
    for name in estimates:
        if name not in LEFT_OUT_EXACTLY and METRICS[name].interval == "error":
            intervals[name] = distance_interval(estimates[name], METRICS[name].range[1] or 0.0, unit)
    intervals = {name: one for name, one in intervals.items() if name in metrics}
    if "spearman" in estimates:
        intervals["spearman"] = fisher_interval(estimates["spearman"], unit)
    what = "rows" if groups is None else "groups"
    reasons = []
    if units < MIN_UNITS_RMSE:
        intervals.pop("rmse", None)
        reasons.append(f"RMSE has no interval: it needs {MIN_UNITS_RMSE} {what}, and here are {units}.")
    over = "rows" if groups is None else f"{int(unit.max()) + 1:,} groups"
    return MetricIntervals(intervals, f"jackknife intervals over {over}", tuple(reasons), details)


def _number_intervals(truth: np.ndarray, prediction: np.ndarray, unit: np.ndarray) -> Intervals:
    """Return the intervals of means over T targets of MAE, RMSE and R²; truth and prediction: float64 (N, T)."""
    known = np.isfinite(truth)
    centred = np.where(known, truth - np.nanmean(truth, axis=0), 0.0)
    error = np.where(known, prediction - truth, 0.0)
    units = int(unit.max()) + 1

    def kept(values: np.ndarray) -> np.ndarray:
        """Sum over all rows (first), then with each of the units left out: float64 (1 + units, T)."""
        sums = np.stack([np.bincount(unit, weights=column, minlength=units) for column in values.T], axis=1)
        return np.concatenate([sums.sum(axis=0, keepdims=True), sums.sum(axis=0) - sums])

    rows, missed = kept(known.astype(float)), np.maximum(kept(np.square(error)), 0)
    each = np.bincount(unit).astype(float)
    quantile = student(effective_units(each) - 1)
    absolute = (np.maximum(kept(np.abs(error)), 0) / rows).mean(axis=1)
    intervals = {"mae": positive_interval(float(absolute[0]), absolute[1:], quantile)}
    if truth.shape[1] == 1:
        squared = (missed / rows)[:, 0]
        low, high = positive_interval(float(squared[0]), squared[1:], quantile)
        intervals["rmse"] = float(np.sqrt(low)), float(np.sqrt(high))
    else:
        roots = np.sqrt(missed / rows).mean(axis=1)
        intervals["rmse"] = positive_interval(float(roots[0]), roots[1:], quantile)
    around = kept(np.square(centred)) - np.square(kept(centred)) / rows
    if (around > 0).all() and (missed > 0).all():
        logarithms = np.log((missed / around).mean(axis=1))
        value, without = float(logarithms[0]), logarithms[1:]
        step = quantile * jackknife_deviation(without)
        centre = value - (units - 1) * (without.mean() - value)  # without the bias of first order
        ends = [value, centre - step, centre + step]
        intervals["r2"] = float(1 - np.exp(max(ends))), float(1 - np.exp(min(ends)))
    return intervals


# Metrics with a lowest and a highest value.


@dataclass(frozen=True)
class Bounded:
    """Wilson's interval with effective rows, of metrics on the same rows.

    unit: int64 (N,), the independent unit of each row; hit: bool (N,), whether its prediction is right.
    """

    unit: np.ndarray
    hit: np.ndarray
    grouped: bool

    def intervals(
        self,
        estimates: Estimates,
        *,
        most: dict[str, float],
        lost: dict[str, float] | None = None,
        more: dict[str, float] | None = None,
    ) -> Intervals:
        """Compute an interval of each metric.

        `most` is the number of rows that a metric is an average over. `lost` is how much it is too low on average.
        `more` is how many times that number of rows it can be worth, where it varies less than a proportion.
        """
        names = list(estimates)
        if not names:
            return {}
        ends = np.array([_range(name) for name in names])
        low, width = ends[:, 0], ends[:, 1] - ends[:, 0]
        n = len(self.unit)
        value = np.clip((np.array([estimates[name].value for name in names]) - low) / width, 0, 1)
        influence = np.stack([estimates[name].influence for name in names]) / width[:, None]
        limit = np.array([[most[name], most[name] * (more or {}).get(name, 1.0)] for name in names], dtype=float).T
        size = effective_rows(value, np.square(influence).sum(axis=1) / n**2, limit)
        if self.grouped:
            size = with_groups(size, value, influence, limit, self.hit, self.unit)
        first, last = wilson(np.clip(value + [(lost or {}).get(name, 0) for name in names], 0, 1), size)
        first, last = low + width * np.minimum(first, value), low + width * np.maximum(last, value)
        return {name: (float(first[at]), float(last[at])) for at, name in enumerate(names)}


def _range(name: str) -> Interval:
    worst, best = METRICS[name].range if name in METRICS else (0.0, 1.0)
    assert worst is not None
    assert best is not None
    return min(worst, best), max(worst, best)


def _class_details(counts: ClassCounts, index: int, bounded: Bounded, probabilities: np.ndarray | None) -> Intervals:
    """Return the intervals of precision, recall, F1 and ROC AUC of one class."""
    positive = counts.truth == index
    most = _rows_of(positive, counts.prediction == index)
    estimates = counts.of_class(index)
    if probabilities is not None:
        area: Estimate | None = area_estimate(positive, np.asarray(probabilities[:, index], float))
        estimates |= {"roc_auc": area} if area is not None else {}
    return bounded.intervals(_judged(estimates, most), most=most)


def _rows_of(positive: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return how many rows the metrics of one class are over."""
    support, said = float(positive.sum()), float(predicted.sum())
    others = len(positive) - support
    both = 4 / (1 / support + 1 / others) if support and others else 0.0
    return {"precision": said, "recall": support, "f1": (support + said) / 2, "roc_auc": both}


def _judged(estimates: Estimates, most: dict[str, float]) -> Estimates:
    """Leave out metrics of one class that are over too few rows."""
    return {name: one for name, one in estimates.items() if most[name] >= MIN_CLASS_ROWS}


def _titles(names: list[str]) -> str:
    titles = [METRICS[name].title for name in names]
    titles = [titles[0], *(title if title[1].isupper() else title[0].lower() + title[1:] for title in titles[1:])]
    return joined(titles)


# Few rows.


def too_few_of_targets(truth: np.ndarray, groups: np.ndarray | None) -> str:
    """Say why rows or groups are too few for an interval over all targets, or return nothing.

    truth: float64 (N,) or (N, T), where NaN is missing. A target that few rows or groups have decides.
    """
    several, known = truth.ndim > 1, np.isfinite(truth.reshape(len(truth), -1)).T
    reasons = (too_few(int(has.sum()), None if groups is None else groups[has], several=several) for has in known)
    return next(filter(None, reasons), "")


def too_few(n: int, groups: np.ndarray | None, *, several: bool = False) -> str:
    """Say why rows or groups are too few for an interval, or return nothing."""
    of = " of one target" if several else ""
    if n < MIN_ROWS:
        rows = f"row{of} is" if n == 1 else f"rows{of} are"
        return f"No interval is given: {n} {rows} too few (at least {MIN_ROWS})."
    if groups is None:
        return ""
    rows_each = np.bincount(units_of(groups, len(groups)))
    if len(rows_each) < MIN_GROUPS:
        return (
            f"No interval is given: rows of one group depend on one another, and {len(rows_each)} "
            f"{f'group{of} is' if len(rows_each) == 1 else f'groups{of} are'} too few (at least {MIN_GROUPS})."
        )
    if effective_units(rows_each) < MIN_EFFECTIVE_GROUPS:
        return (
            f"No interval is given: one group holds {rows_each.max() / len(groups):.0%} of the rows, so the others "
            "are too few."
        )
    return ""
