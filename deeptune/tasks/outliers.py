"""Labels of a regression that lie far outside the others: most often a slip of the pen, or a code for "missing"."""

from __future__ import annotations

import numpy as np

FAR = 10.0  # robust z-scores beyond which a label is far outside
MIN_SHARE = 0.2  # share of the squared deviations below which far labels hardly change what is learned
MAX_VALUES = 0.01  # different far values, as a share of the labels, above which they are a long tail
MAX_ROWS = 0.1  # share of far labels above which they are a second kind of label
_NORMAL_MAD = 1.4826  # σ ÷ MAD, and σ ÷ mean absolute deviation, of a normal distribution
_NORMAL_MEAN_DEVIATION = 1.2533


def outliers(targets: np.ndarray) -> np.ndarray:
    """Find which targets (float64 (N,)) lie far outside the others (bool (N,)).

    By the robust z-score of Iglewicz & Hoaglin 1993: the distance from the median in units of the median absolute
    deviation (MAD). Targets without a sign whose logarithms are less skewed are also compared as logarithms, so that
    prices and counts have no outliers for being skewed.
    """
    none = np.zeros(len(targets), bool)
    if len(targets) < 3:
        return none
    z = _robust_z(targets)
    if targets.min() >= 0 and (scale := _scale(targets)) > 0:
        logs = np.log(targets + scale)
        if _skew(logs) <= _skew(targets):
            z = np.minimum(z, _robust_z(logs))
    far = z > FAR
    if not far.any() or far.mean() > MAX_ROWS or len(np.unique(targets[far])) > max(3, MAX_VALUES * len(targets)):
        return none
    deviations = np.abs(targets - np.median(targets))
    squares = np.square(deviations / deviations.max())
    return far if squares[far].sum() >= MIN_SHARE * squares.sum() else none


def _robust_z(values: np.ndarray) -> np.ndarray:
    scale = _scale(values)
    return np.abs(values - np.median(values)) / scale if scale > 0 else np.zeros(len(values))


def _scale(values: np.ndarray) -> float:
    """Return the spread that outliers do not change.

    Where half of the values are the same, that of the others counts.
    """
    deviations = np.abs(values - np.median(values))
    if (mad := float(np.median(deviations))) > 0:
        return _NORMAL_MAD * mad
    others = deviations[deviations > 0]
    if len(others) < 0.01 * len(values):  # almost all are the same: whatever differs stands out
        return _NORMAL_MEAN_DEVIATION * float(deviations.mean())
    return _NORMAL_MAD * float(np.median(others))


def _skew(values: np.ndarray) -> float:
    """Return Kelly's measure of skewness without its sign: 0 for symmetric, 1 at the most."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return float(abs(high + low - 2 * middle) / (high - low)) if high > low else 1.0
