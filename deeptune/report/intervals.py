"""95% confidence intervals of metrics, from the scored rows or groups of rows.

Simulations (`tests/unit/test_report_intervals.py`) decided on the methods and on the fewest rows and groups: where
coverage is not near 95%, a metric has no interval and a sentence says why. Two cases stay somewhat below it: RMSE and
R² of errors with very long tails (log-normal: 90% with 50 rows), and accuracies from 0.95 with 10 rows or groups (90%).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import special

from deeptune.report.doubts import MIN_ROWS

LEVEL = 0.95
MIN_GROUPS = 10
MIN_CLASS_ROWS = 3  # in each class, for averages over classes
MIN_UNITS_RMSE = 20  # squares have a longer tail than absolute values
MIN_EFFECTIVE_GROUPS = 4.0  # groups of one size that would vary as much
MAX_GROUPS_MODELLED = 500  # with more, the variance between groups is known well enough by itself

PROPORTIONS = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1")
ERRORS = ("mae", "rmse", "r2")
QUANTILE = float(special.ndtri((1 + LEVEL) / 2))

Interval = tuple[float, float]
Intervals = dict[str, Interval]


@dataclass(frozen=True)
class Spread:
    """Intervals by metric, a description of their method, and reasons why metrics have none."""

    intervals: Intervals = field(default_factory=dict)
    method: str = ""
    reasons: tuple[str, ...] = ()


def classification_spread(
    truth: np.ndarray, prediction: np.ndarray, classes: int, groups: np.ndarray | None = None
) -> Spread:
    """Compute the intervals of accuracy, balanced accuracy, macro F1 and weighted F1.

    truth, prediction: int64 (N,) class indices; groups: the group of each row, in any type, where rows depend on one
    another. Each interval is Wilson's (1927) with an effective sample size: the number of rows of which a proportion
    of that value would vary as much. The variance is that of the linearised metric (Takahashi et al. 2022 for F1).
    Groups are taken into account as Korn & Graubard (1998) do, with Student's t by Kish's number of groups.
    """
    if reason := _too_few(len(truth), groups):
        return Spread(reasons=(reason,))
    n = len(truth)
    hit = truth == prediction
    support, predicted = (np.bincount(part, minlength=classes) for part in (truth, prediction))
    hits = np.bincount(truth[hit], minlength=classes)
    seen = support > 0
    f1 = _ratio(2 * hits, support + predicted)
    recall = _ratio(hits, support)
    share = support / n
    value = np.minimum([hits.sum() / n, recall[seen].mean(), f1.mean(), f1 @ share], 1.0)
    influence = _influence(truth, prediction, recall, f1)
    # Where no error was seen: rows of classes with equal recall, of which the average over classes would vary as much.
    of_classes = seen.sum() ** 2 / (1 / support[seen]).sum()
    most = np.array([n, of_classes, of_classes, n], dtype=float)
    size = _effective_rows(value, np.square(influence).sum(axis=1) / n**2, most)
    if groups is not None:
        size = _with_groups(size, value, influence, most, hit, _codes(groups))

    # F1 of few rows is too low by this much on average (second order of the ratio).
    lost = _ratio(f1 * (1 - f1), support + predicted)
    low, high = _wilson(value + np.array([0, 0, lost.mean(), lost @ share]), size)
    intervals = {
        name: (float(min(low[at], value[at])), float(max(high[at], value[at]))) for at, name in enumerate(PROPORTIONS)
    }
    reasons = []
    if support.min() < MIN_CLASS_ROWS:
        del intervals["balanced_accuracy"], intervals["macro_f1"]
        few = int((support < MIN_CLASS_ROWS).sum())
        reasons.append(
            f"Balanced accuracy and macro F1 have no interval: {few:,} of {classes:,} classes "
            f"{'has' if few == 1 else 'have'} fewer than {MIN_CLASS_ROWS} rows here."
        )
    method = "Wilson score intervals"
    if groups is not None:
        method += f" with the effective number of rows, from the variance between {_count(groups):,} groups"
    elif "macro_f1" in intervals:
        method += " (averages over classes with their effective number of rows)"
    return Spread(intervals, method, tuple(reasons))


def regression_spread(truth: np.ndarray, prediction: np.ndarray, groups: np.ndarray | None = None) -> Spread:
    """Compute the intervals of MAE, RMSE and R².

    truth, prediction: float64 (N,); groups as for `classification_spread`.

    Each row, or group, is left out once (jackknife). Then Student's t on the logarithm and, for MAE and RMSE, the
    transformation for skewed values of Hall (1992), of which the wider end counts.
    """
    if reason := _too_few(len(truth), groups):
        return Spread(reasons=(reason,))
    unit = np.arange(len(truth)) if groups is None else _codes(groups)
    rows = np.bincount(unit).astype(float)
    n, units = rows.sum(), len(rows)
    quantile = float(special.stdtrit(_effective_groups(rows) - 1, (1 + LEVEL) / 2))
    error = prediction - truth
    intervals: Intervals = {}
    for name, values in (("mae", np.abs(error)), ("rmse", np.square(error))):
        if name == "rmse" and units < MIN_UNITS_RMSE:
            continue
        low, high = _mean_interval(np.bincount(unit, weights=values), rows, quantile)
        intervals[name] = (low, high) if name == "mae" else (float(np.sqrt(low)), float(np.sqrt(high)))
    centred = truth - truth.mean()
    total, squares = np.bincount(unit, weights=centred), np.bincount(unit, weights=np.square(centred))
    missed = np.bincount(unit, weights=np.square(error))
    if missed.sum() > 0 and squares.sum() > 0:
        left = squares.sum() - squares - np.square(total.sum() - total) / (n - rows)
        kept = missed.sum() - missed
        if (left > 0).all() and (kept > 0).all():
            logarithm = float(np.log(missed.sum() / squares.sum()))
            without = np.log(kept / left)
            deviation = _jackknife_deviation(without)
            centre = logarithm - (units - 1) * (without.mean() - logarithm)  # without the bias of first order
            ends = [logarithm, centre - quantile * deviation, centre + quantile * deviation]
            intervals["r2"] = (float(1 - np.exp(max(ends))), float(1 - np.exp(min(ends))))
    reasons = []
    if units < MIN_UNITS_RMSE:
        what = "rows" if groups is None else "groups"
        reasons.append(f"RMSE has no interval: it needs {MIN_UNITS_RMSE} {what}, and here are {units}.")
    over = "rows" if groups is None else f"{units:,} groups"
    return Spread(intervals, f"jackknife intervals over {over}", tuple(reasons))


# Few rows.


def _too_few(n: int, groups: np.ndarray | None) -> str:
    if n < MIN_ROWS:
        rows = "row is" if n == 1 else "rows are"
        return f"No interval is given: {n} {rows} too few (at least {MIN_ROWS})."
    if groups is None:
        return ""
    rows_each = np.bincount(_codes(groups))
    if len(rows_each) < MIN_GROUPS:
        return (
            f"No interval is given: rows of one group depend on one another, and {len(rows_each)} "
            f"{'group is' if len(rows_each) == 1 else 'groups are'} too few (at least {MIN_GROUPS})."
        )
    if _effective_groups(rows_each) < MIN_EFFECTIVE_GROUPS:
        return (
            f"No interval is given: one group holds {rows_each.max() / n:.0%} of the rows, so the others are too few."
        )
    return ""


def _codes(groups: np.ndarray) -> np.ndarray:
    return np.unique(groups, return_inverse=True)[1].ravel()


def _count(groups: np.ndarray) -> int:
    return int(_codes(groups).max()) + 1


def _effective_groups(rows: np.ndarray) -> float:
    """Kish's number of groups: as many of one size would vary as much as these of `rows` rows each."""
    return float(np.square(rows.sum()) / np.square(rows).sum())


