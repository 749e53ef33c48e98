"""How sure a test metric is, and what it has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeptune.data.labels import ClassLabels
from deeptune.engine.metrics import classification_metrics, regression_metrics

RESAMPLES = 1000
LEVEL = 0.95

Intervals = dict[str, tuple[float, float]]


def classification_intervals(truth: np.ndarray, prediction: np.ndarray, classes: int, *, seed: int) -> Intervals:
    """95% percentile bootstrap intervals (Efron & Tibshirani 1993) of accuracy, balanced accuracy and both F1.

    truth, prediction: int64 (N,) class indices. To draw N rows with replacement is to draw the counts of the
    confusion matrix from a multinomial distribution, which is what happens here: the cost does not grow with N.
    """
    n = len(truth)
    cells, counts = np.unique(truth * classes + prediction, return_counts=True)
    true_class, predicted_class = np.divmod(cells, classes)
    hit = true_class == predicted_class
    rng = np.random.default_rng(seed)
    scores = np.empty((RESAMPLES, 4))
    for index in range(RESAMPLES):
        drawn = rng.multinomial(n, counts / n)
        support = np.bincount(true_class, weights=drawn, minlength=classes)
        predicted = np.bincount(predicted_class, weights=drawn, minlength=classes)
        hits = np.bincount(true_class[hit], weights=drawn[hit], minlength=classes)
        f1 = np.divide(2 * hits, support + predicted, out=np.zeros(classes), where=support + predicted > 0)
        seen = support > 0
        scores[index] = hits.sum() / n, (hits[seen] / support[seen]).mean(), f1.mean(), f1 @ support / n
    return _percentiles(("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1"), scores)


def regression_intervals(truth: np.ndarray, prediction: np.ndarray, *, seed: int) -> Intervals:
    """95% percentile bootstrap intervals of MAE, RMSE and R². truth, prediction: float64 (N,), N > 1."""
    n = len(truth)
    error = prediction - truth
    absolute, squared = np.abs(error), np.square(error)
    rng = np.random.default_rng(seed)
    scores = np.full((RESAMPLES, 3), np.nan)
    for index in range(RESAMPLES):
        rows = rng.integers(0, n, size=n)
        mean_squared = squared[rows].mean()
        variance = truth[rows].var()
        r2 = 1 - mean_squared / variance if variance > 0 else np.nan
        scores[index] = absolute[rows].mean(), np.sqrt(mean_squared), r2
    return _percentiles(("mae", "rmse", "r2"), scores)


def _percentiles(names: tuple[str, ...], scores: np.ndarray) -> Intervals:
    tail = 100 * (1 - LEVEL) / 2
    intervals = {}
    for name, column in zip(names, scores.T, strict=True):
        defined = column[np.isfinite(column)]
        if len(defined):
            low, high = np.percentile(defined, [tail, 100 - tail])
            intervals[name] = (float(low), float(high))
    return intervals


def classification_baseline(
    truth: np.ndarray, train_targets: np.ndarray, labels: ClassLabels
) -> tuple[dict[str, Any], int]:
    """Metrics on `truth` of predicting train's class frequencies for every row, and the class that this predicts.

    The same as scikit-learn's DummyClassifier(strategy="prior").
    """
    frequency = np.bincount(train_targets, minlength=len(labels)) / len(train_targets)
    everywhere = np.tile(frequency, (len(truth), 1))
    return classification_metrics(truth, everywhere, labels), int(frequency.argmax())


def regression_baseline(truth: np.ndarray, train_targets: np.ndarray) -> tuple[dict[str, Any], float]:
    """Metrics on `truth` of predicting train's mean for every row, and that mean."""
    mean = float(train_targets.mean())
    return regression_metrics(truth, np.full(len(truth), mean)), mean
