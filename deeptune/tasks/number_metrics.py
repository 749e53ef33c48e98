"""The metrics of numbers in `spec.metrics`, equal to scikit-learn's values, and the influence of each row on them.

The influence of a row is N times the first-order change of the metric when the row is counted once more (Hampel 1974).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deeptune.tasks.metric_functions import computed, ranks, require_finite


class NumberScores:
    """N predicted numbers, and what the metrics of numbers have in common.

    truth, prediction: float64 (N,) in the label's own unit. `notes` collects why a metric is not defined.
    """

    def __init__(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        self.truth, self.prediction, self.error = truth, prediction, prediction - truth
        self.truth_varies = len(truth) > 0 and bool(np.ptp(truth) > 0)
        self.prediction_varies = len(truth) > 0 and bool(np.ptp(prediction) > 0)
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.truth)


def number_metrics(truth: np.ndarray, prediction: np.ndarray, task: str = "regression") -> dict[str, Any]:
    """Return the metrics of N numbers by the row of a task, ready for JSON.

    truth, prediction: float (N,) in the label's own unit. R² is None when the truth does not vary,
    Spearman when either does not. Raises TrainingError when a prediction is not a finite number.
    """
    truth = np.asarray(truth, dtype=np.float64)
    prediction = np.asarray(prediction, dtype=np.float64)
    if truth.shape != prediction.shape or truth.ndim != 1:
        raise ValueError(f"expected two vectors of one length, got {truth.shape} and {prediction.shape}")
    require_finite(prediction)
    scored = NumberScores(truth, prediction)
    return computed(task, scored) | {"n": len(truth), "notes": scored.notes}


def mae(scored: NumberScores) -> float:
    """Return the mean absolute error."""
    return float(np.abs(scored.error).mean())


def mae_influence(scored: NumberScores) -> np.ndarray:
    """Return the influence of each row on the mean absolute error."""
    return centred(np.abs(scored.error))


def rmse(scored: NumberScores) -> float:
    """Return the root of the mean squared error."""
    return float(np.sqrt(np.square(scored.error).mean()))


def rmse_influence(scored: NumberScores) -> np.ndarray:
    """Return the influence of each row on the root of the mean squared error."""
    root = rmse(scored)
    return centred(np.square(scored.error)) / (2 * root) if root else np.zeros(len(scored))


def r2(scored: NumberScores) -> float | None:
    """Return the coefficient of determination."""
    if not scored.truth_varies:
        scored.notes.append("r2 is not defined: the truth is one and the same number in every row")
        return None
    deviation = scored.truth - scored.truth.mean()
    return float(1 - np.square(scored.error).sum() / np.square(deviation).sum())


def r2_influence(scored: NumberScores) -> np.ndarray:
    """Return the influence of each row on the coefficient of determination."""
    squared, spread = np.square(scored.error), np.square(scored.truth - scored.truth.mean())
    return (squared.sum() / spread.sum() * spread - squared) / spread.mean()


def spearman(scored: NumberScores) -> float | None:
    """Return Spearman's rank correlation; ties have their mean rank."""
    if scored.truth_varies and scored.prediction_varies:
        return float(np.corrcoef(ranks(scored.truth), ranks(scored.prediction))[0, 1])
    what = "prediction" if scored.truth_varies else "truth"
    scored.notes.append(f"spearman is not defined: the {what} is one and the same number in every row")
    return None


def spearman_influence(scored: NumberScores) -> np.ndarray:
    """Return the influence of each row on Spearman's rank correlation."""
    n = len(scored)
    left, right = (ranks(part) / n for part in (scored.truth, scored.prediction))
    left, right = left - left.mean(), right - right.mean()
    together, first, second = (left * right).mean(), np.square(left).mean(), np.square(right).mean()
    value = together / np.sqrt(first * second)
    both = left * right - together + _mean_above(scored.truth, right) + _mean_above(scored.prediction, left)
    of_first = np.square(left) - first + 2 * _mean_above(scored.truth, left)
    of_second = np.square(right) - second + 2 * _mean_above(scored.prediction, right)
    return both / np.sqrt(first * second) - value / 2 * (of_first / first + of_second / second)


def _mean_above(order: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum `values` over the rows that are above each row in `order`, over N, less its mean; ties count half."""
    _, place = np.unique(order, return_inverse=True)
    sums = np.bincount(place, weights=values)
    above = sums.sum() - np.cumsum(sums) + sums / 2
    return centred(above[place] / len(values))


def centred(values: np.ndarray) -> np.ndarray:
    """Return values less their mean: the influence of each row on that mean."""
    return values - values.mean()