# Proportions.


def _wilson(value: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's score interval of proportions of `size` rows, which need not be a whole number."""
    square = QUANTILE**2 / size
    middle = (value + square / 2) / (1 + square)
    half = QUANTILE * np.sqrt(value * (1 - value) / size + square / (4 * size)) / (1 + square)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def _influence(truth: np.ndarray, prediction: np.ndarray, recall: np.ndarray, f1: np.ndarray) -> np.ndarray:
    """Estimate how much each row moves each of `PROPORTIONS`, times N, to first order.

    Returns float64 (4, N). Each of its rows sums to 0.
    """
    n, classes = len(truth), len(f1)
    hit = truth == prediction
    support, predicted = (np.bincount(part, minlength=classes) for part in (truth, prediction))
    weight = _ratio(np.full(classes, n), support + predicted)
    share = support / n
    found = np.empty((4, n))
    found[0] = hit - hit.mean()
    found[1] = (hit - recall[truth]) * (n / ((support > 0).sum() * support[truth]))
    for at, each in ((2, weight / classes), (3, weight * share)):
        found[at] = 2 * hit * each[truth] - (each * f1)[truth] - (each * f1)[prediction]
    found[3] += f1[truth] - f1 @ share
    return found


def _effective_rows(value: np.ndarray, variance: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Rows of which a proportion `value` has that variance; `most` where there is none, and never more."""
    spread = value * (1 - value)
    defined = (variance > 1e-15) & (spread > 1e-15)
    return np.minimum(np.divide(spread, variance, out=most.copy(), where=defined), most)


def _with_groups(
    size: np.ndarray,
    value: np.ndarray,
    influence: np.ndarray,
    most: np.ndarray,
    hit: np.ndarray,
    unit: np.ndarray,
) -> np.ndarray:
    """Effective rows when rows of one group depend on one another; `size` is what they are when they do not.

    Two estimates fail in opposite ways when groups are few. The variance between groups is far too small when no bad
    group was drawn. A beta-binomial model of the hits does not see how classes are spread over groups, or that larger
    groups differ. Their harmonic mean keeps the coverage.
    """
    rows = np.bincount(unit)
    n, effective = len(unit), _effective_groups(rows)
    sums = np.stack([np.bincount(unit, weights=each) for each in influence])
    variance = np.square(sums).sum(axis=1) / n**2 * effective / (effective - 1)
    between = np.where(variance > 1e-15, _effective_rows(value, variance, most), most * effective / n)
    between *= (QUANTILE / special.stdtrit(effective - 1, (1 + LEVEL) / 2)) ** 2
    if len(rows) > MAX_GROUPS_MODELLED:
        return np.minimum(between, size)
    modelled = size * min(1.0, _modelled_rows(rows, np.bincount(unit, weights=hit)) / n)
    return 2 / (1 / between + 1 / modelled)


def _modelled_rows(rows: np.ndarray, hits: np.ndarray) -> float:
    """Estimate the number of independent rows that carry as much information about the accuracy.

    The hits are beta-binomial, with flat priors on the accuracy and on the correlation within groups, integrated
    numerically.

    Both grids are fine where the answer may be narrow: around the accuracy that was seen, and at small correlations.
    """
    seen = (hits.sum() + 0.5) / (rows.sum() + 1)
    narrow = 1 / np.sqrt(rows.sum() * seen * (1 - seen))  # deviation of the log odds if all rows were independent
    widest = np.arcsinh(12 / narrow)
    step = np.linspace(-widest, widest, 121)
    chance = special.expit(special.logit(seen) + narrow * np.sinh(step))
    correlation = special.expit(np.linspace(special.logit(0.01 / rows.max()), 7, 32))
    strength = (1 - correlation) / correlation
    right, wrong = np.outer(chance, strength), np.outer(1 - chance, strength)
    pairs, times = np.unique(np.stack([rows, hits], axis=1), axis=0, return_counts=True)
    likelihood = -len(rows) * special.betaln(right, wrong)
    for (of, hit), count in zip(pairs, times, strict=True):
        likelihood += count * special.betaln(right + hit, wrong + of - hit)
    density = np.exp(likelihood - likelihood.max()) @ (correlation * (1 - correlation))
    density *= chance * (1 - chance) * np.cosh(step)
    density /= density.sum()
    mean = density @ chance
    return float(mean * (1 - mean) / (density @ np.square(chance - mean)))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


# Means.


def _jackknife_deviation(without: np.ndarray) -> float:
    """Return the standard error of a statistic from its values with each of the units left out."""
    return float(np.sqrt((len(without) - 1) * without.var()))


def _mean_interval(sums: np.ndarray, rows: np.ndarray, quantile: float) -> Interval:
    """Return the interval of the mean of positive values, from their sums and numbers in each unit."""
    mean = float(sums.sum() / rows.sum())
    if mean <= 0:
        return mean, mean
    without = np.maximum(sums.sum() - sums, 0) / (rows.sum() - rows)
    ends: list[float] = [mean]
    if (without > 0).all():
        step = quantile * _jackknife_deviation(np.log(without))
        ends += [mean * float(np.exp(-step)), mean * float(np.exp(step))]
    deviation = _jackknife_deviation(without)
    moved = without.mean() - without
    if deviation > 0:
        skew = float((moved**3).mean() / (moved**2).mean() ** 1.5 / np.sqrt(len(rows)))
        ends += [mean - deviation * _hall(skew, quantile), mean - deviation * _hall(skew, -quantile)]
    return max(min(ends), 0.0), max(ends)


def _hall(skew: float, quantile: float) -> float:
    """Inverse of Hall's transformation of a studentised mean; `skew` is the skewness over the root of the number."""
    if abs(skew) < 1e-6:
        return quantile
    return float(3 / skew * (np.cbrt(1 + skew * (quantile - skew / 6)) - 1))
