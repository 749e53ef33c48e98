"""Compute an interval: Wilson's with effective rows, the jackknife, Fisher's z, and that of calibration errors."""

from __future__ import annotations

import numpy as np
from scipy import special

from deeptune.report.influence import Estimate, calibration_bin, effective_units, variance
from deeptune.tasks.metric_functions import ECE_BINS

LEVEL = 0.95
MAX_GROUPS_MODELLED = 500  # with more, the variance between groups is known well enough by itself
QUANTILE = float(special.ndtri((1 + LEVEL) / 2))

Interval = tuple[float, float]


def student(freedom: float) -> float:
    """Return the quantile of Student's t for a two-sided interval."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


# Metrics with a lowest and a highest value.


def wilson(value: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Wilson's score interval of proportions of `size` rows, which need not be a whole number."""
    square = QUANTILE**2 / size
    middle = (value + square / 2) / (1 + square)
    half = QUANTILE * np.sqrt(value * (1 - value) / size + square / (4 * size)) / (1 + square)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def effective_rows(value: np.ndarray, variance: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Count the rows of which a proportion `value` has that variance.

    limit: float64 (2, K), the count where there is no variance, and the most that is believed.
    """
    spread = value * (1 - value)
    defined = (variance > 1e-15) & (spread > 1e-15)
    return np.minimum(np.divide(spread, variance, out=limit[0].copy(), where=defined), limit[1])


def with_groups(
    size: np.ndarray,
    value: np.ndarray,
    influence: np.ndarray,
    limit: np.ndarray,
    hit: np.ndarray,
    unit: np.ndarray,
) -> np.ndarray:
    """Return the effective rows when rows of one group depend on one another; `size` is what they are when they do not.

    Two estimates fail in opposite ways when groups are few. The variance between groups is far too small when no bad
    group was drawn. A beta-binomial model of the hits does not see how classes are spread over groups, or that larger
    groups differ. Their harmonic mean keeps the coverage.
    """
    rows = np.bincount(unit)
    n, effective = len(unit), effective_units(rows)
    sums = np.stack([np.bincount(unit, weights=each) for each in influence])
    variance = np.square(sums).sum(axis=1) / n**2 * effective / (effective - 1)
    between = np.where(variance > 1e-15, effective_rows(value, variance, limit), limit[0] * effective / n)
    between *= (QUANTILE / student(effective - 1)) ** 2
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


# Means, and what is computed of them.


def jackknife_deviation(without: np.ndarray) -> float:
    """Return the standard error of a statistic from its values with each of the units left out."""
    return float(np.sqrt((len(without) - 1) * without.var()))


def positive_interval(value: float, without: np.ndarray, quantile: float) -> Interval:
    """Return the interval of a positive statistic, from its values with each of the units left out.

    It is Student's t on the logarithm, and the transformation for skewed values of Hall (1992); the wider end counts.
    """
    if value <= 0:
        return value, value
    ends: list[float] = [value]
    if (without > 0).all():
        step = quantile * jackknife_deviation(np.log(without))
        ends += [value * float(np.exp(-step)), value * float(np.exp(step))]
    deviation = jackknife_deviation(without)
    moved = without.mean() - without
    if deviation > 0:
        skew = float((moved**3).mean() / (moved**2).mean() ** 1.5 / np.sqrt(len(without)))
        ends += [value - deviation * _hall(skew, quantile), value - deviation * _hall(skew, -quantile)]
    return max(min(ends), 0.0), max(ends)


def mean_interval(values: np.ndarray, unit: np.ndarray) -> Interval:
    """Return the interval of the mean of positive values: float64 (N,); `unit` numbers the independent unit of each."""
    rows, sums = np.bincount(unit).astype(float), np.bincount(unit, weights=values)
    without = np.maximum(sums.sum() - sums, 0) / (rows.sum() - rows)
    return positive_interval(float(values.mean()), without, student(effective_units(rows) - 1))


def distance_interval(estimate: Estimate, best: float, unit: np.ndarray) -> Interval:
    """Return the jackknife interval of a metric by its distance from the best value, as MAE and R² have theirs.

    The values with each of the units left out are linearised: for a mean they are exact. Errors, whose best value is 0,
    have that of `positive_interval`; others, which are ratios, Student's t on the logarithm of the distance.
    """
    rows = np.bincount(unit)
    without = estimate.value - np.bincount(unit, weights=estimate.influence) / (len(unit) - rows)
    quantile = student(effective_units(rows) - 1)
    if best == 0:
        return positive_interval(estimate.value, without, quantile)
    distance, others = best - estimate.value, best - without
    if distance <= 0 or (others <= 0).any():
        return estimate.value, estimate.value
    step = quantile * jackknife_deviation(np.log(others))
    return best - distance * float(np.exp(step)), best - distance * float(np.exp(-step))


def _hall(skew: float, quantile: float) -> float:
    """Return the inverse of Hall's transformation of a studentised mean.

    `skew` is the skewness over the root of the number.
    """
    if abs(skew) < 1e-6:
        return quantile
    return float(3 / skew * (np.cbrt(1 + skew * (quantile - skew / 6)) - 1))


# Correlations of ranks, and calibration errors.


def fisher_interval(estimate: Estimate, unit: np.ndarray) -> Interval:
    """Return the interval of a correlation by the transformation of Fisher (1915), for ranks as for numbers."""
    spread, freedom = variance(estimate.influence, unit)
    room = 1 - estimate.value**2
    if room <= 1e-12:
        return estimate.value, estimate.value
    centre, step = np.arctanh(estimate.value), student(freedom) * np.sqrt(spread) / room
    return float(np.tanh(centre - step)), float(np.tanh(centre + step))


def calibration_interval(estimate: Estimate, confidence: np.ndarray, correct: np.ndarray, unit: np.ndarray) -> Interval:
    """Return the interval of an expected calibration error.

    Chance alone makes each bin differ from its confidence, so that the error of few rows is too large. The lower end
    allows for that: it lies below by the largest mean that chance can have, as if every bin were right.
    """
    n, step = len(confidence), QUANTILE * np.sqrt(variance(estimate.influence, unit)[0])
    cell = unit * ECE_BINS + calibration_bin(confidence)
    gaps = np.bincount(cell, weights=correct - confidence, minlength=(unit.max() + 1) * ECE_BINS).reshape(-1, ECE_BINS)
    rows = np.bincount(cell, minlength=gaps.size).reshape(gaps.shape)
    mean = gaps.sum(axis=0) / np.maximum(rows.sum(axis=0), 1)
    seen = np.square(gaps - rows * mean).sum(axis=0)
    expected = np.bincount(calibration_bin(confidence), weights=confidence * (1 - confidence), minlength=ECE_BINS)
    by_chance = np.sqrt(np.maximum(seen, expected)).sum() / n * np.sqrt(2 / np.pi)
    return max(0.0, float(estimate.value - step - by_chance)), min(1.0, float(estimate.value + step))
